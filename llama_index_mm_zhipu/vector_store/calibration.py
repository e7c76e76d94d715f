"""Calibration of an approximate index: how much a search must look at to find most of the true nearest vectors.

A sample of the stored vectors serves as queries. Their true nearest vectors, other than themselves, are found by
comparing them with all vectors while the index is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from llama_index_mm_zhipu.vector_store.ann import AnnIndex
from llama_index_mm_zhipu.vector_store.faiss_indexes import IVF_NPROBE
from llama_index_mm_zhipu.vector_store.ivf import IvfIndex
from llama_index_mm_zhipu.vector_store.vector_file import Ids, Vectors

SAMPLE = 256
"""Queries: recall@10 of 0.99 is known to about 0.003."""

NEIGHBOURS = 10

_DEPTHS = (30, 50, 75, 100, 150, 200, 300)
_STEP = 2**0.25
_SECONDS_PER_CODE = 20e-9
_SECONDS_PER_CANDIDATE = 5e-6


@dataclass(frozen=True)
class Calibration:
    """What a search looks at.

    Attributes:
        search_breadth: Lists to scan.
        candidates: Candidates for ten nodes whose scores are computed from the stored vectors.
        recall: Share of the true ten nearest that was found in the sample; None if it was not measured.
    """

    search_breadth: int = IVF_NPROBE
    candidates: int = 150
    recall: float | None = None


DEFAULT_CALIBRATION = Calibration()
"""For an index that was not calibrated."""


class NeighbourSample:
    """The true nearest vectors of a sample of queries.

    Args:
        queries: Shape ``(n, dimension)``.
        ids: Ids of stored vectors that are the queries and are left out of their neighbours; 0 for other queries.
        k: Number of neighbours.
    """

    def __init__(self, queries: Vectors, ids: Ids, k: int = NEIGHBOURS) -> None:
        self.queries = queries
        self.ids = ids
        self._k = k
        self._scores = np.empty((len(queries), 0), np.float32)
        self._neighbours = np.empty((len(queries), 0), np.int64)

    def see(self, ids: Ids, vectors: Vectors) -> None:
        """Compare the queries with further vectors of shape ``(n, dimension)``."""
        scores = self.queries @ vectors.T
        scores[self.ids[:, None] == ids] = -np.inf
        scores = np.concatenate([self._scores, scores], axis=1)
        neighbours = np.concatenate([self._neighbours, np.broadcast_to(ids, (len(self.ids), len(ids)))], axis=1)
        if scores.shape[1] > self._k:
            best = np.argpartition(-scores, self._k - 1, axis=1)[:, : self._k]
            scores, neighbours = (np.take_along_axis(each, best, axis=1) for each in (scores, neighbours))
        self._scores, self._neighbours = scores, neighbours

    def neighbours(self, query: int) -> set[int]:
        """Return the ids of the nearest vectors of a query."""
        return set(self._neighbours[query][np.isfinite(self._scores[query])].tolist())

    def recall(self, query: int, found: list[int]) -> float:
        """Return the share of the nearest vectors of a query that were found."""
        true = self.neighbours(query)
        return len(true.intersection(found)) / len(true) if true else 1.0


def calibrate(index: AnnIndex, sample: NeighbourSample, target: float) -> Calibration:
    """Return the fastest search that finds a share of the nearest vectors.

    Args:
        index: Index of type ``"ivf"`` with all vectors.
        sample: Queries and their true neighbours.
        target: Share, 0 to 1. If no search reaches it, the best one is returned.
    """
    if not isinstance(index.index, IvfIndex):
        return DEFAULT_CALIBRATION
    index.index.encode()
    lists = index.index.lists
    best, best_cost = Calibration(lists, _DEPTHS[-1], 0.0), float("inf")
    for search_breadth in _breadths(lists):
        scan = search_breadth / lists * len(index) * _SECONDS_PER_CODE
        if scan >= best_cost:
            break
        for depth, recall in zip(_DEPTHS, _recalls(index, sample, search_breadth), strict=True):
            cost = scan + depth * _SECONDS_PER_CANDIDATE
            if recall >= target and cost < best_cost:
                best, best_cost = Calibration(search_breadth, depth, recall), cost
            elif recall > (best.recall or 0.0) and best_cost == float("inf"):
                best = Calibration(search_breadth, depth, recall)
    return best


def _recalls(index: AnnIndex, sample: NeighbourSample, search_breadth: int) -> list[float]:
    """Return the mean recall within the first candidates, for each of ``_DEPTHS``."""
    shares = np.zeros(len(_DEPTHS))
    for query, (vector, own_id) in enumerate(zip(sample.queries, sample.ids.tolist(), strict=True)):
        candidates = index.search(vector, _DEPTHS[-1] + 1, search_breadth=search_breadth)
        found = [id_ for id_, _ in candidates if id_ != own_id]
        shares += [sample.recall(query, found[:depth]) for depth in _DEPTHS]
    return [float(share) for share in shares / max(1, len(sample.ids))]


def _breadths(lists: int) -> Iterator[int]:
    """Yield increasing numbers of lists up to all of them."""
    numbers = [lists]
    while numbers[-1] > max(4, lists / 256):
        numbers.append(int(numbers[-1] / _STEP))
    yield from sorted(set(numbers))
