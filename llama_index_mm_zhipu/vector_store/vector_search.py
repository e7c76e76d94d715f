"""The nearest nodes that meet a condition, found the way that costs least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llama_index_mm_zhipu.vector_store.ann import AnnIndex, Found, search_exactly
from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE, Condition
from llama_index_mm_zhipu.vector_store.sessions import Ids, Reader, Vectors

_BUDGET_PER_NODE = 0.1
_LEAST_BUDGET = 10_000
"""Steps of SQLite that may be spent on listing what meets a condition before asking the nearest nodes instead. In
time, about a sixth of a flat search."""

_EXACT_SHARE = 0.05
_EXACT_IDS = 20_000
"""Up to so many allowed ids, comparing with each of them takes less than an index that skips all others."""

_DEPTH_FLAT = 512
_DEPTH_GRAPH_FACTOR = 8
_RESCORE_FACTOR = 4
_CHUNK = 20_000


@dataclass(frozen=True)
class VectorSearch:
    """Vector search over one state of a store.

    Args:
        index: Follows the reader's state.
        reader: Knows conditions and vectors.
        breadth: As in ``AnnIndex.search``.
    """

    index: AnnIndex
    reader: Reader
    breadth: int | None = None

    def nearest(self, vector: Vectors, k: int, condition: Condition) -> Found:
        """Return the ids and inner products of the ``k`` nearest nodes that meet a condition, best first.

        There are ``k`` whenever so many meet it. They are the true nearest if the index is flat or if few meet it.

        Args:
            vector: Shape ``(dimension,)``.
            k: At most so many.
            condition: What they meet.
        """
        if condition is EVERY_NODE:
            found = self._search(vector, k)
            return found if len(found) == min(k, len(self.index)) else self._among_all(vector, k)
        budget = max(_LEAST_BUDGET, int(_BUDGET_PER_NODE * len(self.index)))
        allowed = self.reader.select_ids_within(condition, budget)
        if allowed is None:
            # Many nodes meet it, or it cannot be listed by an index: likely some of the nearest do.
            found = self._nearest_that_meet(vector, k, condition)
            if len(found) == k:
                return found
            allowed = self.reader.select_ids(condition)
        return self._among(vector, k, allowed)

    def vectors_of(self, ids: Sequence[int]) -> Vectors:
        """Return the vectors of row ids, in their order: shape ``(n, dimension)``."""
        if self.index.has_vectors:
            return self.index.vectors(np.asarray(ids, dtype=np.int64))
        return self.reader.vectors_of(ids)

    def _nearest_that_meet(self, vector: Vectors, k: int, condition: Condition) -> Found:
        depth = max(k, _DEPTH_FLAT) if self.index.is_exact else _DEPTH_GRAPH_FACTOR * k
        candidates = self._search(vector, depth)
        found: Found = []
        first = 4 * k
        for part in (candidates[:first], candidates[first:]):
            meet = self.reader.select_those_that_meet([id_ for id_, _ in part], condition)
            found += [(id_, score) for id_, score in part if id_ in meet]
            if len(found) >= k:
                break
        return found[:k]

    def _among(self, vector: Vectors, k: int, allowed: Ids) -> Found:
        few = _EXACT_SHARE * len(self.index) if self.index.is_exact else _EXACT_IDS
        if len(allowed) <= max(few, k):
            return self._exactly(vector, k, allowed)
        found = self._search(vector, k, allowed)
        return found if len(found) == min(k, len(allowed)) else self._exactly(vector, k, allowed)

    def _among_all(self, vector: Vectors, k: int) -> Found:
        return self._exactly(vector, k, self.reader.select_ids(EVERY_NODE))

    def _search(self, vector: Vectors, k: int, allowed: Ids | None = None) -> Found:
        if self.index.has_vectors:
            return self.index.search(vector, k, allowed, self.breadth)
        # The index keeps vectors in a shortened form: what it finds is ranked anew by the vectors as they came.
        rough = self.index.search(vector, _RESCORE_FACTOR * k, allowed, self.breadth)
        return self._exactly(vector, k, np.sort(np.array([id_ for id_, _ in rough], dtype=np.int64)))

    def _exactly(self, vector: Vectors, k: int, ids: Ids) -> Found:
        best: Found = []
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            best += search_exactly(vector, k, chunk, self.vectors_of(chunk.tolist()))
        return sorted(best, key=lambda item: (-item[1], item[0]))[:k]
