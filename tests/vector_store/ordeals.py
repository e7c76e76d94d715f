"""Stress programs for a store: writers are killed, and several processes share a store.

The tests run this file as a program (``main``), and ``benchmarks/durability.py`` imports it. Every process is forked
from one that has imported all modules and opened no store, so that a round takes milliseconds, not an import of
LlamaIndex.
"""

from __future__ import annotations

import itertools
import json
import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import faiss  # noqa: F401  Imported before forking: children start faster, and one of them may not read its files.
from states import (
    DOCUMENT,
    NUMBERS,
    QUERIES,
    Call,
    State,
    by_listing,
    by_vector,
    by_words,
    node_of,
    random_call,
    state_in,
)

from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore, StoreError

_CHILDREN_NUMBER = 10_000
_NOBODY = 65534
_FORK: Any = multiprocessing.get_context("fork" if hasattr(os, "fork") else None)


# Processes


def start(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """Call a function in a new process.

    Returns:
        A function that waits for the result and returns it.
    """
    receiver, sender = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=lambda: sender.send(function(*arguments)), daemon=True)
    process.start()
    sender.close()

    def wait() -> Any:
        try:
            return receiver.recv()
        except EOFError:
            process.join()
            raise RuntimeError(f"{function.__name__} failed with exit code {process.exitcode}") from None

    return wait


class Warnings(logging.Handler):
    """Counts logged warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Count a warning."""
        self.count += 1


# Kills


def kills(folder: Path, amount: int, seed: int = 0) -> dict[str, int]:
    """Kill writers of a store at random moments, and check each time that it holds exactly what was acknowledged.

    A call that was interrupted may have been committed, but only as a whole.
    """
    random = Random(seed)
    store, log = folder / "store", folder / "calls"
    state = State()
    done = Counter(kills=0, calls=0, calls_cut_off=0, of_these_committed=0, warnings=0)
    for round_ in range(amount):
        _kill_a_writer(store, log, random, first_revision=round_ * 10_000)
        calls, cut_off = _read_log(log)
        for call in calls:
            state = call.after(state)
        # In half of the rounds, the next writer finds files that were not closed.
        seen, warnings = start(_state_and_warnings, store, random.random() < 0.5)()
        if cut_off is not None and seen == cut_off.after(state) != state:
            done["of_these_committed"] += 1
            state = seen
        assert seen == state, f"round {round_}, with {cut_off} interrupted: {_differences(seen, state)}"
        done.update(kills=1, calls=len(calls), calls_cut_off=cut_off is not None, warnings=warnings)
    return {**done, "nodes": len(state)}


def kills_among_forks(folder: Path, amount: int, seed: int = 0) -> dict[str, int]:
    """Kill two writers of a store at random moments, one of which forks children that open the store again.

    The children must get an error, because changes that were acknowledged to them would be lost. The other writer has
    inherited no open store, like a spawned process. Each writer has node numbers of its own.
    """
    random = Random(seed)
    store = folder / "store"
    state = State()
    done = Counter(kills=0, calls=0, calls_cut_off=0, of_these_committed=0, forks=0, warnings=0)
    for round_ in range(amount):
        logs = [folder / f"calls {share}" for share in range(2)]
        together = [
            _start_writer(store, log, random, round_ * 10_000, share, forks=share == 0)
            for share, log in enumerate(logs)
        ]
        for writer, log in zip(together, logs, strict=True):
            _kill(writer, log, random)
        seen, warnings = start(_state_and_warnings, store, random.random() < 0.5)()
        for share, log in enumerate(logs):
            calls, cut_off = _read_log(log)
            for call in calls:
                state = call.after(state)
            if cut_off is not None and _of_share(seen, share) == _of_share(cut_off.after(state), share):
                done["of_these_committed"] += cut_off.after(state) != state
                state = cut_off.after(state)
            done.update(kills=1, calls=len(calls), calls_cut_off=cut_off is not None)
            done["forks"] += log.read_bytes().count(b"refused\n")
        assert seen == state, f"round {round_}: {_differences(seen, state)}"
        done.update(warnings=warnings)
    return {**done, "nodes": len(state)}


def _of_share(state: State, share: int) -> State:
    return {number: revision for number, revision in state.items() if number // NUMBERS == share}


def _kill_a_writer(store: Path, log: Path, random: Random, first_revision: int) -> None:
    _kill(_start_writer(store, log, random, first_revision), log, random)


def _start_writer(
    store: Path, log: Path, random: Random, first_revision: int, share: int | None = None, forks: bool = False
) -> Any:
    log.write_bytes(b"")
    arguments = (store, log, random.random(), first_revision, share, forks)
    writer = _FORK.Process(target=_write_until_killed, args=arguments, daemon=True)
    writer.start()
    return writer


def _kill(writer: Any, log: Path, random: Random) -> None:
    # Some writers are killed while they open the store.
    lines = random.choice([0, *range(1, 30)])
    while log.read_bytes().count(b"\n") < lines and writer.is_alive():
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.02))
    writer.kill()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL, f"the writer ended by itself, with exit code {writer.exitcode}"


def _write_until_killed(
    folder: Path, log: Path, seed: float, first_revision: int, share: int | None, forks: bool
) -> None:
    random = Random(seed)
    store = FaissMultiModalVectorStore(folder)
    with log.open("ab", buffering=0) as lines:
        for revision in itertools.count(first_revision):
            call = random_call(random, revision, share)
            lines.write(json.dumps(call).encode() + b"\n")
            call.perform(store)
            lines.write(b"done\n")
            if forks and random.random() < 0.3:
                _fork_and_open(folder)
                lines.write(b"refused\n")


def _fork_and_open(folder: Path) -> None:
    """Fork a child that opens a store that this process has open, adds a node, and exits without closing it."""
    child = os.fork()
    if not child:
        try:
            with FaissMultiModalVectorStore(folder) as store:
                store.add([node_of(_CHILDREN_NUMBER, 0)])
        except StoreError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, "a child opened a file that was open at the fork"


def _read_log(log: Path) -> tuple[list[Call], Call | None]:
    """Return the calls that returned, and the one that did not."""
    # The last line may be cut off: then its call had not begun, or it is unknown whether it returned.
    lines = log.read_text().split("\n")[:-1]
    calls = [Call(*json.loads(line)) for line in lines if line not in ("done", "refused")]
    returned = lines.count("done")
    return calls[:returned], calls[returned] if returned < len(calls) else None


def _state_and_warnings(folder: Path, close: bool = True) -> tuple[State, int]:
    warnings = Warnings()
    return state_in(folder, close), warnings.count


def _differences(seen: State, state: State) -> dict[int, tuple[int | None, int | None]]:
    """Return actual and expected revisions of the nodes for which they differ."""
    numbers = sorted(seen.keys() | state.keys())
    return {n: (seen.get(n), state.get(n)) for n in numbers if seen.get(n) != state.get(n)}


# One writer and several readers


def overwriting(folder: Path, seconds: float) -> dict[str, Any]:
    """Share a store in which each call replaces every node."""
    return _share(folder, seconds, _overwrite)


def sliding(folder: Path, seconds: float) -> dict[str, Any]:
    """Share a store to which documents are added and from which older ones are deleted."""
    return _share(folder, seconds, _slide)


def _overwrite(step: int) -> Call:
    return Call("add", step, list(range(50)))


def _slide(step: int) -> Call:
    document = step // 2
    if step % 2:
        return Call("add", step, list(range(document * DOCUMENT, (document + 1) * DOCUMENT)))
    if document % 2:
        return Call("delete", numbers=[document - 5])
    return Call("delete_nodes", numbers=list(range((document - 5) * DOCUMENT, (document - 4) * DOCUMENT)))


def _share(folder: Path, seconds: float, calls: Callable[[int], Call]) -> dict[str, Any]:
    """Run one process that writes and three that read all the time.

    Every answer must be a committed state, not older than the last answer to the same reader, and not older than the
    last change that was acknowledged before the query.
    """
    acknowledged, finished = _FORK.RawValue("q", 0), _FORK.RawValue("b", False)
    start(state_in, folder)()
    readers = [start(_read, folder, calls, acknowledged, finished) for _ in range(3)]
    try:
        steps = start(_write, folder, calls, acknowledged, seconds)()
    finally:
        finished.value = True
    reads, warnings = zip(*(wait() for wait in readers), strict=True)
    return {"seconds": seconds, "steps": steps, "reads": reads, "warnings": sum(warnings)}


def _write(folder: Path, calls: Callable[[int], Call], acknowledged: Any, seconds: float) -> int:
    end = time.monotonic() + seconds
    with FaissMultiModalVectorStore(folder) as store:
        for step in itertools.count(1):
            calls(step).perform(store)
            acknowledged.value = step
            if step % 10 == 0:
                store.persist()
            if step >= 20 and time.monotonic() > end:
                return step
    raise AssertionError("unreachable")


def _read(folder: Path, calls: Callable[[int], Call], acknowledged: Any, finished: Any) -> tuple[int, int]:
    warnings = Warnings()
    step, state = 0, State()
    for reads in itertools.count():
        if reads % 100 == 0:
            store = FaissMultiModalVectorStore(folder)
        last, floor = finished.value, acknowledged.value
        seen = QUERIES[reads % len(QUERIES)](store)
        # A call may be committed but not acknowledged yet.
        while step < floor or (state != seen and step <= acknowledged.value):
            step += 1
            state = calls(step).after(state)
        assert seen == state, f"no state from step {floor} to {step}: {_differences(seen, state)}"
        if last and reads >= len(QUERIES):
            return reads, warnings.count
    raise AssertionError("unreachable")


# Several writers


def writers(folder: Path, amount: int) -> dict[str, int]:
    """Run two processes that change a store at the same time, with ``amount`` calls each."""
    start(state_in, folder)()
    together = _FORK.Barrier(2)
    working = [start(_change, folder, amount, first, together) for first in (0, 100_000)]
    one, other = (wait() for wait in working)
    seen, warnings = start(_state_and_warnings, folder)()
    assert seen == one | other, _differences(seen, one | other)
    return {"calls": amount, "nodes": len(seen), "warnings": warnings}


def _change(folder: Path, amount: int, first: int, together: Any) -> State:
    state = State()
    together.wait()
    with FaissMultiModalVectorStore(folder) as store:
        for step in range(1, amount + 1):
            call = Call("add", step, [first + step]) if step % 5 else Call("delete_nodes", numbers=[first + step - 2])
            call.perform(store)
            state = call.after(state)
            if step % 10 == 0:
                store.persist()
    return state


def openings(folder: Path, amount: int) -> dict[str, int]:
    """Run three processes that create the same store at the same time; repeat that ``amount`` times."""
    for round_ in range(amount):
        together = _FORK.Barrier(3)
        opening = [start(_open_and_add, folder / str(round_), number, together) for number in range(3)]
        for wait in opening:
            wait()
        assert start(state_in, folder / str(round_))() == dict.fromkeys(range(3), 0)
    return {"openings": amount}


def _open_and_add(folder: Path, number: int, together: Any) -> None:
    together.wait()
    with FaissMultiModalVectorStore(folder) as store:
        store.add([node_of(number, 0)])


# Files that may only be read


def forbidden(folder: Path) -> dict[str, tuple[int, str | None]]:
    """Open, search and add to each store in a folder, and to a missing one, as a user who may only read.

    Returns:
        Number of nodes found and the error, by the name of the store's folder.
    """
    return start(_try_to_add, folder)()


def _try_to_add(folder: Path) -> dict[str, tuple[int, str | None]]:
    if os.getuid() == 0:
        # Permissions do not apply to root.
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    return {store.name: _found_and_refused(store) for store in [*folder.iterdir(), folder / "missing"]}


def _found_and_refused(folder: Path) -> tuple[int, str | None]:
    found = 0
    try:
        with FaissMultiModalVectorStore(folder) as store:
            found = len(by_listing(store))
            assert by_vector(store) == by_words(store) == by_listing(store)
            store.persist()
            store.add([node_of(1, 1)])
    except Exception as error:
        return found, f"{type(error).__name__}: {error}"
    return found, None


PROGRAMS: dict[str, Callable[..., dict[str, Any]]] = {
    program.__name__: program
    for program in (kills, kills_among_forks, overwriting, sliding, writers, openings, forbidden)
}


def main() -> None:
    """Run a program for every line of input, a JSON list of its name and arguments, and print its result as JSON."""
    answers = os.fdopen(os.dup(1), "w")
    # Other output, also that of libraries in C, must not be mixed with the results.
    os.dup2(2, 1)
    for line in sys.stdin:
        name, folder, *arguments = json.loads(line)
        try:
            done = PROGRAMS[name](Path(folder), *arguments)
        except Exception as error:
            traceback.print_exc()
            done = {"failed": str(error)}
        print(json.dumps(done), file=answers, flush=True)


if __name__ == "__main__":
    main()
