"""The query modes: how each ranks nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

from llama_index_mm_zhipu.arguments import member_of
from llama_index_mm_zhipu.vector_store.ann import AnnIndex, Found, search_exactly
from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE, Condition
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.fulltext import fuse, match_expression
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


FUSION_DEPTH = 50
"""Nodes of each ranking that ``HYBRID`` fuses at the least."""

MMR_PREFETCH_FACTOR = 4.0
"""Candidates per wanted node that ``MMR`` chooses from, the default of LlamaIndex's stores."""


QUERY_OPTIONS = ("ef_search", "nprobe", "mmr_threshold", "mmr_prefetch_factor", "mmr_prefetch_k")
"""Keyword arguments that a query takes besides LlamaIndex's ``VectorStoreQuery``."""


@dataclass(frozen=True)
class Ranking:
    """Ranks the nodes of one state of a store.

    Args:
        reader: The state.
        index: Follows it; None while there was never a vector.
        options: Keyword arguments of the query: ``ef_search`` or ``nprobe``; ``mmr_threshold``,
            ``mmr_prefetch_factor`` or ``mmr_prefetch_k``.
    """

    reader: Reader
    index: AnnIndex | None
    options: dict[str, Any]

    def rank(self, query: VectorStoreQuery, condition: Condition) -> Found:
        """Return row ids and scores, best first.

        Raises:
            ValueError: There is no query embedding, or one of the wrong dimension, the mode is not supported, or two
                options exclude each other.
            StoreError: A text mode was asked for and this Python's SQLite has no FTS5.
        """
        modes: dict[VectorStoreQueryMode, Callable[[VectorStoreQuery, Condition], Found]] = {
            VectorStoreQueryMode.DEFAULT: self._by_vector,
            VectorStoreQueryMode.MMR: self._by_marginal_relevance,
            VectorStoreQueryMode.TEXT_SEARCH: self._by_text,
            # Other stores and frameworks call full text sparse.
            VectorStoreQueryMode.SPARSE: self._by_text,
            VectorStoreQueryMode.HYBRID: self._by_both,
        }
        mode = member_of(VectorStoreQueryMode, query.mode, "mode")
        rank = modes.get(mode)
        if rank is None:
            supported = ", ".join(mode.value for mode in modes)
            raise ValueError(f"query mode {mode.value!r} is not supported; use one of {supported}")
        return rank(query, condition)

    def _by_vector(self, query: VectorStoreQuery, condition: Condition) -> Found:
        if query.query_embedding is None:
            advice = "" if query.query_str else ", or call get_nodes(filters=…) to get nodes by filters alone"
            raise ValueError(f"the query has no embedding; embed its text or image first{advice}")
        k = self._at_most_all(query.similarity_top_k)
        if self.index is None or k <= 0:
            return []
        vector = self._vector(query.query_embedding, self.index)
        return self._search(self.index).nearest(vector, k, condition)

    def _by_marginal_relevance(self, query: VectorStoreQuery, condition: Condition) -> Found:
        prefetch_k, factor = self.options.get("mmr_prefetch_k"), self.options.get("mmr_prefetch_factor")
        if prefetch_k is not None and factor is not None:
            raise ValueError("mmr_prefetch_k and mmr_prefetch_factor both say how many candidates; give only one")
        k = self._at_most_all(query.similarity_top_k)
        wanted = self._at_most_all(prefetch_k or k * (factor or MMR_PREFETCH_FACTOR))
        candidates = self._by_vector(replace(query, similarity_top_k=max(k, wanted)), condition)
        if self.index is None or k <= 0 or not candidates:
            return []
        ids = [id_ for id_, _ in candidates]
        threshold = self.options.get("mmr_threshold", query.mmr_threshold)
        scores, chosen = get_top_k_mmr_embeddings(
            np.asarray(query.query_embedding, dtype=np.float32),  # type: ignore[arg-type]
            list(self._search(self.index).vectors_of(ids)),
            similarity_fn=_cosine,
            similarity_top_k=k,
            embedding_ids=ids,
            mmr_threshold=threshold,
        )
        return [(id_, float(score)) for id_, score in zip(chosen, scores, strict=True)]

    def _by_text(self, query: VectorStoreQuery, condition: Condition) -> Found:
        if not self.reader.has_full_text:
            raise StoreError("this Python's SQLite has no FTS5, which text_search and hybrid need; use mode default")
        expression = match_expression(query.query_str or "")
        k = self._at_most_all(query.similarity_top_k)
        if not expression or k <= 0:
            return []
        return self.reader.search_text(expression, condition, k)

    def _by_both(self, query: VectorStoreQuery, condition: Condition) -> Found:
        alpha = 0.5 if query.alpha is None else query.alpha
        # A node that is high in one ranking and lower in the other must be seen in both.
        depth = max(FUSION_DEPTH, 2 * query.similarity_top_k)
        by_vector = self._by_vector(replace(query, similarity_top_k=depth), condition)
        by_text = self._by_text(replace(query, similarity_top_k=query.sparse_top_k or depth), condition)
        fused = fuse([(alpha, [id_ for id_, _ in by_vector]), (1 - alpha, [id_ for id_, _ in by_text])])
        wanted = query.similarity_top_k if query.hybrid_top_k is None else query.hybrid_top_k
        return fused[: max(0, wanted)]

    def _at_most_all(self, k: float) -> int:
        """Limit a number of nodes to how many there are: SQLite and faiss take no integers above 64 bits."""
        return int(min(k, len(self.index) if self.index is not None else 0))

    def _search(self, index: AnnIndex) -> VectorSearch:
        breadth = self.options.get("ef_search") or self.options.get("nprobe")
        return VectorSearch(index, self.reader, breadth and self._at_most_all(breadth))

    def _vector(self, embedding: list[float], index: AnnIndex) -> Vectors:
        vector = np.asarray(embedding, dtype=np.float32)
        if vector.shape != (index.dimension,):
            raise ValueError(
                f"the query's vector has dimension {vector.size}, the store's have {index.dimension}; "
                "query with the model that the store was filled with"
            )
        if not np.isfinite(vector).all():
            raise ValueError("the query's vector holds NaN or infinity")
        return vector


def _cosine(one: Vectors, other: Vectors) -> float:
    """Return the similarity that LlamaIndex's stores take by default, which is not defined for a vector of zeros."""
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norms if norms else 0.0
