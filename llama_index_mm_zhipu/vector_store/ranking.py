"""The query modes: how each of them ranks nodes, and the search for the nearest vectors that meet a condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

from llama_index_mm_zhipu.arguments import member_of
from llama_index_mm_zhipu.vector_store.ann import AnnIndex, Found, search_exactly
from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE, Condition
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.fulltext import count_words, match_expression, words_of_query
from llama_index_mm_zhipu.vector_store.fusion import BestText, fuse_ranks, fuse_scores
from llama_index_mm_zhipu.vector_store.sessions import Ids, Reader, Vectors

FUSION_DEPTH = 50
"""Minimum number of nodes of each ranking that ``HYBRID`` fuses."""

_TEXT_DEPTH = 1_000
"""Texts whose BM25 scores are known to the fusion. Many texts may match equally well, and of these the vector chooses;
SQLite computes the scores of all matches anyway."""

MMR_PREFETCH_FACTOR = 4.0
"""Candidates per wanted node from which ``MMR`` chooses; the default of LlamaIndex's stores."""

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


class QueryOptions(NamedTuple):
    """Options of a query beside LlamaIndex's ``VectorStoreQuery``.

    Attributes:
        ef_search: As in ``AnnIndex.search``.
        nprobe: As in ``AnnIndex.search``.
        mmr_threshold: Threshold of ``MMR``; None takes that of the query.
        mmr_prefetch_factor: Candidates of ``MMR`` per wanted node.
        mmr_prefetch_k: Candidates of ``MMR`` in all.
    """

    ef_search: int | None = None
    nprobe: int | None = None
    mmr_threshold: float | None = None
    mmr_prefetch_factor: float | None = None
    mmr_prefetch_k: int | None = None


class RankedNode(NamedTuple):
    """A node in the result of a query.

    Attributes:
        id: Row id.
        score: Score of the query mode.
        similarity: Inner product with the query's vector; None if the mode does not search by vector.
        words_found: Share of the query's words that its text has, 0 to 1; None if the mode does not search by text.
    """

    id: int
    score: float
    similarity: float | None = None
    words_found: float | None = None


@dataclass(frozen=True)
class Ranking:
    """Ranks the nodes in one state of a store.

    Args:
        reader: Reader of that state.
        index: Index of that state; None if the store never had a vector.
        options: Options of the query.
    """

    reader: Reader
    index: AnnIndex | None
    options: QueryOptions

    def rank(self, query: VectorStoreQuery, condition: Condition) -> list[RankedNode]:
        """Return the nodes that a query finds, best first.

        Raises:
            ValueError: The query has no embedding, or one of the wrong dimension; the mode is not supported; or two
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
        return self._with_parts_of_score(query, mode, rank(query, condition))

    def _with_parts_of_score(
        self, query: VectorStoreQuery, mode: VectorStoreQueryMode, found: Found
    ) -> list[RankedNode]:
        ids = [id_ for id_, _ in found]
        similarities: Mapping[int, float] = {}
        if mode == VectorStoreQueryMode.DEFAULT:
            similarities = dict(found)
        elif mode in (VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.MMR):
            similarities = self._similarities(query, ids)
        by_text = mode not in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR)
        shares = self._shares_of_words(query, ids) if by_text else {}
        return [RankedNode(id_, score, similarities.get(id_), shares.get(id_)) for id_, score in found]

    def _by_vector(self, query: VectorStoreQuery, condition: Condition) -> Found:
        if query.query_embedding is None:
            advice = "" if query.query_str else ", or call get_nodes(filters=…) to get nodes by filters alone"
            raise ValueError(f"the query has no embedding; embed its text or image first{advice}")
        k = self._limited(query.similarity_top_k)
        if self.index is None or k <= 0:
            return []
        vector = self._vector(query.query_embedding, self.index)
        return self._search(self.index).nearest(vector, k, condition)

    def _by_marginal_relevance(self, query: VectorStoreQuery, condition: Condition) -> Found:
        prefetch_k, factor = self.options.mmr_prefetch_k, self.options.mmr_prefetch_factor
        if prefetch_k is not None and factor is not None:
            raise ValueError("mmr_prefetch_k and mmr_prefetch_factor exclude each other; give only one")
        k = self._limited(query.similarity_top_k)
        prefetched = self._limited(prefetch_k or k * (factor or MMR_PREFETCH_FACTOR))
        candidates = self._by_vector(replace(query, similarity_top_k=max(k, prefetched)), condition)
        if self.index is None or k <= 0 or not candidates:
            return []
        ids = [id_ for id_, _ in candidates]
        scores, chosen = get_top_k_mmr_embeddings(
            np.asarray(query.query_embedding, dtype=np.float32),  # type: ignore[arg-type]
            list(self._search(self.index).vectors_of(ids)),
            similarity_fn=_cosine,
            similarity_top_k=k,
            embedding_ids=ids,
            mmr_threshold=query.mmr_threshold if self.options.mmr_threshold is None else self.options.mmr_threshold,
        )
        return [(id_, float(score)) for id_, score in zip(chosen, scores, strict=True)]

    def _by_text(self, query: VectorStoreQuery, condition: Condition) -> Found:
        if not self.reader.has_full_text:
            raise StoreError("this Python's SQLite has no FTS5, which text_search and hybrid need; use mode default")
        expression = match_expression(query.query_str or "")
        k = self._limited(query.similarity_top_k)
        if not expression or k <= 0:
            return []
        return self.reader.search_text(expression, condition, k)

    def _by_both(self, query: VectorStoreQuery, condition: Condition) -> Found:
        # Deep enough to find a node that is high in one ranking in the other one as well.
        depth = max(FUSION_DEPTH, 2 * query.similarity_top_k)
        by_vector = self._by_vector(replace(query, similarity_top_k=depth), condition)
        text_depth = query.sparse_top_k or (depth if query.alpha is not None else max(depth, _TEXT_DEPTH))
        by_text = self._by_text(replace(query, similarity_top_k=text_depth), condition)
        if query.alpha is not None:
            weights = (query.alpha, by_vector), (1 - query.alpha, by_text)
            fused = fuse_ranks([(weight, [id_ for id_, _ in found]) for weight, found in weights])
        else:
            fused = self._fused_by_scores(query, by_vector, by_text, depth)
        wanted = query.similarity_top_k if query.hybrid_top_k is None else query.hybrid_top_k
        return fused[: max(0, wanted)]

    def _fused_by_scores(self, query: VectorStoreQuery, by_vector: Found, by_text: Found, depth: int) -> Found:
        similarities = dict(by_vector)
        similarities |= self._similarities(query, [id_ for id_, _ in by_text[:depth] if id_ not in similarities])
        weight = self._weight_of_text(query, by_text)
        return fuse_scores(similarities, self._mean_similarity(query), dict(by_text), weight)

    def _weight_of_text(self, query: VectorStoreQuery, by_text: Found) -> float:
        if not by_text:
            return 0.0
        (best, first), second = by_text[0], by_text[1][1] if len(by_text) > 1 else 0.0
        words = words_of_query(query.query_str or "")
        found = count_words(words, self.reader.tokens_of_texts([best]).get(best, ""))
        return BestText(len(words), found, lead=1 - second / first).weight

    def _similarities(self, query: VectorStoreQuery, ids: Sequence[int]) -> dict[int, float]:
        """Return the inner products of nodes with the vector of a query, by row id."""
        if self.index is None or query.query_embedding is None or not ids:
            return {}
        vectors = self._search(self.index).vectors_of(ids)
        return dict(zip(ids, (vectors @ self._vector(query.query_embedding, self.index)).tolist(), strict=True))

    def _mean_similarity(self, query: VectorStoreQuery) -> float:
        """Return about the mean inner product of the store's vectors with that of a query."""
        if self.index is None or query.query_embedding is None:
            return 0.0
        search = self._search(self.index)
        mean = self.index.mean_vector(lambda ids: search.vectors_of(ids.tolist()))
        return float(mean @ self._vector(query.query_embedding, self.index))

    def _shares_of_words(self, query: VectorStoreQuery, ids: Sequence[int]) -> dict[int, float]:
        """Return the share of the query's words that each node's text has, by row id."""
        words = words_of_query(query.query_str or "")
        if not words:
            return {}
        texts = self.reader.tokens_of_texts(ids)
        return {id_: count_words(words, texts.get(id_, "")) / len(words) for id_ in ids}

    def _limited(self, k: float) -> int:
        """Return a number of nodes, at most as many as there are: SQLite and faiss take 64-bit integers only."""
        return int(min(k, len(self.index) if self.index is not None else 0))

    def _search(self, index: AnnIndex) -> VectorSearch:
        # Either option is accepted for either type of index: callers need not know which one the store has.
        ef_search = self.options.ef_search or self.options.nprobe
        nprobe = self.options.nprobe or self.options.ef_search
        return VectorSearch(
            index,
            self.reader,
            ef_search=ef_search and self._limited(ef_search),
            nprobe=nprobe and self._limited(nprobe),
        )

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


def _cosine(one: Vectors, other: Vectors) -> float:
    """Return the default similarity of LlamaIndex's stores; 0 for a vector of zeros, where it is undefined."""
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norms if norms else 0.0
