"""The query modes: how each of them ranks nodes, over any search by vector and by text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, Protocol, TypeAlias

import numpy as np
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

from llama_index_mm_zhipu.arguments import member_of
from llama_index_mm_zhipu.vector_store.fulltext import count_words, words_of_query
from llama_index_mm_zhipu.vector_store.fusion import BestText, IdT, fuse_ranks, fuse_scores
from llama_index_mm_zhipu.vector_store.vector_file import Vectors

Scored: TypeAlias = list[tuple[IdT, float]]
"""Ids and scores, best first."""

FUSION_DEPTH = 50
"""Minimum number of nodes of each ranking that ``HYBRID`` fuses."""

_TEXT_DEPTH = 1_000
"""Texts whose BM25 scores are known to the fusion. Many texts may match equally well, and of these the vector chooses;
the stores compute the scores of all matches anyway."""

MMR_PREFETCH_FACTOR = 4.0
"""Candidates per wanted node from which ``MMR`` chooses; the default of LlamaIndex's stores."""


class NodeSearch(Protocol[IdT]):
    """What the query modes ask of a search over the nodes that a query may find."""

    @property
    def max_k(self) -> int:
        """Maximum number of nodes that a search returns, such as the number of nodes in the store."""

    @property
    def dimension(self) -> int | None:
        """Dimension of the vectors; None if the store never had one."""

    def nearest(self, vector: Vectors, k: int) -> Scored[IdT]:
        """Return the ids of the ``k`` nearest nodes and their inner products with a vector, best first."""

    def search_text(self, query: str, k: int) -> Scored[IdT]:
        """Return the ids of the ``k`` best nodes with any of ``words_of_query``, and BM25 scores, best first."""

    def vectors_of(self, ids: Sequence[IdT]) -> Vectors:
        """Return the vectors of nodes in their order, shape ``(n, dimension)``."""

    def mean_vector(self) -> Vectors:
        """Return about the mean of all vectors of the store, shape ``(dimension,)``."""

    def tokens_of_texts(self, ids: Sequence[IdT]) -> Mapping[IdT, str]:
        """Return the full-text tokens of nodes (``fulltext.tokens_of``); nodes without text may be left out."""


class QueryOptions(NamedTuple):
    """Options of a query beside LlamaIndex's ``VectorStoreQuery``.

    Attributes:
        mmr_threshold: Threshold of ``MMR``; None takes that of the query.
        mmr_prefetch_factor: Candidates of ``MMR`` per wanted node.
        mmr_prefetch_k: Candidates of ``MMR`` in all.
    """

    mmr_threshold: float | None = None
    mmr_prefetch_factor: float | None = None
    mmr_prefetch_k: int | None = None


@dataclass(frozen=True)
class RankedNode(Generic[IdT]):
    """A node in the result of a query.

    Attributes:
        id: Id by which the store knows the node.
        score: Score of the query mode.
        similarity: Inner product with the query's vector; None if the mode does not search by vector.
        words_found: Share of the query's words that its text has, 0 to 1; None if the mode does not search by text.
    """

    id: IdT
    score: float
    similarity: float | None = None
    words_found: float | None = None


@dataclass(frozen=True)
class Ranking(Generic[IdT]):
    """Ranks the nodes that a query may find.

    Args:
        search: Finds nodes by vector and by text.
        options: Options of the query.
    """

    search: NodeSearch[IdT]
    options: QueryOptions

    def rank(self, query: VectorStoreQuery) -> list[RankedNode[IdT]]:
        """Return the nodes that a query finds, best first.

        Raises:
            ValueError: The query has no embedding, or one of the wrong dimension; the mode is not supported; or two
                options exclude each other.
        """
        modes: dict[VectorStoreQueryMode, Callable[[VectorStoreQuery], Scored[IdT]]] = {
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
        return self._with_parts_of_score(query, mode, rank(query))

    def _with_parts_of_score(
        self, query: VectorStoreQuery, mode: VectorStoreQueryMode, found: Scored[IdT]
    ) -> list[RankedNode[IdT]]:
        ids = [id_ for id_, _ in found]
        similarities: Mapping[IdT, float] = {}
        if mode == VectorStoreQueryMode.DEFAULT:
            similarities = dict(found)
        elif mode in (VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.MMR):
            similarities = self._similarities(query, ids)
        by_text = mode not in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR)
        shares = self._shares_of_words(query, ids) if by_text else {}
        return [RankedNode(id_, score, similarities.get(id_), shares.get(id_)) for id_, score in found]

    def _by_vector(self, query: VectorStoreQuery) -> Scored[IdT]:
        if query.query_embedding is None:
            advice = "" if query.query_str else ", or call get_nodes(filters=…) to get nodes by filters alone"
            raise ValueError(f"the query has no embedding; embed its text or image first{advice}")
        k = self._limited(query.similarity_top_k)
        if self.search.dimension is None or k <= 0:
            return []
        return self.search.nearest(self._vector(query.query_embedding, self.search.dimension), k)

    def _by_marginal_relevance(self, query: VectorStoreQuery) -> Scored[IdT]:
        prefetch_k, factor = self.options.mmr_prefetch_k, self.options.mmr_prefetch_factor
        if prefetch_k is not None and factor is not None:
            raise ValueError("mmr_prefetch_k and mmr_prefetch_factor exclude each other; give only one")
        k = self._limited(query.similarity_top_k)
        prefetched = self._limited(prefetch_k or k * (factor or MMR_PREFETCH_FACTOR))
        candidates = self._by_vector(replace(query, similarity_top_k=max(k, prefetched)))
        if k <= 0 or not candidates:
            return []
        ids = [id_ for id_, _ in candidates]
        scores, chosen = get_top_k_mmr_embeddings(
            np.asarray(query.query_embedding, dtype=np.float32),  # type: ignore[arg-type]
            list(self.search.vectors_of(ids)),
            similarity_fn=cosine,
            similarity_top_k=k,
            embedding_ids=ids,
            mmr_threshold=query.mmr_threshold if self.options.mmr_threshold is None else self.options.mmr_threshold,
        )
        return [(id_, float(score)) for id_, score in zip(chosen, scores, strict=True)]

    def _by_text(self, query: VectorStoreQuery) -> Scored[IdT]:
        k = self._limited(query.similarity_top_k)
        return self.search.search_text(query.query_str or "", k) if k > 0 else []

    def _by_both(self, query: VectorStoreQuery) -> Scored[IdT]:
        # Deep enough to find a node that is high in one ranking in the other one as well.
        depth = max(FUSION_DEPTH, 2 * query.similarity_top_k)
        by_vector = self._by_vector(replace(query, similarity_top_k=depth))
        text_depth = query.sparse_top_k or (depth if query.alpha is not None else max(depth, _TEXT_DEPTH))
        by_text = self._by_text(replace(query, similarity_top_k=text_depth))
        if query.alpha is not None:
            weights = (query.alpha, by_vector), (1 - query.alpha, by_text)
            fused = fuse_ranks([(weight, [id_ for id_, _ in found]) for weight, found in weights])
        else:
            fused = self._fused_by_scores(query, by_vector, by_text, depth)
        wanted = query.similarity_top_k if query.hybrid_top_k is None else query.hybrid_top_k
        return fused[: max(0, wanted)]

    def _fused_by_scores(
        self, query: VectorStoreQuery, by_vector: Scored[IdT], by_text: Scored[IdT], depth: int
    ) -> Scored[IdT]:
        similarities = dict(by_vector)
        similarities |= self._similarities(query, [id_ for id_, _ in by_text[:depth] if id_ not in similarities])
        weight = self._weight_of_text(query, by_text)
        return fuse_scores(similarities, self._mean_similarity(query), dict(by_text), weight)

    def _weight_of_text(self, query: VectorStoreQuery, by_text: Scored[IdT]) -> float:
        if not by_text:
            return 0.0
        (best, first), second = by_text[0], by_text[1][1] if len(by_text) > 1 else 0.0
        words = words_of_query(query.query_str or "")
        found = count_words(words, self.search.tokens_of_texts([best]).get(best, ""))
        return BestText(len(words), found, lead=1 - second / first).weight

    def _similarities(self, query: VectorStoreQuery, ids: Sequence[IdT]) -> dict[IdT, float]:
        """Return the inner products of nodes with the vector of a query, by row id."""
        if self.search.dimension is None or query.query_embedding is None or not ids:
            return {}
        vector = self._vector(query.query_embedding, self.search.dimension)
        return dict(zip(ids, (self.search.vectors_of(ids) @ vector).tolist(), strict=True))

    def _mean_similarity(self, query: VectorStoreQuery) -> float:
        """Return about the mean inner product of the store's vectors with that of a query."""
        if self.search.dimension is None or query.query_embedding is None:
            return 0.0
        return float(self.search.mean_vector() @ self._vector(query.query_embedding, self.search.dimension))

    def _shares_of_words(self, query: VectorStoreQuery, ids: Sequence[IdT]) -> dict[IdT, float]:
        """Return the share of the query's words that each node's text has, by row id."""
        words = words_of_query(query.query_str or "")
        if not words:
            return {}
        texts = self.search.tokens_of_texts(ids)
        return {id_: count_words(words, texts.get(id_, "")) / len(words) for id_ in ids}

    def _limited(self, k: float) -> int:
        """Return a number of nodes, at most as many as a search returns: stores take small integers only."""
        return int(min(k, self.search.max_k))

    def _vector(self, embedding: list[float], dimension: int) -> Vectors:
        vector = np.asarray(embedding, dtype=np.float32)
        if vector.shape != (dimension,):
            raise ValueError(
                f"the query's vector has dimension {vector.size}, the store's have {dimension}; "
                "query with the model that the store was filled with"
            )
        if not np.isfinite(vector).all():
            raise ValueError("the query's vector holds NaN or infinity")
        return vector


def cosine(one: Vectors, other: Vectors) -> float:
    """Return the default similarity of LlamaIndex's stores; 0 for a vector of zeros, where it is undefined."""
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norms if norms else 0.0
