"""Search in one state of the store: the nearest vectors that meet a condition, and the texts that match best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llama_index_mm_zhipu.vector_store.ann import AnnIndex, Found, search_exactly
from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE, Condition
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.sessions import Ids, Reader, Vectors
from llama_index_mm_zhipu.vector_store.text_search import search_texts

_BUDGET_PER_NODE = 0.1
_MIN_BUDGET = 10_000
"""Budget of listing the nodes that meet a condition, in steps of SQLite: about a sixth of the time of a flat search. If
it is exceeded, the nearest nodes are searched first and tested."""

_EXACT_SHARE = 0.05
_EXACT_IDS = 20_000
"""Maximum allowed ids, as a share for flat indexes and as a number for others, for which comparing with each of their
vectors is faster than a search of the index that skips all other ids."""

_FLAT_DEPTH = 512
_GRAPH_DEPTH_FACTOR = 8
_RESCORE_FACTOR = 4
_CHUNK = 20_000


class FaissSearch:
    """Search over the nodes that meet a condition, in one state of a store: what ``Ranking`` asks of a store.

    Args:
        reader: Reader of that state.
        index: Index of that state; None if the store never had a vector.
        condition: Condition on the nodes.
        ef_search: As in ``AnnIndex.search``. It stands for ``nprobe`` where only one is given: callers need not know
            which type of index the store has.
        nprobe: As in ``AnnIndex.search``.
    """

    def __init__(
        self, reader: Reader, index: AnnIndex | None, condition: Condition, ef_search: int | None, nprobe: int | None
    ) -> None:
        self._reader = reader
        self._condition = condition
        self._search: VectorSearch | None = None
        if index is not None:
            self._search = VectorSearch(
                index,
                reader,
                ef_search=_limited(ef_search or nprobe, len(index)),
                nprobe=_limited(nprobe or ef_search, len(index)),
            )

    @property
    def max_k(self) -> int:
        """The number of nodes in the store."""
        return len(self._search.index) if self._search is not None else 0

    @property
    def dimension(self) -> int | None:
        """Dimension of the vectors; None if the store never had one."""
        return self._search.index.dimension if self._search is not None else None

    def nearest(self, vector: Vectors, k: int) -> Found:
        """Return the row ids and inner products of the ``k`` nearest nodes, best first."""
        return self._vectors.nearest(vector, k, self._condition)

    def search_text(self, query: str, k: int) -> Found:
        """Return the row ids and BM25 scores of the ``k`` best texts with any of the words, best first.

        Raises:
            StoreError: This Python's SQLite has no FTS5.
        """
        if not self._reader.has_full_text:
            raise StoreError("this Python's SQLite has no FTS5, which text_search and hybrid need; use mode default")
        return search_texts(self._reader, query, self._condition, k)

    def vectors_of(self, ids: Sequence[int]) -> Vectors:
        """Return the vectors of row ids, in their order: shape ``(n, dimension)``."""
        return self._vectors.vectors_of(ids)

    def mean_vector(self) -> Vectors:
        """Return about the mean of all vectors of the store, shape ``(dimension,)``."""
        return self._vectors.index.mean_vector(lambda ids: self.vectors_of(ids.tolist()))

    def tokens_of_texts(self, ids: Sequence[int]) -> Mapping[int, str]:
        """Return the full-text tokens of nodes by row id; nodes without text are left out."""
        return self._reader.tokens_of_texts(ids)

    @property
    def _vectors(self) -> VectorSearch:
        if self._search is None:
            raise StoreError("the store has no vectors")
        return self._search


def _limited(value: int | None, limit: int) -> int | None:
    # faiss takes 64-bit integers only.
    return value and min(value, limit)


@dataclass(frozen=True)
class VectorSearch:
    """Search for the nearest vectors in one state of a store.

    Args:
        index: Index of that state.
        reader: Reader of that state.
        ef_search: As in ``AnnIndex.search``.
        nprobe: As in ``AnnIndex.search``.
    """

    index: AnnIndex
    reader: Reader
    ef_search: int | None = None
    nprobe: int | None = None

    def nearest(self, vector: Vectors, k: int, condition: Condition) -> Found:
        """Return ids and inner products of the ``k`` nearest nodes that meet a condition, best first.

        The result has ``k`` nodes whenever that many meet the condition. They are the true nearest if the index is flat
        or if few nodes meet the condition.

        Args:
            vector: Shape ``(dimension,)``.
            k: Maximum number of nodes.
            condition: Condition on the nodes.
        """
        if condition is EVERY_NODE:
            found = self._search(vector, k)
            if len(found) == min(k, len(self.index)):
                return found
            return self._exactly(vector, k, self.reader.select_ids(EVERY_NODE))
        budget = max(_MIN_BUDGET, int(_BUDGET_PER_NODE * len(self.index)))
        allowed = self.reader.select_ids_within(condition, budget)
        if allowed is None:
            # Many nodes meet the condition, or no index lists them: some of the nearest nodes are likely to meet it.
            found = self._nearest_matching(vector, k, condition)
            if len(found) == k:
                return found
            allowed = self.reader.select_ids(condition)
        return self._among(vector, k, allowed)

    def vectors_of(self, ids: Sequence[int]) -> Vectors:
        """Return the vectors of row ids, in their order: shape ``(n, dimension)``."""
        if self.index.has_vectors:
            return self.index.vectors(np.asarray(ids, dtype=np.int64))
        return self.reader.vectors_of(ids)

    def _nearest_matching(self, vector: Vectors, k: int, condition: Condition) -> Found:
        """Return those of the nearest nodes that meet a condition, at most ``k``."""
        depth = max(k, _FLAT_DEPTH) if self.index.is_exact else _GRAPH_DEPTH_FACTOR * k
        candidates = self._search(vector, depth)
        found: Found = []
        first = 4 * k
        for part in (candidates[:first], candidates[first:]):
            matching = self.reader.select_matching([id_ for id_, _ in part], condition)
            found += [(id_, score) for id_, score in part if id_ in matching]
            if len(found) >= k:
                break
        return found[:k]

    def _among(self, vector: Vectors, k: int, allowed: Ids) -> Found:
        few = _EXACT_SHARE * len(self.index) if self.index.is_exact else _EXACT_IDS
        if len(allowed) <= max(few, k):
            return self._exactly(vector, k, allowed)
        found = self._search(vector, k, allowed)
        return found if len(found) == min(k, len(allowed)) else self._exactly(vector, k, allowed)

    def _search(self, vector: Vectors, k: int, allowed: Ids | None = None) -> Found:
        if self.index.has_vectors:
            return self.index.search(vector, k, allowed, ef_search=self.ef_search, nprobe=self.nprobe)
        # The index holds compressed vectors: its candidates are scored again with the original vectors.
        candidates = self.index.search(
            vector, _RESCORE_FACTOR * k, allowed, ef_search=self.ef_search, nprobe=self.nprobe
        )
        return self._exactly(vector, k, np.sort(np.array([id_ for id_, _ in candidates], dtype=np.int64)))

    def _exactly(self, vector: Vectors, k: int, ids: Ids) -> Found:
        best: Found = []
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            best += search_exactly(vector, k, chunk, self.vectors_of(chunk.tolist()))
        return sorted(best, key=lambda item: (-item[1], item[0]))[:k]
