"""Search in one state of the store: the nearest vectors that meet a condition, and the texts that match best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llama_index_mm_zhipu.vector_store.ann import IVF, AnnIndex, Found, search_exactly
from llama_index_mm_zhipu.vector_store.calibration import DEFAULT_CALIBRATION, NEIGHBOURS, Calibration
from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE, Condition
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.sessions import MIN_LISTING_BUDGET, Reader, listing_budget
from llama_index_mm_zhipu.vector_store.text_search import search_texts
from llama_index_mm_zhipu.vector_store.vector_file import Ids, Vectors

_EXACT_SHARE = 0.05
_EXACT_IDS = 20_000
"""Maximum allowed ids, as a share for flat indexes and as a number for others, for which comparing with each of their
vectors is faster than a search of the index that skips all other ids."""

_FLAT_DEPTH = 512
_GRAPH_DEPTH_FACTOR = 8
_RESCORE_FACTOR = 4
_TESTED_SAMPLE = 64
_MIN_TESTED = 16
_LISTED_SHARE = 0.05
"""Share of the nodes up to which listing them takes less time than testing candidates until enough meet a condition."""

_CANDIDATES_PER_NODE = 6
_FILTERED_BREADTH = 2
_EXACT_IDS_ON_DISK = 1_000
"""As ``_EXACT_IDS``, where vectors must be read from the disk: some 2 µs each."""

_MATCHING_ROUNDS = ((4, 1.5), (32, 3))
"""Candidates for each that is wanted, and times the usual breadth, in two rounds: for conditions that most nodes meet,
and for those that one in some twenty meets."""

_CHUNK = 20_000


class FaissSearch:
    """Search over the nodes that meet a condition, in one state of a store: what ``Ranking`` asks of a store.

    Args:
        reader: Reader of that state.
        index: Index of that state; None if the store never had a vector.
        condition: Condition on the nodes.
        calibration: What a search of the index looks at, if it is of type ``"ivf"``.
        search_breadth: As in ``AnnIndex.search``.
    """

    def __init__(
        self,
        reader: Reader,
        index: AnnIndex | None,
        condition: Condition,
        calibration: Calibration,
        search_breadth: int | None = None,
    ) -> None:
        self._reader = reader
        self._condition = condition
        self._search: VectorSearch | None = None
        if index is not None:
            # faiss takes 64-bit integers only.
            breadth = search_breadth and min(search_breadth, len(index))
            self._search = (
                CodeSearch(index, reader, breadth, calibration)
                if index.index_type == IVF
                else VectorSearch(index, reader, breadth)
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


@dataclass(frozen=True)
class VectorSearch:
    """Search for the nearest vectors in one state of a store.

    Args:
        index: Index of that state.
        reader: Reader of that state.
        search_breadth: As in ``AnnIndex.search``.
    """

    index: AnnIndex
    reader: Reader
    search_breadth: int | None = None

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
        allowed = self._listed(condition)
        if allowed is None:
            # Many nodes meet the condition, or no index lists them: some of the nearest nodes are likely to meet it.
            found = self._nearest_matching(vector, k, condition)
            if len(found) == k:
                return found
            allowed = self.reader.select_ids(condition)
        return self._among(vector, k, allowed)

    def _listed(self, condition: Condition) -> Ids | None:
        """Return the ids of the nodes that meet a condition, or None if many do."""
        allowed = self.reader.select_ids_within(condition, self._listing_budget())
        if allowed is not None:
            return allowed
        # A few per cent of a large store exceed the budget as well. Listing them takes less time than a search that
        # finds too few of them, and then lists them after all.
        sample = self.index.sample_ids(_TESTED_SAMPLE).tolist()
        matching = self.reader.select_matching(sample, condition)
        return None if len(matching) > _LISTED_SHARE * len(sample) else self.reader.select_ids(condition)

    def _listing_budget(self) -> int:
        return listing_budget(len(self.index))

    def vectors_of(self, ids: Sequence[int] | Ids) -> Vectors:
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
            return self.index.search(vector, k, allowed, search_breadth=self.search_breadth)
        # The index holds compressed vectors: its candidates are scored again with the original vectors.
        candidates = self.index.search(vector, _RESCORE_FACTOR * k, allowed, search_breadth=self.search_breadth)
        return self._scored(vector, k, candidates)

    def _scored(self, vector: Vectors, k: int, candidates: Found) -> Found:
        """Return the ``k`` best candidates by the stored vectors."""
        ids = np.fromiter((id_ for id_, _ in candidates), dtype=np.int64, count=len(candidates))
        return self._exactly(vector, k, np.sort(ids))

    def _exactly(self, vector: Vectors, k: int, ids: Ids) -> Found:
        best: Found = []
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            best += search_exactly(vector, k, chunk, self.vectors_of(chunk))
        return sorted(best, key=lambda item: (-item[1], item[0]))[:k]


@dataclass(frozen=True)
class CodeSearch(VectorSearch):
    """Search in an index of type ``"ivf"``, whose candidates are scored with the stored vectors.

    Args:
        calibration: What a search looks at.
    """

    calibration: Calibration = DEFAULT_CALIBRATION

    def _listing_budget(self) -> int:
        # A search of codes takes no longer than listing some thousand nodes.
        return MIN_LISTING_BUDGET

    def _search(self, vector: Vectors, k: int, allowed: Ids | None = None) -> Found:
        found = self._scored(vector, k, self._candidates(vector, self._depth(k), self._breadth(k, allowed), allowed))
        if len(found) == min(k, len(self.index) if allowed is None else len(allowed)):
            return found
        # The lists have too few vectors that may be returned.
        return self._scored(vector, k, self._candidates(vector, self._depth(k), len(self.index), allowed))

    def _nearest_matching(self, vector: Vectors, k: int, condition: Condition) -> Found:
        """Return the nearest of the candidates that meet a condition; none if there may be nearer ones."""
        wanted = self._depth(k)
        share = 1.0
        for factor, widening in _MATCHING_ROUNDS:
            depth = factor * wanted
            if share * depth < wanted:
                break
            candidates = self._candidates(vector, depth, round(widening * self._breadth(k)))
            matching, share = self._matching(candidates, wanted, condition)
            if len(matching) == wanted:
                return self._scored(vector, k, matching)
        return []

    def _matching(self, candidates: Found, wanted: int, condition: Condition) -> tuple[Found, float]:
        """Return the first candidates that meet a condition, and about the share of nodes that meet it."""
        matching: Found = []
        tested, size = 0, 2 * wanted
        while tested < len(candidates) and len(matching) < wanted:
            part = candidates[tested : tested + size]
            ids = self.reader.select_matching([id_ for id_, _ in part], condition)
            matching += [candidate for candidate in part if candidate[0] in ids]
            tested += len(part)
            # About as many as have the missing ones among them.
            size = _MIN_TESTED + (wanted - len(matching)) * tested // max(1, len(matching))
        return matching[:wanted], len(matching) / max(1, tested)

    def _among(self, vector: Vectors, k: int, allowed: Ids) -> Found:
        if len(allowed) <= max(_EXACT_IDS_ON_DISK, k):
            return self._exactly(vector, k, allowed)
        return self._search(vector, k, allowed)

    def _candidates(self, vector: Vectors, depth: int, breadth: int, allowed: Ids | None = None) -> Found:
        return self.index.search(vector, depth, allowed, search_breadth=breadth)

    def _depth(self, k: int) -> int:
        """Return the number of candidates of which the ``k`` nearest are taken."""
        return max(k, self.calibration.candidates + _CANDIDATES_PER_NODE * max(0, k - NEIGHBOURS))

    def _breadth(self, k: int, allowed: Ids | None = None) -> int:
        if self.search_breadth is not None:
            return self.search_breadth
        # Further nodes, and those that meet a condition, lie in further lists.
        wider = max(1.0, k / NEIGHBOURS) ** 0.25 * (1 if allowed is None else _FILTERED_BREADTH)
        return int(wider * self.calibration.search_breadth)
