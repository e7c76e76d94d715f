"""Compare the vector store of this package with other embedded stores of LlamaIndex, and with faiss alone.

    python benchmarks/vector_store.py --sizes 20000 100000
    python benchmarks/vector_store.py --sizes 1000000
    python benchmarks/vector_store.py --contenders --reopen --index-types --growth --bulk

Each contender runs with each size in a process of its own, on the same nodes. requirements-vector-store.txt lists the
other stores; those that are not installed are skipped. Progress is written to stderr, tables to stdout, and all numbers
to a JSON file, which every run replaces.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import report
import stages
from contenders import CONTENDERS, IN_MILLIONS, SMALL
from dataset import BATCH, DIMENSION
from jobs import Job
from measuring import machine, versions
from stages import SEARCH_BREADTHS

_RESULTS = Path(__file__).parent / "results"
_DISTRIBUTIONS = ("clustered", "uniform")
_REOPENINGS = 3

_PACKAGES = (
    "llama-index-mm-zhipu",
    "llama-index-core",
    "faiss-cpu",
    "numpy",
    "llama-index-vector-stores-faiss",
    "llama-index-vector-stores-chroma",
    "chromadb",
    "llama-index-vector-stores-lancedb",
    "lancedb",
    "llama-index-vector-stores-qdrant",
    "qdrant-client",
)


def main() -> None:
    """Run the parts that the command line selects."""
    settings = _parser().parse_args()
    if settings.worker:
        _work(Job.from_json(settings.worker))
        return
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    benchmark = Benchmark(settings)
    if settings.contenders:
        for size in settings.sizes:
            benchmark.compare(size)
    for size in _sizes(settings.reopen, [1_000_000]):
        benchmark.reopen(size)
    for size in _sizes(settings.index_types, [100_000]):
        benchmark.index_types(size)
    benchmark.bulk(_sizes(settings.bulk, [1_000_000]))
    if sizes := _sizes(settings.growth, [20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000]):
        benchmark.growth(sizes)
    print(f"\nSaved {settings.output}")


@dataclass
class WorkFolders:
    """Folders of a store and of the reports of processes about it."""

    store: Path
    reports: Path


class Benchmark:
    """Runs stages in processes, prints their tables, and updates the JSON file.

    Args:
        settings: Parsed command line.
    """

    def __init__(self, settings: argparse.Namespace) -> None:
        self._settings = settings
        self._results: dict[str, Any] = {
            "machine": machine(),
            "versions": versions(_PACKAGES),
            "settings": {
                "dimension": DIMENSION,
                "batch": BATCH,
                "vectors": settings.vectors,
                "queries": settings.queries,
                "vary_filters": settings.vary_filters,
                "seed": settings.seed,
            },
        }

    def compare(self, size: int) -> None:
        """Measure all contenders with a number of nodes."""
        results: dict[str, dict[str, Any]] = {}
        for name in self._contenders(size):
            _log(f"{name}, {size:,} nodes")
            results[name] = self._compare_one(name, size)
            self._keep("comparison", size, results)
        if not results:
            return
        first = next((found for found in results.values() if "matching" in found), {})
        print(f"\n{size:,} nodes of {DIMENSION} dimensions, {self._settings.vectors} vectors")
        if clusters := first.get("clusters_of_neighbours"):
            print(f"The ten nearest neighbours of a query come from {clusters:.1f} clusters on average.")
        if matching := first.get("matching"):
            print("Nodes that a filter lets through: " + ", ".join(f"{n:,} ({s})" for s, n in matching.items()) + ".")
        print(report.contender_table(results))
        if "interleaved" in results.get("ours", {}):
            print("\n" + report.interleaved_table(results["ours"]))

    def reopen(self, size: int) -> None:
        """Measure opening the store after it was closed, and without its faiss file."""
        _log(f"reopening, {size:,} nodes")
        with self._work_folders() as folders:
            self._run("build", "ours", size, folders)
            clean = [self._reopen_once(size, folders) for _ in range(_REOPENINGS)]
            if not list(folders.store.glob("*.faiss")):
                _log("closing wrote no .faiss file: both rows are without it")
            removed = [self._reopen_once(size, folders, remove="*.faiss") for _ in range(_REOPENINGS)]
        found = {
            state: {"median_s": statistics.median(each), "each_s": each}
            for state, each in {"after a clean close": clean, "without the .faiss file": removed}.items()
        }
        self._keep("reopen", size, found)
        print(f"\n{size:,} nodes, seconds until the first answer, with a warm file system cache")
        print(report.reopen_table(found))

    def index_types(self, size: int) -> None:
        """Measure recall and speed of the approximate index types with both distributions of vectors."""
        found: dict[str, dict[str, Any]] = {}
        for index_type in self._settings.types:
            for distribution in _DISTRIBUTIONS:
                _log(f"{index_type}, {size:,} {distribution} nodes")
                with self._work_folders() as folders:
                    found[f"{index_type}, {distribution}"] = self._run(
                        index_type, "ours", size, folders, vectors=distribution
                    )
                self._keep("index_types", size, found)
        print(f"\n{size:,} nodes, index types")
        print(report.index_table(found))
        if any("curve" in results for results in found.values()):
            self._plot_index(size, found)

    def bulk(self, sizes: list[int]) -> None:
        """Measure a store that grows by columns: adding, queries by vectors and words, memory, and opening."""
        with self._work_folders() as folders:
            for first, size in pairwise([0, *sorted(sizes)]):
                _log(f"columns, {size:,} nodes")
                found = self._run("bulk", "ours", size, folders, sizes=[first])
                found["opened"] = self._run("open_only", "ours", size, folders)
                self._keep("bulk", size, found)
                print(f"\n{size:,} nodes, of which {size - first:,} were added as columns")
                print(report.bulk_table(found))

    def growth(self, sizes: list[int]) -> None:
        """Measure one store while it grows."""
        _log(f"growing to {max(sizes):,} nodes")
        with self._work_folders() as folders:
            found = self._run("growth", "ours", max(sizes), folders, sizes=sizes)
        self._keep("growth", max(sizes), found)
        print("\nOne store, growing")
        print(report.growth_table(found))

    def _compare_one(self, name: str, size: int) -> dict[str, Any]:
        limit = self._settings.time_limit
        with self._work_folders() as folders:
            found = self._run("fill", name, size, folders, limit=limit)
            if found["status"] == "ok" and name == "ours":
                found = _merged(found, self._run("interleaved", name, size, folders))
            # Last, because it deletes documents.
            if found["status"] == "ok":
                found = _merged(found, self._run("reopen", name, size, folders, limit=limit))
        return found

    def _reopen_once(self, size: int, folders: WorkFolders, remove: str | None = None) -> float:
        for file in folders.store.glob(remove) if remove else ():
            file.unlink()
        found = self._run("open_only", "ours", size, folders)
        if found["status"] != "ok":
            raise RuntimeError(f"reopening failed: {found.get('notes')}")
        return float(found["reopen_s"])

    def _contenders(self, size: int) -> Iterator[str]:
        for name in self._settings.contenders:
            contender = CONTENDERS[name]
            if size > SMALL and name not in IN_MILLIONS:
                _log(f"{name} takes part up to {SMALL:,} nodes only")
            elif not contender.is_installed():
                _log(f"{name} is skipped: pip install {contender.install}")
            else:
                yield name

    def _run(
        self,
        stage: str,
        contender: str,
        size: int,
        folders: WorkFolders,
        vectors: str | None = None,
        sizes: list[int] | None = None,
        limit: float | None = None,
    ) -> dict[str, Any]:
        """Run a stage in a process and return its results, with its ``status``."""
        file = folders.reports / f"{stage}.json"
        file.unlink(missing_ok=True)
        job = Job(
            stage=stage,
            contender=contender,
            size=size,
            vectors=vectors or self._settings.vectors,
            folder=str(folders.store),
            result=str(file),
            seed=self._settings.seed,
            queries=self._settings.queries,
            vary_filters=self._settings.vary_filters,
            sizes=sizes or [],
        )
        command = [sys.executable, __file__, "--worker", job.to_json()]
        try:
            # Stores may print anything, and stdout is for the tables.
            code = subprocess.run(command, stdout=sys.stderr, timeout=limit, check=False).returncode
            status = "ok" if code == 0 else "failed"
        except subprocess.TimeoutExpired:
            status = "over the limit"
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return {**found, "status": status}

    @contextlib.contextmanager
    def _work_folders(self) -> Iterator[WorkFolders]:
        # The system's folder for temporary files may be in memory, where writes do not wait for a disk.
        parent = self._settings.work_dir or self._settings.output.parent
        with tempfile.TemporaryDirectory(dir=parent, prefix="work-", ignore_cleanup_errors=True) as folder:
            folders = WorkFolders(Path(folder) / "store", Path(folder) / "reports")
            folders.store.mkdir()
            folders.reports.mkdir()
            yield folders

    def _plot_index(self, size: int, found: dict[str, dict[str, Any]]) -> None:
        file = self._settings.output.with_name(f"vector_store_index_types_{size}.png")
        try:
            report.plot_index(found, f"{size:,} nodes of {DIMENSION} dimensions", file)
        except ImportError:
            _log("no plot without matplotlib: pip install matplotlib")
        else:
            print(f"Saved {file}")

    def _keep(self, part: str, size: int, found: Any) -> None:
        self._results.setdefault(part, {})[str(size)] = found
        text = json.dumps(self._results, indent=2, ensure_ascii=False)
        self._settings.output.write_text(text + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 100_000], metavar="N", help="numbers of nodes")
    parser.add_argument(
        "--contenders",
        nargs="*",
        choices=CONTENDERS,
        default=list(CONTENDERS),
        metavar="NAME",
        help=f"stores to compare ({', '.join(CONTENDERS)}); without a name, there is no comparison",
    )
    parser.add_argument(
        "--vectors",
        choices=_DISTRIBUTIONS,
        default="clustered",
        help="distribution of vectors (--index-types measures both)",
    )
    parser.add_argument("--queries", type=int, default=200, help="number of measured queries of each type")
    parser.add_argument(
        "--vary-filters", action="store_true", help="filter by another value in each query, instead of the same one"
    )
    parser.add_argument(
        "--time-limit",
        type=float,
        default=1800,
        metavar="SECONDS",
        help="maximum time to fill and query a contender, and to reopen it",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reopen", type=int, nargs="*", metavar="N", help="measure reopening (1,000,000 nodes)")
    parser.add_argument(
        "--index-types",
        type=int,
        nargs="*",
        metavar="N",
        help="measure recall and speed of approximate index types (100,000 nodes)",
    )
    parser.add_argument(
        "--types",
        nargs="+",
        choices=SEARCH_BREADTHS,
        default=list(SEARCH_BREADTHS),
        metavar="TYPE",
        help=f"index types that --index-types measures ({', '.join(SEARCH_BREADTHS)})",
    )
    parser.add_argument(
        "--bulk",
        type=int,
        nargs="*",
        metavar="N",
        help="measure a store that is filled with columns up to each number of nodes (1,000,000)",
    )
    parser.add_argument(
        "--growth", type=int, nargs="*", metavar="N", help="measure a growing store (20,000 to 1,000,000 nodes)"
    )
    parser.add_argument("--output", type=Path, default=_RESULTS / "vector_store.json", help="JSON file")
    parser.add_argument(
        "--work-dir", type=Path, help="folder of the stores during the run; by default that of the JSON file"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser


def _sizes(given: list[int] | None, default: list[int]) -> list[int]:
    """Return the sizes of an optional part: none without its flag, default sizes for a flag without values."""
    return [] if given is None else given or default


def _work(job: Job) -> None:
    """Run a stage in this process."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    stages.run(job)


def _merged(found: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {**found, **more, "notes": found.get("notes", []) + more.get("notes", [])}


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
