"""``ImageRetriever``: retrieve images and texts by words, by an image, or by both."""

from __future__ import annotations

import asyncio
import logging
import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from llama_index.core import Settings
from llama_index.core.base.base_multi_modal_retriever import MultiModalRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding, mean_agg
from llama_index.core.callbacks import CallbackManager
from llama_index.core.constants import DEFAULT_SIMILARITY_TOP_K
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.indices.utils import log_vector_store_query_result
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from llama_index_mm_zhipu.arguments import as_ids, explicit_arguments, in_range, member_of
from llama_index_mm_zhipu.embedding.contract import embed_image, knows_text, unit_embedding
from llama_index_mm_zhipu.images import ImageSource
from llama_index_mm_zhipu.prompts.wording import wording_of
from llama_index_mm_zhipu.query.labels import RetrievalScores, as_keys, label_results, with_retrieval_scores
from llama_index_mm_zhipu.query.question import Question, as_bundle, as_image_bundle, as_query
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.types import Language
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store.contract import IndexStore, ScoredQueryResult
from llama_index_mm_zhipu.vector_store.filters import require_matchable

QueryMode: TypeAlias = Literal["text", "image", "fused"]
"""Which part of a question images are searched by: its words, its image, or the mean of both vectors."""

_MODES_BY_WORDS_ALONE = (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE)
_MODES_BY_WORDS = (VectorStoreQueryMode.HYBRID, *_MODES_BY_WORDS_ALONE)
_MODES_BY_VECTOR = (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.MMR)

_BY_FULL_TEXT = VectorStoreQueryMode.TEXT_SEARCH

logger = logging.getLogger(__name__)


class ImageRetriever(MultiModalRetriever):
    """Retriever of images and texts by words, by an image, or by both.

    The vector of a question has no meaning if the embedding model knows no part of its words (emoji, rare characters).
    The retriever then warns and searches for the words by full text; an image beside them is searched by its vector
    alone.

    Results are copies of the stored nodes. Images carry a label with number, score and caption for the LLM; other
    metadata is hidden from it. The metadata ``retrieval_scores`` holds the cosine of a result and its share of the
    question's words, whatever the score is. Texts come first, then images in rank order.

    Args:
        index: An index from ``build_index`` or ``load_index``, or LlamaIndex's own multimodal index.
        similarity_top_k: How many texts to find, and how many images if ``image_similarity_top_k`` is None; 2 by
            default, as in LlamaIndex.
        image_similarity_top_k: How many images to find.
        filters: Metadata filters that results must match.
        node_ids: Ids of the nodes to search; None searches all, an empty list none.
        doc_ids: Ids of the documents to search; None searches all, an empty list none.
        query_mode: ``"text"``, ``"image"`` or ``"fused"``: search by the words of a question, by its image, or by
            both. Fused takes whichever is there.
        similarity_cutoff: Minimum cosine of a result, -1 to 1. In the modes that search by text, a result also stays if
            its text has at least this share of the question's words. Scores that are neither do not count.
        vector_store_query_mode: ``"default"``, ``"mmr"``, ``"text_search"`` (full text of captions; also
            ``"sparse"``) or ``"hybrid"``; see ``FaissMultiModalVectorStore.query``.
        alpha: Share of the vectors in mode ``"hybrid"``, 0 to 1, fused by reciprocal ranks. None, the default, fuses by
            scores, with a share that depends on the question.
        sparse_top_k: How many full text results mode ``"hybrid"`` uses; ``similarity_top_k`` by default.
        mmr_threshold: For mode ``"mmr"``: 1 is relevance alone, 0 variety alone; 0.5 by default.
        vector_store_kwargs: Further arguments of the store's ``query``.
        language: ``"zh"`` or ``"en"``, the language of labels.
        metadata_keys: Metadata that the LLM sees besides.
        callback_manager: LlamaIndex's callback manager.

    Raises:
        TypeError: An argument is not known; the message names the likely one.
        ValueError: A mode, number or language is not possible. At retrieval: no node has the key of a filter, the
            filter compares numbers with text, or a cut-off is given and another store returns scores that are neither
            cosines nor shares of words.

    Examples:
        >>> from pathlib import Path
        >>> from llama_index_mm_zhipu.query import ImageRetriever
        >>> retriever = ImageRetriever(index, similarity_top_k=1)
        >>> for question in ("红苹果", Path("query.jpg")):
        ...     [result] = retriever.retrieve(question)
        ...     print(result.node.text, f"{result.score:.2f}", result.node.metadata["file_name"])
        红苹果 0.96 apple.jpg
        红苹果 0.96 apple.jpg
    """

    @explicit_arguments
    def __init__(
        self,
        index: MultiModalVectorStoreIndex,
        *,
        similarity_top_k: int = DEFAULT_SIMILARITY_TOP_K,
        image_similarity_top_k: int | None = None,
        filters: MetadataFilters | None = None,
        node_ids: list[str] | None = None,
        doc_ids: list[str] | None = None,
        query_mode: QueryMode = "fused",
        similarity_cutoff: float | None = None,
        vector_store_query_mode: VectorStoreQueryMode | str = VectorStoreQueryMode.DEFAULT,
        alpha: float | None = None,
        sparse_top_k: int | None = None,
        mmr_threshold: float | None = None,
        vector_store_kwargs: Mapping[str, Any] | None = None,
        language: Language = "zh",
        metadata_keys: Collection[str] = (),
        callback_manager: CallbackManager | None = None,
    ) -> None:
        mode = member_of(VectorStoreQueryMode, vector_store_query_mode, "vector_store_query_mode")
        if query_mode not in ("text", "image", "fused"):
            raise ValueError(f"query_mode is {query_mode!r}; it must be 'text', 'image' or 'fused'")
        wording_of(language)
        super().__init__(callback_manager=callback_manager or Settings.callback_manager)
        self._index = index
        self._similarity_top_k = _count_of("similarity_top_k", similarity_top_k)
        self._image_similarity_top_k: int | None = None
        if image_similarity_top_k is not None:
            self.image_similarity_top_k = image_similarity_top_k
        self._mode = mode
        self._alpha = in_range(alpha, "alpha", 0, 1)
        self._filters = _checked_filters(filters)
        self._node_ids = as_ids(node_ids, "node_ids")
        self._doc_ids = as_ids(doc_ids, "doc_ids")
        self._sparse_top_k = None if sparse_top_k is None else _count_of("sparse_top_k", sparse_top_k)
        self._store_options = dict(vector_store_kwargs or {})
        if mmr_threshold is not None:
            self._store_options["mmr_threshold"] = in_range(mmr_threshold, "mmr_threshold", 0, 1)
        self._query_mode = query_mode
        self._similarity_cutoff = in_range(similarity_cutoff, "similarity_cutoff", -1, 1)
        self._language: Language = language
        self._metadata_keys = as_keys(metadata_keys)

    @property
    def similarity_top_k(self) -> int:
        """How many texts to find, and how many images if ``image_similarity_top_k`` was not set."""
        return self._similarity_top_k

    @similarity_top_k.setter
    def similarity_top_k(self, similarity_top_k: int) -> None:
        self._similarity_top_k = _count_of("similarity_top_k", similarity_top_k)

    @property
    def image_similarity_top_k(self) -> int:
        """How many images to find."""
        return self._similarity_top_k if self._image_similarity_top_k is None else self._image_similarity_top_k

    @image_similarity_top_k.setter
    def image_similarity_top_k(self, image_similarity_top_k: int) -> None:
        self._image_similarity_top_k = _count_of("image_similarity_top_k", image_similarity_top_k)

    @property
    def searches_full_text(self) -> bool:
        """Whether the words of a question are searched by full text, alone or besides vectors."""
        return self._mode in _MODES_BY_WORDS

    def retrieve(self, str_or_query_bundle: Question) -> list[NodeWithScore]:
        """Find images and texts.

        Args:
            str_or_query_bundle: Words; an image (``Path``, ``bytes``, ``PIL.Image``, a node); or a ``QueryBundle``,
                whose ``image_path`` may be an image in any of these forms.

        Raises:
            ImageError: The image cannot be read.
            ValueError: A filter asks for metadata that no node has, or the question lacks what ``query_mode`` needs.

        Examples:
            >>> from pathlib import Path
            >>> from llama_index.core.schema import QueryBundle
            >>> retriever = index.as_retriever(similarity_top_k=2, vector_store_query_mode="hybrid")
            >>> question = QueryBundle("青苹果", image_path=Path("query.jpg"))
            >>> [result.node.text for result in retriever.retrieve(question)]
            ['青苹果', '红苹果']
        """
        return super().retrieve(as_bundle(str_or_query_bundle))

    async def aretrieve(self, str_or_query_bundle: Question) -> list[NodeWithScore]:
        """As ``retrieve``."""
        return await super().aretrieve(as_bundle(str_or_query_bundle))

    def text_retrieve(self, str_or_query_bundle: Question) -> list[NodeWithScore]:
        """Find texts by the words of a question; a question without words finds none.

        Raises:
            ValueError: A filter asks for metadata that no node has.

        Examples:
            >>> from llama_index.core import Document
            >>> index.insert(Document(text="苹果每斤 10 元。"))
            >>> [result.node.get_content() for result in index.as_retriever().text_retrieve("苹果多少钱？")]
            ['苹果每斤 10 元。']
        """
        self._require_matchable_filters()
        query = as_query(str_or_query_bundle)
        self._warn_of_unknown_words(query, self._text_model)
        return self._find_texts(query)

    async def atext_retrieve(self, str_or_query_bundle: Question) -> list[NodeWithScore]:
        """As ``text_retrieve``, in a worker thread."""
        return await asyncio.to_thread(self.text_retrieve, str_or_query_bundle)

    def text_to_image_retrieve(self, str_or_query_bundle: Question) -> list[NodeWithScore]:
        """Find images by the words of a question; a question without words finds none.

        Raises:
            ValueError: A filter asks for metadata that no node has.

        Examples:
            >>> retriever = index.as_retriever(similarity_top_k=1)
            >>> [result.node.text for result in retriever.text_to_image_retrieve("帆船")]
            ['帆船']
        """
        self._require_matchable_filters()
        query = as_query(str_or_query_bundle)
        self._warn_of_unknown_words(query, self._image_model)
        return self._find_images_by_words(query)

    async def atext_to_image_retrieve(self, str_or_query_bundle: Question) -> list[NodeWithScore]:
        """As ``text_to_image_retrieve``, in a worker thread."""
        return await asyncio.to_thread(self.text_to_image_retrieve, str_or_query_bundle)

    def image_to_image_retrieve(self, str_or_query_bundle: QueryBundle | ImageSource) -> list[NodeWithScore]:
        """Find images by an image in any form; a string is its path or URL.

        Raises:
            ImageError: The image cannot be read.
            ValueError: A filter asks for metadata that no node has.

        Examples:
            >>> retriever = index.as_retriever(similarity_top_k=1)
            >>> [result.node.text for result in retriever.image_to_image_retrieve("query.jpg")]
            ['红苹果']
        """
        self._require_matchable_filters()
        query = as_query(as_image_bundle(str_or_query_bundle))
        if not query.embedding_image:
            raise ValueError("the question has no image; give its path, or QueryBundle(image_path=…)")
        return self._find_images_by_image(query)

    async def aimage_to_image_retrieve(self, str_or_query_bundle: QueryBundle | ImageSource) -> list[NodeWithScore]:
        """As ``image_to_image_retrieve``, in a worker thread."""
        return await asyncio.to_thread(self.image_to_image_retrieve, str_or_query_bundle)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        # Filters are checked first, so that nothing is embedded for a filter that cannot match.
        self._require_matchable_filters()
        query = self._reduced(as_query(query_bundle))
        self._warn_of_unknown_words(query, self._text_model, self._image_model)
        texts = self._find_texts(query) if query.embedding_strs else []
        return [*texts, *self._find_images(query)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)

    # LlamaIndex declares these as abstract.

    def _text_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self.text_to_image_retrieve(query_bundle)

    async def _atext_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self.atext_to_image_retrieve(query_bundle)

    def _image_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self.image_to_image_retrieve(query_bundle)

    async def _aimage_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self.aimage_to_image_retrieve(query_bundle)

    @property
    def _text_model(self) -> BaseEmbedding:
        return self._index._embed_model

    @property
    def _image_model(self) -> MultiModalEmbedding:
        return self._index.image_embed_model

    def _reduced(self, query: QueryBundle) -> QueryBundle:
        """Return the part of a question that ``query_mode`` searches by.

        Raises:
            ValueError: The question has no such part.
        """
        if self._query_mode == "image":
            if not query.embedding_image:
                raise ValueError("query_mode is 'image' and the question has no image; give QueryBundle(image_path=…)")
            return QueryBundle(query_str="", image_path=query.image_path)
        if self._query_mode == "text":
            if not query.embedding_strs:
                raise ValueError("query_mode is 'text' and the question has no words; take 'image' or 'fused'")
            return replace(query, image_path=None)
        return query

    def _find_texts(self, query: QueryBundle) -> list[NodeWithScore]:
        if self._index.is_text_vector_store_empty:
            return []
        if query.embedding is not None:
            return self._search(query, query.embedding, self._similarity_top_k, self._index.vector_store)
        return self._find_by_words(query, self._text_model, self._similarity_top_k, self._index.vector_store)

    def _find_images(self, query: QueryBundle) -> list[NodeWithScore]:
        if not query.embedding_strs:
            return self._find_images_by_image(query)
        if not query.embedding_image or self._mode in _MODES_BY_WORDS_ALONE:
            return self._find_images_by_words(query)
        if self._index.is_image_vector_store_empty:
            return []
        vectors = [self._image_vector(query)]
        if not self._is_unknown_to(self._image_model, query):
            # An image near the words and near the given image: its score is the mean of two cosines.
            vectors.append(_vector_of_words(self._image_model, query))
        store = self._index.image_vector_store
        return self._search(query, mean_agg(vectors), self.image_similarity_top_k, store)

    def _find_images_by_words(self, query: QueryBundle) -> list[NodeWithScore]:
        if self._index.is_image_vector_store_empty:
            return []
        store = self._index.image_vector_store
        return self._find_by_words(query, self._image_model, self.image_similarity_top_k, store)

    def _find_images_by_image(self, query: QueryBundle) -> list[NodeWithScore]:
        if self._index.is_image_vector_store_empty or not query.embedding_image:
            return []
        store = self._index.image_vector_store
        return self._search(query, self._image_vector(query), self.image_similarity_top_k, store)

    def _find_by_words(
        self, query: QueryBundle, model: BaseEmbedding, similarity_top_k: int, store: BasePydanticVectorStore
    ) -> list[NodeWithScore]:
        if not query.embedding_strs:
            return []
        if isinstance(store, IndexStore) and self._is_unknown_to(model, query):
            # Without full text search this mode is an error, and the user did not ask for it.
            return self._search(query, None, similarity_top_k, store, _BY_FULL_TEXT) if store.has_texts() else []
        vector = _vector_of_words(model, query) if store.is_embedding_query else None
        return self._search(query, vector, similarity_top_k, store)

    def _image_vector(self, query: QueryBundle) -> Embedding:
        return embed_image(self._image_model, query.embedding_image[0])

    def _is_unknown_to(self, model: BaseEmbedding, query: QueryBundle) -> bool:
        """Return whether a model is to embed words of which it knows no part."""
        if self._mode not in _MODES_BY_VECTOR:
            return False
        words = query.embedding_strs
        return bool(words) and not any(knows_text(model, each) for each in words)

    def _warn_of_unknown_words(self, query: QueryBundle, *models: BaseEmbedding) -> None:
        if any(self._is_unknown_to(model, query) for model in models):
            logger.warning(
                "the embedding model knows no part of the query '%s', and its vector has no meaning; "
                "only full text can find it",
                one_line(" ".join(query.embedding_strs)),
            )

    def _search(
        self,
        query: QueryBundle,
        vector: Embedding | None,
        similarity_top_k: int,
        store: BasePydanticVectorStore,
        mode: VectorStoreQueryMode | None = None,
    ) -> list[NodeWithScore]:
        """Query a store, and return its nodes with labels.

        Args:
            query: The question.
            vector: Vector to search by; ``None`` for modes by words alone.
            similarity_top_k: How many nodes to find.
            store: The store of texts or of images.
            mode: Query mode; by default the retriever's.
        """
        # Stores take an empty list of ids for no restriction, because LlamaIndex's own retriever passes one.
        if self._node_ids == [] or self._doc_ids == []:
            return []
        mode = mode or self._mode
        # Without words only vectors can rank, and their cosines say more than ranks.
        if mode in _MODES_BY_WORDS and not query.embedding_strs:
            mode = VectorStoreQueryMode.DEFAULT
        asked = VectorStoreQuery(
            query_embedding=vector,
            similarity_top_k=similarity_top_k,
            doc_ids=self._doc_ids,
            node_ids=self._node_ids,
            query_str=query.query_str,
            mode=mode,
            alpha=self._alpha,
            filters=self._filters,
            sparse_top_k=self._sparse_top_k,
        )
        return label_results(
            self._results_of(store.query(asked, **self._store_options), mode),
            language=self._language,
            metadata_keys=self._metadata_keys,
            scores_are_similarities=mode == VectorStoreQueryMode.DEFAULT,
        )

    def _results_of(self, found: VectorStoreQueryResult, mode: VectorStoreQueryMode) -> list[NodeWithScore]:
        """Return the nodes that a store found and that reach the cut-off."""
        log_vector_store_query_result(found)
        nodes = found.nodes
        if nodes is None:
            # Stores that keep no nodes leave them to the docstore.
            nodes_dict = self._index.index_struct.nodes_dict
            nodes = self._index.docstore.get_nodes([nodes_dict[id_] for id_ in found.ids or []])
        scores: Sequence[float | None] = found.similarities or [None] * len(nodes)
        parts = _parts_of_scores(found, scores, mode)
        return [
            NodeWithScore(node=with_retrieval_scores(node, part), score=score)
            for node, score, part in zip(nodes, scores, parts, strict=True)
            if self._reaches_cutoff(part, mode)
        ]

    def _reaches_cutoff(self, scores: RetrievalScores, mode: VectorStoreQueryMode) -> bool:
        if self._similarity_cutoff is None:
            return True
        known = [score for score in (scores.cosine, scores.words_found) if score is not None]
        if not known:
            raise ValueError(
                f"similarity_cutoff is a cosine, and the store gives other scores in mode {mode.value!r}; leave the "
                "cut-off out, or take vector_store_query_mode='default'"
            )
        return max(known) >= self._similarity_cutoff

    def _require_matchable_filters(self) -> None:
        if self._filters is None:
            return
        stores = (self._index.vector_store, self._index.image_vector_store)
        known = [store for store in stores if isinstance(store, FaissMultiModalVectorStore)]
        # Other stores do not tell which metadata their nodes have, so that nothing is known to match no node.
        if len(known) == len(stores):
            require_matchable(self._filters, [store for store in known if store.count()])


def _checked_filters(filters: MetadataFilters | None) -> MetadataFilters | None:
    if filters is None or isinstance(filters, MetadataFilters):
        return filters
    given = type(filters).__name__
    raise TypeError(
        f"filters is of type {given}; give MetadataFilters(filters=[MetadataFilter(key=…, value=…, operator=…)])"
    )


def _count_of(argument: str, value: int) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        count = -1
    if count < 0 or isinstance(value, bool):
        raise ValueError(f"{argument} is {value!r}; it must be a whole number from 0")
    return count


def _parts_of_scores(
    found: VectorStoreQueryResult, scores: Sequence[float | None], mode: VectorStoreQueryMode
) -> list[RetrievalScores]:
    if isinstance(found, ScoredQueryResult):
        return [RetrievalScores(*parts) for parts in zip(found.inner_products, found.words_found, strict=True)]
    # Other stores return the scores of the mode alone.
    is_cosine = mode == VectorStoreQueryMode.DEFAULT
    return [RetrievalScores(cosine=score if is_cosine else None) for score in scores]


def _vector_of_words(model: BaseEmbedding, query: QueryBundle) -> Embedding:
    """Return the mean of the unit vectors of a question's texts."""
    vectors = [unit_embedding(model.get_query_embedding(words)) for words in query.embedding_strs]
    return mean_agg(vectors) if len(vectors) > 1 else vectors[0]
