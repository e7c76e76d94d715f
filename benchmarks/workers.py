"""Run the contenders of a benchmark in their own processes, one at a time.

Waiting threads of one contender then do not slow down another, and the peak memory is that of one contender.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from measuring import shuffled_rounds

# Threads of OpenMP spin for some milliseconds after their work.
_PAUSE = 0.05
_CLOSING_SECONDS = 10.0


class Worker:
    """An object in its own process."""

    def __init__(self, make: Callable[[], object]) -> None:
        """Start the process.

        Args:
            make: Creates the object, in that process.
        """
        spawning = multiprocessing.get_context("spawn")
        self._pipe, childs_end = spawning.Pipe()
        self._process = spawning.Process(target=_serve, args=(childs_end, make), daemon=True)
        self._process.start()
        childs_end.close()
        self._ready = False

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method and return its result.

        Raises:
            RuntimeError: The method failed.
        """
        if not self._ready:
            self._answer()
            self._ready = True
        self._pipe.send((method, arguments))
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(_CLOSING_SECONDS)
        self._process.kill()

    def _answer(self) -> Any:
        result, error = self._pipe.recv()
        if error:
            raise RuntimeError(f"a contender failed:\n{error}")
        return result


class Team:
    """The contenders. Each is started when it is used for the first time."""

    def __init__(self, makers: Mapping[str, Callable[[], object]]) -> None:
        self._makers = makers
        self._workers: dict[str, Worker] = {}

    def start(self, names: Iterable[str]) -> None:
        """Start the processes of several contenders at once."""
        for name in names:
            if name not in self._workers:
                self._workers[name] = Worker(self._makers[name])

    def ask(self, name: str, method: str, *arguments: Any) -> Any:
        """Call a method of a contender."""
        self.start([name])
        return self._workers[name].ask(method, *arguments)

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()


@contextlib.contextmanager
def team(makers: Mapping[str, Callable[[], object]]) -> Iterator[Team]:
    """Provide the contenders, and end their processes at the end.

    Args:
        makers: Constructors of the contenders, by name; called in their processes.
    """
    members = Team(makers)
    try:
        yield members
    finally:
        members.close()


def in_turns(
    calls: Mapping[str, Callable[..., Any]], rounds: Iterable[Sequence[Any]], order: random.Random, *, warm_up: int = 1
) -> dict[str, list[Any]]:
    """Make the same calls in every round, in random order.

    Args:
        calls: The calls, by name.
        rounds: The arguments of each round, the same for all calls.
        order: Random numbers for the order.
        warm_up: Number of rounds at the beginning whose results are discarded.

    Returns:
        The results of each call, one per round.
    """
    results: dict[str, list[Any]] = {name: [] for name in calls}
    for name, arguments in shuffled_rounds(calls, rounds, order):
        time.sleep(_PAUSE)
        results[name].append(calls[name](*arguments))
    return {name: of_one[warm_up:] for name, of_one in results.items()}


def _serve(pipe: Connection, make: Callable[[], object]) -> None:
    # Libraries print to stdout, such as cn_clip when it loads a model; these lines would appear between the tables.
    with contextlib.suppress(EOFError), Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        made, error = _outcome(make)
        pipe.send((None, error))
        while not error:
            method, arguments = pipe.recv()
            pipe.send(_outcome(partial(getattr(made, method), *arguments)))


def _outcome(call: Callable[[], object]) -> tuple[object, str]:
    try:
        return call(), ""
    except Exception:
        return None, traceback.format_exc()
