"""What a store has to live through: writers that get killed, and processes that share it.

The tests run this file as a program (``main``), ``benchmarks/durability.py`` imports it. Every process is forked from
one that has imported everything and opened no store, so that a round costs milliseconds, not an import of LlamaIndex.

All that a node holds follows from two numbers: which node it is, and the call that last added it (its revision). So a
dictionary of these says what a store must answer, whatever way it is asked.
"""

from __future__ import annotations

import itertools
import json
import logging
import multiprocessing
import os
import signal
import sqlite3
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import faiss  # noqa: F401  imported here, so that no child pays for it, nor one who may not read the interpreter
import numpy as np
import numpy.testing
import numpy.typing as npt
from llama_index.core.schema import BaseNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore, StoreError

State = dict[int, int]
"""Revision by number of every node of a store."""

_NUMBERS = 300
_DOCUMENT = 10
_WORD = "飞机"
_QUERY = np.linspace(1, 2, 8, dtype=np.float32)
_ALL = 10_000
_NOBODY = 65534
_FORK: Any = multiprocessing.get_context("fork" if hasattr(os, "fork") else None)


# Nodes, and what is seen of them


def vector_of(number: int, revision: int) -> npt.NDArray[np.float32]:
    """Return a vector that no other node and no other revision has."""
    return np.cos(np.arange(1, 9) * (number + 1) + revision).astype(np.float32)


def node_of(number: int, revision: int) -> TextNode:
    """Return the node, whole."""
    return TextNode(
        id_=f"n{number}",
        text=f"{_WORD} r{revision} 第{number}张",
        embedding=vector_of(number, revision).tolist(),
        metadata={"number": number, "revision": revision},
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"d{number // _DOCUMENT}")},
    )


@lru_cache(maxsize=10_000)
def _fields(number: int, revision: int) -> dict[str, Any]:
    return node_of(number, revision).model_dump(exclude={"embedding"})


def state_of(nodes: list[BaseNode]) -> State:
    """Return what these nodes are, having checked that each is whole and none comes twice."""
    for node in nodes:
        whole = _fields(node.metadata["number"], node.metadata["revision"])
        assert node.model_dump(exclude={"embedding"}) == whole
    state = {node.metadata["number"]: node.metadata["revision"] for node in nodes}
    assert len(state) == len(nodes), "a node came twice"
    return state


def by_listing(store: FaissMultiModalVectorStore) -> State:
    """See every node by ``get_nodes``."""
    return state_of(store.get_nodes())


def by_vector(store: FaissMultiModalVectorStore, **restrictions: Any) -> State:
    """See every node by its vector, and check all the scores."""
    result = store.query(VectorStoreQuery(query_embedding=_QUERY.tolist(), similarity_top_k=_ALL, **restrictions))
    state = state_of(list(result.nodes or []))
    assert result.similarities == sorted(result.similarities or [], reverse=True)
    products = [float(_QUERY @ vector_of(*node)) for node in state.items()]
    numpy.testing.assert_allclose(result.similarities or [], products, rtol=1e-4, atol=1e-4)
    return state


def by_filter(store: FaissMultiModalVectorStore) -> State:
    """See every node by its vector, among those with a number."""
    numbered = MetadataFilter(key="number", value=0, operator=FilterOperator.GTE)
    return by_vector(store, filters=MetadataFilters(filters=[numbered]))


def by_words(store: FaissMultiModalVectorStore, words: str = _WORD) -> State:
    """See the nodes whose text holds a word; all hold one."""
    query = VectorStoreQuery(query_str=words, similarity_top_k=_ALL, mode=VectorStoreQueryMode.TEXT_SEARCH)
    return state_of(list(store.query(query).nodes or []))


def by_both(store: FaissMultiModalVectorStore) -> State:
    """See every node by vector and word at once."""
    query = VectorStoreQuery(
        query_embedding=_QUERY.tolist(), query_str=_WORD, similarity_top_k=_ALL, mode=VectorStoreQueryMode.HYBRID
    )
    return state_of(list(store.query(query).nodes or []))


Way = Callable[[FaissMultiModalVectorStore], State]
WAYS: list[Way] = [by_vector, by_listing, by_filter, by_words, by_both]


_never_closed: list[FaissMultiModalVectorStore] = []


def look(folder: Path, close: bool = True) -> State:
    """Open a store and see what it holds, having checked that every way to ask gives the same."""
    store = FaissMultiModalVectorStore(folder)
    state = by_listing(store)
    for way in WAYS:
        assert way(store) == state, f"{way.__name__} and by_listing do not see the same"
    assert store.count() == len(state)
    for revision in set(state.values()):
        assert by_words(store, f"r{revision}") == {n: r for n, r in state.items() if r == revision}
    with closing(sqlite3.connect(folder / "default.sqlite3")) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    if close:
        store.close()
    else:
        _never_closed.append(store)
    return state


# Calls


class Call(NamedTuple):
    """A call of the store that changes it.

    Attributes:
        name: Method of the store.
        revision: Of the nodes that are added.
        numbers: Of the nodes, or for ``delete`` of one document.
    """

    name: str
    revision: int = 0
    numbers: list[int] = []  # noqa: RUF012  a NamedTuple's default, never changed

    def perform(self, store: FaissMultiModalVectorStore) -> None:
        """Do it."""
        if self.name == "add":
            store.add([node_of(number, self.revision) for number in self.numbers])
        elif self.name == "delete":
            (document,) = self.numbers
            store.delete(f"d{document}")
        elif self.name == "delete_nodes":
            store.delete_nodes([f"n{number}" for number in self.numbers])
        else:
            getattr(store, self.name)()

    def after(self, state: State) -> State:
        """Return what a store of this state holds when it is done."""
        if self.name == "add":
            return {**state, **dict.fromkeys(self.numbers, self.revision)}
        if self.name == "delete":
            return {n: r for n, r in state.items() if n // _DOCUMENT not in self.numbers}
        if self.name == "delete_nodes":
            return {n: r for n, r in state.items() if n not in self.numbers}
        return {} if self.name == "clear" else state


def random_call(random: Random, revision: int, share: int | None = None) -> Call:
    """Return some call; most add nodes, of which many are there already.

    Args:
        random: What chooses it.
        revision: Of nodes that are added.
        share: Which numbers it may take, those of one of several writers; None for the first, and for clearing all.
    """
    first = (share or 0) * _NUMBERS
    clearing = 1 if share is None else 0
    name = random.choices(["add", "delete", "delete_nodes", "persist", "clear"], [60, 15, 15, 9, clearing])[0]
    if name == "delete":
        return Call(name, numbers=[random.randrange(first // _DOCUMENT, (first + _NUMBERS) // _DOCUMENT)])
    if name not in ("add", "delete_nodes"):
        return Call(name, revision)
    return Call(name, revision, random.sample(range(first, first + _NUMBERS), random.randint(1, 50)))


# Processes


def start(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """Call a function in a new process.

    Returns:
        A function that waits for what it returns.
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
    """Counts the log's warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        self.count += 1


# Kills


def kills(folder: Path, amount: int, seed: int = 0) -> dict[str, int]:
    """Kill writers of one store at random moments, and look each time for exactly what they were told is written.

    A call that was under way may have been done, but then all of it.
    """
    random = Random(seed)
    store, log = folder / "store", folder / "calls"
    state = State()
    done = Counter(kills=0, calls=0, calls_cut_off=0, of_these_done=0, warnings=0)
    for round_ in range(amount):
        _kill_a_writer(store, log, random, first_revision=round_ * 10_000)
        calls, cut_off = _read_log(log)
        for call in calls:
            state = call.after(state)
        # Half of the time the next writer finds files that nobody closed.
        seen, warnings = start(_look_and_count_warnings, store, random.random() < 0.5)()
        if cut_off is not None and seen == cut_off.after(state) != state:
            done["of_these_done"] += 1
            state = seen
        assert seen == state, f"round {round_}, with {cut_off} under way: {_differences(seen, state)}"
        done.update(kills=1, calls=len(calls), calls_cut_off=cut_off is not None, warnings=warnings)
    return {**done, "nodes": len(state)}


def kills_among_forks(folder: Path, amount: int, seed: int = 0) -> dict[str, int]:
    """Kill two writers of one store at random moments, one of which forks children that open the store anew.

    The children are refused, or what they were told is written would get lost. The other writer is a process that
    inherited no store, as processes that are spawned are. Each has numbers of its own.
    """
    random = Random(seed)
    store = folder / "store"
    state = State()
    done = Counter(kills=0, calls=0, calls_cut_off=0, of_these_done=0, forks=0, warnings=0)
    for round_ in range(amount):
        logs = [folder / f"calls {share}" for share in range(2)]
        together = [
            _start_writer(store, log, random, round_ * 10_000, share, forks=share == 0)
            for share, log in enumerate(logs)
        ]
        for writer, log in zip(together, logs, strict=True):
            _kill(writer, log, random)
        seen, warnings = start(_look_and_count_warnings, store, random.random() < 0.5)()
        for share, log in enumerate(logs):
            calls, cut_off = _read_log(log)
            for call in calls:
                state = call.after(state)
            if cut_off is not None and _of_share(seen, share) == _of_share(cut_off.after(state), share):
                done["of_these_done"] += cut_off.after(state) != state
                state = cut_off.after(state)
            done.update(kills=1, calls=len(calls), calls_cut_off=cut_off is not None)
            done["forks"] += log.read_bytes().count(b"refused\n")
        assert seen == state, f"round {round_}: {_differences(seen, state)}"
        done.update(warnings=warnings)
    return {**done, "nodes": len(state)}


def _of_share(state: State, share: int) -> State:
    return {number: revision for number, revision in state.items() if number // _NUMBERS == share}


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
    # Some die while they open the store.
    lines = random.choice([0, *range(1, 30)])
    while log.read_bytes().count(b"\n") < lines and writer.is_alive():
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.02))
    writer.kill()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL, f"the writer ended by itself with exit code {writer.exitcode}"


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
    """Let a child open a store that this process has open, add to it, and end without a word."""
    child = os.fork()
    if not child:
        try:
            with FaissMultiModalVectorStore(folder) as store:
                store.add([node_of(_ALL, 0)])
        except StoreError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, "a child opened what it had inherited open"


def _read_log(log: Path) -> tuple[list[Call], Call | None]:
    """Return the calls that came back, and the one that did not."""
    # The last line may be cut off: then its call had not begun, or is not known to have come back.
    lines = log.read_text().split("\n")[:-1]
    calls = [Call(*json.loads(line)) for line in lines if line not in ("done", "refused")]
    came_back = lines.count("done")
    return calls[:came_back], calls[came_back] if came_back < len(calls) else None


def _look_and_count_warnings(folder: Path, close: bool = True) -> tuple[State, int]:
    warnings = Warnings()
    return look(folder, close), warnings.count


def _differences(seen: State, state: State) -> dict[int, tuple[int | None, int | None]]:
    """Return the revisions that are seen and that should be, of the nodes where these differ."""
    numbers = sorted(seen.keys() | state.keys())
    return {n: (seen.get(n), state.get(n)) for n in numbers if seen.get(n) != state.get(n)}


# A writer and readers


def overwriting(folder: Path, seconds: float) -> dict[str, Any]:
    """Share a store whose every node is overwritten by each call."""
    return _share(folder, seconds, _overwrite)


def sliding(folder: Path, seconds: float) -> dict[str, Any]:
    """Share a store to which documents are added, and from which older ones are deleted."""
    return _share(folder, seconds, _slide)


def _overwrite(step: int) -> Call:
    return Call("add", step, list(range(50)))


def _slide(step: int) -> Call:
    document = step // 2
    if step % 2:
        return Call("add", step, list(range(document * _DOCUMENT, (document + 1) * _DOCUMENT)))
    if document % 2:
        return Call("delete", numbers=[document - 5])
    return Call("delete_nodes", numbers=list(range((document - 5) * _DOCUMENT, (document - 4) * _DOCUMENT)))


def _share(folder: Path, seconds: float, calls: Callable[[int], Call]) -> dict[str, Any]:
    """Let one process write and three read all the time.

    Every answer must be a state that was committed, whole, never older than the last one that the same reader saw, nor
    older than what was acknowledged before it asked.
    """
    acknowledged, finished = _FORK.RawValue("q", 0), _FORK.RawValue("b", False)
    start(look, folder)()
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
        seen = WAYS[reads % len(WAYS)](store)
        # A call may be committed and not acknowledged yet.
        while step < floor or (state != seen and step <= acknowledged.value):
            step += 1
            state = calls(step).after(state)
        assert seen == state, f"no state from step {floor} to {step}: {_differences(seen, state)}"
        if last and reads >= len(WAYS):
            return reads, warnings.count
    raise AssertionError("unreachable")


# Several writers


def writers(folder: Path, amount: int) -> dict[str, int]:
    """Let two processes change one store at once, so many calls each."""
    start(look, folder)()
    together = _FORK.Barrier(2)
    working = [start(_change, folder, amount, first, together) for first in (0, 100_000)]
    one, other = (wait() for wait in working)
    seen, warnings = start(_look_and_count_warnings, folder)()
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
    """Let three processes open a store at once that is not there yet, so many times."""
    for round_ in range(amount):
        together = _FORK.Barrier(3)
        opening = [start(_open_and_add, folder / str(round_), number, together) for number in range(3)]
        for wait in opening:
            wait()
        assert start(look, folder / str(round_))() == dict.fromkeys(range(3), 0)
    return {"openings": amount}


def _open_and_add(folder: Path, number: int, together: Any) -> None:
    together.wait()
    with FaissMultiModalVectorStore(folder) as store:
        store.add([node_of(number, 0)])


# Files that may not be written to


def forbidden(folder: Path) -> dict[str, tuple[int, str | None]]:
    """As somebody who may only read, open each store in a folder, and one that is not there, search it and add to it.

    Returns:
        How many nodes were found and what the store had to say, by its folder's name.
    """
    return start(_try_to_add, folder)()


def _try_to_add(folder: Path) -> dict[str, tuple[int, str | None]]:
    if os.getuid() == 0:
        # Nothing is forbidden to root.
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
    """Run a program for every line of input, its name and arguments as JSON, and print what it returns."""
    answers = os.fdopen(os.dup(1), "w")
    # Whatever else prints, libraries in C included, must not print among the answers.
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
