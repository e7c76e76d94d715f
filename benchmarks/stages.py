"""The stages of the benchmark. Each stage runs in a separate process and writes its results while it runs."""

from __future__ import annotations

import gc
import os
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from bulk_stages import bulk
from contender import Contender
from contenders import CONTENDERS
from dataset import BATCH, FILTERS, NODES_PER_DOCUMENT, Dataset, ExactNeighbours, Vectors, document_id, node_id
from jobs import Findings, Job
from series import (
    WARM_UP,
    contender_of,
    dataset_of,
    disk_mib,
    matching_nodes,
    peak_mib,
    query_name,
    run_queries,
    seconds_of,
)

SEARCH_BREADTHS = {"ivf": (16, 32, 64, 128, 256, 512), "hnsw": (16, 32, 64, 128, 256, 512)}
"""What is measured of each index type: lists that are scanned, or candidates that the search of a graph keeps."""

_DOCUMENTS_TO_DELETE = 9
_GROWTH_BATCHES = 10


def run(job: Job) -> None:
    """Run a stage in this process."""
    findings = Findings(job)
    try:
        STAGES[job.stage](job, findings)
    except Exception as error:
        findings.note(f"{job.stage} failed", error)
        raise


def fill(job: Job, findings: Findings) -> None:
    """Add nodes to an empty store, query it, close it."""
    contender, dataset = contender_of(job), dataset_of(job)
    queries = dataset.queries(job.queries + WARM_UP)
    selectivities = [None, *FILTERS] if contender.filters else [None]
    truths = {selectivity: ExactNeighbours(dataset, queries, selectivity) for selectivity in selectivities}
    baseline = _peak_mib_of_the_benchmark(contender, dataset, queries)

    contender.open(Path(job.folder))
    _add_all(contender, dataset, job.size, list(truths.values()), findings)
    findings.update(settle_s=seconds_of(contender.settle))
    findings.update(
        clusters_of_neighbours=truths[None].clusters() if job.vectors == "clustered" else None,
        matching={selectivity: matching_nodes(dataset, selectivity, job.size) for selectivity in FILTERS},
    )
    for selectivity, truth in truths.items():
        name = query_name(selectivity)
        with findings.attempt(name):
            findings.say(name)
            series = run_queries(contender, dataset, queries, selectivity)
            findings.update(**{name: series.summary(truth)})
    close_seconds = seconds_of(contender.close)
    peak = peak_mib()
    findings.update(
        close_s=close_seconds,
        peak_mib=peak,
        # The baseline is the memory of the benchmark itself, including the batches that it has made.
        peak_minus_baseline_mib=peak - baseline if peak is not None and baseline is not None else None,
        disk_mib=disk_mib(Path(job.folder)),
    )


def build(job: Job, findings: Findings) -> None:
    """Add nodes to an empty store and close it."""
    contender = contender_of(job)
    contender.open(Path(job.folder))
    _add_all(contender, dataset_of(job), job.size, [], findings)
    contender.settle()
    findings.update(close_s=seconds_of(contender.close))


def reopen(job: Job, findings: Findings) -> None:
    """Measure opening a filled store until its first answer, then delete documents from it."""
    contender = contender_of(job)
    findings.say("reopen")
    findings.update(reopen_s=_open_and_query(contender, job))
    if contender.deletes:
        with findings.attempt("delete"):
            findings.say("delete")
            findings.update(**_delete(contender, job))
    contender.close()


def open_only(job: Job, findings: Findings) -> None:
    """Measure opening a filled store until its first answer, and the memory of a process that asks."""
    contender, dataset = contender_of(job), dataset_of(job)
    before = peak_mib()
    findings.update(reopen_s=_open_and_query(contender, job))
    for selectivity in [None, *FILTERS]:
        run_queries(contender, dataset, dataset.queries(job.queries + WARM_UP), selectivity)
    findings.update(peak_mib=peak_mib(), peak_before_mib=before)
    contender.close()


def interleaved(job: Job, findings: Findings) -> None:
    """Alternate queries to the store and to a flat faiss index of the same vectors.

    On a machine with other load, only measurements of the same moment are comparable.
    """
    dataset = dataset_of(job)
    ours, raw = contender_of(job), CONTENDERS["raw-faiss"]()
    findings.say("interleaved with raw faiss")
    ours.open(Path(job.folder))
    # The folder has no file of raw faiss, so its index is empty.
    raw.open(Path(job.result).parent)
    for batch in dataset.batches(0, job.size, nodes=False):
        raw.add(batch)
    asked: dict[str, tuple[Contender, str | None]] = {
        "raw faiss": (raw, None),
        "no filter": (ours, None),
        **{f"{selectivity} filter": (ours, selectivity) for selectivity in FILTERS},
    }
    ms: dict[str, list[float]] = {name: [] for name in asked}
    for number, vector in enumerate(dataset.queries(job.queries + WARM_UP)):
        # Rotate the order, so that none always runs with the CPU caches that the same other one left.
        for name in _rotated(list(asked), number):
            contender, selectivity = asked[name]
            filters = dataset.filters(selectivity, number) if selectivity else None
            prepared = contender.prepare(vector, filters)
            elapsed = 1000 * seconds_of(contender.query, prepared)
            if number >= WARM_UP:
                ms[name].append(elapsed)
    ours.close()
    findings.update(
        interleaved={
            name: {
                "p50_ms": statistics.median(values),
                "minus_raw_p50_ms": statistics.median(np.subtract(values, ms["raw faiss"]).tolist()),
            }
            for name, values in ms.items()
        },
        queries=job.queries,
    )


def ivf(job: Job, findings: Findings) -> None:
    """Reindex a filled store with short codes, and measure recall and query time."""
    _measure_index(job, findings, "ivf")


def hnsw(job: Job, findings: Findings) -> None:
    """Reindex a filled store as a graph, and measure recall and query time."""
    _measure_index(job, findings, "hnsw")


def _measure_index(job: Job, findings: Findings, index_type: str) -> None:
    contender, dataset = contender_of(job), dataset_of(job)
    queries = dataset.queries(job.queries + WARM_UP)
    truth = ExactNeighbours(dataset, queries)
    contender.open(Path(job.folder))
    contender.store.reindex("flat")
    _add_all(contender, dataset, job.size, [truth], findings)
    findings.update(
        clusters_of_neighbours=truth.clusters() if job.vectors == "clustered" else None,
        exact=_recall_and_speed(contender, dataset, queries, truth),
    )
    findings.say(f"reindex {index_type}")
    findings.update(build_s=seconds_of(contender.store.reindex, index_type))
    # Warm up the new index, which would otherwise slow the first measurement.
    _recall_and_speed(contender, dataset, queries, truth)
    findings.update(default=_recall_and_speed(contender, dataset, queries, truth))
    curve = []
    for breadth in SEARCH_BREADTHS[index_type]:
        findings.say(f"search_breadth={breadth}")
        point = _recall_and_speed(contender, dataset, queries, truth, search_breadth=breadth)
        curve.append({"search_breadth": breadth, **point})
        findings.update(curve=curve)
    contender.close()
    findings.update(peak_mib=peak_mib(), disk_mib=disk_mib(Path(job.folder)))


def growth(job: Job, findings: Findings) -> None:
    """Let a store grow, and measure the time per added node and per query at each size."""
    contender, dataset = contender_of(job), dataset_of(job)
    queries = dataset.queries(job.queries + WARM_UP)
    waiting = sorted(job.sizes)
    points: list[dict[str, float]] = []
    batch_us: list[float] = []
    contender.open(Path(job.folder))
    for batch in dataset.batches(0, waiting[-1]):
        batch_us.append(1e6 * seconds_of(contender.add, batch) / len(batch.numbers))
        size = int(batch.numbers[-1]) + 1
        if size < waiting[0]:
            continue
        waiting = [later for later in waiting if later > size]
        point = {
            "size": size,
            # Only the last batches count; earlier ones were added to a smaller store.
            "add_us": statistics.median(batch_us[-_GROWTH_BATCHES:]),
            "query_ms": run_queries(contender, dataset, queries, None).percentile(50),
        }
        findings.say(f"{size:,} nodes: {point['add_us']:.0f} µs per node, {point['query_ms']:.2f} ms per query")
        points.append(point)
        findings.update(points=points)
    contender.close()
    findings.update(
        add_exponent=_exponent(points, "add_us"),
        query_exponent=_exponent(points, "query_ms"),
        peak_mib=peak_mib(),
        disk_mib=disk_mib(Path(job.folder)),
    )


STAGES: dict[str, Callable[[Job, Findings], None]] = {
    stage.__name__: stage for stage in (fill, build, reopen, open_only, interleaved, ivf, hnsw, growth, bulk)
}


def _add_all(
    contender: Contender, dataset: Dataset, size: int, truths: list[ExactNeighbours], findings: Findings
) -> None:
    """Add all nodes, and record how many are added per second; making the nodes does not count."""
    seconds = 0.0
    next_word = size / 10
    for batch in dataset.batches(0, size, contender.takes_nodes):
        seconds += seconds_of(contender.add, batch)
        for truth in truths:
            truth.see(batch)
        done = int(batch.numbers[-1]) + 1
        # Update after each batch: for a contender that exceeds the time limit, this may be the only result.
        findings.update(added=done, add_per_second=done / seconds)
        if done >= next_word:
            findings.say(f"added {done:,}, {done / seconds:,.0f} nodes/s")
            next_word += size / 10


def _recall_and_speed(
    contender: Contender, dataset: Dataset, queries: Vectors, truth: ExactNeighbours, **options: Any
) -> dict[str, float]:
    series = run_queries(contender, dataset, queries, None, **options)
    return {"recall": truth.recall(series.answers), "p50_ms": series.percentile(50)}


def _open_and_query(contender: Contender, job: Job) -> float:
    prepared = contender.prepare(dataset_of(job).queries(1)[0])
    gc.collect()
    start = time.perf_counter()
    contender.open(Path(job.folder))
    answer = contender.query(prepared)
    seconds = time.perf_counter() - start
    if not contender.ids(answer):
        raise RuntimeError("the reopened store is empty")
    return seconds


def _delete(contender: Contender, job: Job) -> dict[str, Any]:
    """Delete documents; for comparison, alternate with a bare fsync and a commit of one row on the same disk."""
    documents = job.size // NODES_PER_DOCUMENT
    chosen = [int(documents * (index + 0.5) / _DOCUMENTS_TO_DELETE) for index in range(_DOCUMENTS_TO_DELETE)]
    delete, sync, commit = [], [], []
    with _bare_fsync(Path(job.result).parent) as fsync, _bare_commit(Path(job.result).parent) as one_row:
        for document in chosen:
            delete.append(1000 * seconds_of(contender.delete, document_id(document * NODES_PER_DOCUMENT)))
            sync.append(1000 * seconds_of(fsync))
            commit.append(1000 * seconds_of(one_row))
    return {
        "delete_ms": statistics.median(delete),
        "bare_fsync_ms": statistics.median(sync),
        "bare_commit_ms": statistics.median(commit),
        "left_after_delete": sum(_is_found(contender, job, document * NODES_PER_DOCUMENT) for document in chosen),
    }


def _is_found(contender: Contender, job: Job, number: int) -> bool:
    """Return whether a query with the vector of a node finds the node."""
    start = number // BATCH * BATCH
    batch = next(dataset_of(job).batches(start, start + BATCH, nodes=False))
    answer = contender.query(contender.prepare(batch.vectors[number - start]))
    return node_id(number) in contender.ids(answer)


@contextmanager
def _bare_fsync(folder: Path) -> Iterator[Callable[[], None]]:
    """Yield a function that appends 4 KiB to a file and waits for the disk."""
    with (folder / "fsync.bin").open("ab", buffering=0) as file:

        def write() -> None:
            file.write(bytes(4096))
            os.fsync(file.fileno())

        write()
        yield write


@contextmanager
def _bare_commit(folder: Path) -> Iterator[Callable[[], None]]:
    """Yield a function that commits one row to an SQLite file, in the mode in which commits survive a power failure."""
    with closing(sqlite3.connect(folder / "commit.sqlite3", isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("create table rows (value text)")

        def write() -> None:
            connection.execute("insert into rows values ('one row')")

        write()
        yield write


def _peak_mib_of_the_benchmark(contender: Contender, dataset: Dataset, queries: Vectors) -> float | None:
    """Return the peak memory of a loop that makes batches without adding them to a store."""
    seen = ExactNeighbours(dataset, queries)
    # Two batches, because the first is still in memory while the second is made.
    for batch in dataset.batches(0, 2 * BATCH, contender.takes_nodes):
        seen.see(batch)
    return peak_mib()


def _exponent(points: list[dict[str, float]], key: str) -> float | None:
    """Return the exponent with which a time grows with the size, by linear regression of the logarithms."""
    if len(points) < 2:
        return None
    slope, _ = np.polyfit(np.log([point["size"] for point in points]), np.log([point[key] for point in points]), 1)
    return float(slope)


def _rotated(names: list[str], by: int) -> list[str]:
    by %= len(names)
    return names[by:] + names[:by]
