"""Series of queries to a contender, and what every stage measures alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from contender import Contender
from contenders import CONTENDERS
from dataset import Dataset, ExactNeighbours, Vectors
from jobs import Job
from measuring import peak_bytes

WARM_UP = 3
"""Queries of a series that are not measured."""

_MIN_QUERIES = 10
_SECONDS_PER_SERIES = 30.0


@dataclass
class Series:
    """Times and results of a series of queries; warm-up queries are left out.

    Attributes:
        ms: Milliseconds of each query.
        answers: Number of each query with the ids that it found.
    """

    ms: list[float] = field(default_factory=list)
    answers: list[tuple[int, list[str]]] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        """Return a percentile of the times in milliseconds."""
        return float(np.percentile(self.ms, percent))

    def summary(self, truth: ExactNeighbours) -> dict[str, float]:
        """Return recall and percentiles of the times, given the true neighbours."""
        return {
            "p50_ms": self.percentile(50),
            "p95_ms": self.percentile(95),
            "recall": truth.recall(self.answers),
            "queries": len(self.ms),
        }


def query_name(selectivity: str | None) -> str:
    """Return the key under which ``fill`` stores the results of queries."""
    return "query" if selectivity is None else f"query with the {selectivity} filter"


def contender_of(job: Job) -> Contender:
    return CONTENDERS[job.contender]()


def dataset_of(job: Job) -> Dataset:
    return Dataset(job.vectors, job.seed, job.vary_filters)


def run_queries(
    contender: Contender, dataset: Dataset, queries: Vectors, selectivity: str | None, **options: Any
) -> Series:
    """Run all queries, or as many as fit into the time limit for a series."""
    series = Series()
    end = time.perf_counter() + _SECONDS_PER_SERIES
    for number, vector in enumerate(queries):
        if len(series.ms) >= _MIN_QUERIES and time.perf_counter() > end:
            break
        filters = dataset.filters(selectivity, number) if selectivity else None
        prepared = contender.prepare(vector, filters)
        start = time.perf_counter()
        answer = contender.query(prepared, **options)
        elapsed = time.perf_counter() - start
        if number >= WARM_UP:
            series.ms.append(1000 * elapsed)
            series.answers.append((number, contender.ids(answer)))
    return series


def matching_nodes(dataset: Dataset, selectivity: str, size: int) -> int:
    """Return the number of nodes that match the filter of the first query."""
    wanted = dataset.filter_codes(selectivity, np.array([0]))[0]
    return int(np.count_nonzero(dataset.codes(selectivity, np.arange(size)) == wanted))


def peak_mib() -> float | None:
    peak = peak_bytes()
    return None if peak is None else peak / 2**20


def disk_mib(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def seconds_of(action: Callable[..., object], *args: Any) -> float:
    start = time.perf_counter()
    action(*args)
    return time.perf_counter() - start
