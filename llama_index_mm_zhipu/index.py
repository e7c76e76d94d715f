"""``build_index`` and ``load_index``: pictures and texts in one LlamaIndex index, wired from the parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from llama_index.core import Settings, StorageContext
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.data_structs.data_structs import IndexDict
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.ingestion import run_transformations
from llama_index.core.llms.utils import LLMType, resolve_llm
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageNode,
    NodeRelationship,
    TransformComponent,
)
from llama_index.core.utils import iter_batch
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from tqdm.auto import tqdm

from llama_index_mm_zhipu.embedding.nodes import caption_of, embed_image_nodes, embed_text_nodes
from llama_index_mm_zhipu.images import ImageError, has_image, load_image
from llama_index_mm_zhipu.query import PICTURE_QA_PROMPT, PictureRetriever
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore

logger = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]

TEXT_NAMESPACE = "default"
IMAGE_NAMESPACE = MultiModalVectorStoreIndex.image_namespace
INSERT_BATCH_SIZE = 256
"""Nodes embedded and written at a time: what a crash in the middle can cost."""

_CAPTION_WEIGHT = "caption_weight"


def build_index(
    nodes_or_documents: Sequence[BaseNode],
    *,
    embed_model: MultiModalEmbedding,
    persist_dir: str | Path | None = None,
    text_embed_model: BaseEmbedding | None = None,
    caption_weight: float | None = None,
    on_error: OnError = "raise",
    transformations: list[TransformComponent] | None = None,
    insert_batch_size: int = INSERT_BATCH_SIZE,
    show_progress: bool = False,
) -> PictureIndex:
    """Index pictures and texts, durably if a folder is given.

    Pictures and texts lie in two stores of one folder. What was written is kept: nodes whose ids are there already are
    overwritten, others are added.

    Args:
        nodes_or_documents: Picture nodes or documents, with captions as their text or without, text nodes, and text
            documents, which are split.
        embed_model: Embeds pictures and words, usually ``ChineseClipEmbedding``.
        persist_dir: Folder of the stores; None keeps them in memory.
        text_embed_model: Embeds text nodes; by default ``embed_model``, long texts as the mean over windows.
        caption_weight: Share of the caption in a captioned picture's vector, 0 to 1. None takes 0.5 when every picture
            has a caption, and otherwise 0, with captions found by full text; it is recorded in the store. (Averaged
            only where there are some, captions would rank all captioned pictures before all others.)
        on_error: ``"raise"`` at the first picture that cannot be read, or ``"skip"`` such pictures; they are logged
            and listed in ``index.skipped``.
        transformations: Applied to text documents; by default ``Settings.transformations``, the sentence splitter.
        insert_batch_size: Nodes embedded and written at a time.
        show_progress: Show progress bars.

    Returns:
        A ``MultiModalVectorStoreIndex``.

    Raises:
        ImageError: A picture cannot be read; those of earlier batches are stored.
        ModelMismatchError: The folder was filled with another model.
        ValueError: There is nothing to index.
    """
    if not nodes_or_documents:
        raise ValueError("nothing to index: no nodes or documents were given")
    index = _open_index(
        persist_dir,
        embed_model=embed_model,
        text_embed_model=text_embed_model,
        caption_weight=caption_weight,
        on_error=on_error,
        transformations=transformations,
        insert_batch_size=insert_batch_size,
        show_progress=show_progress,
    )
    index.insert_nodes(_as_nodes(nodes_or_documents, index._transformations))
    index.checkpoint()
    return index


def load_index(
    persist_dir: str | Path,
    *,
    embed_model: MultiModalEmbedding,
    text_embed_model: BaseEmbedding | None = None,
    on_error: OnError = "raise",
    transformations: list[TransformComponent] | None = None,
    insert_batch_size: int = INSERT_BATCH_SIZE,
    show_progress: bool = False,
) -> PictureIndex:
    """Open an index that ``build_index`` wrote.

    Args:
        persist_dir: The folder given to ``build_index``.
        embed_model: The model that it was built with.
        text_embed_model: The text model that it was built with, if one was given.
        on_error: As in ``build_index``, for later inserts; the same holds for the rest.
        transformations: Applied to text documents that are inserted.
        insert_batch_size: Nodes embedded and written at a time.
        show_progress: Show progress bars when inserting.

    Raises:
        FileNotFoundError: There is no index in the folder.
        ModelMismatchError: It was built with another model.
    """
    if not (Path(persist_dir).expanduser() / f"{IMAGE_NAMESPACE}.sqlite3").is_file():
        raise FileNotFoundError(f"no index in {persist_dir}; build one there with build_index(…, persist_dir=…)")
    return _open_index(
        persist_dir,
        embed_model=embed_model,
        text_embed_model=text_embed_model,
        caption_weight=None,
        on_error=on_error,
        transformations=transformations,
        insert_batch_size=insert_batch_size,
        show_progress=show_progress,
    )


class PictureIndex(MultiModalVectorStoreIndex):
    """A ``MultiModalVectorStoreIndex`` over two ``FaissMultiModalVectorStore`` objects, without core's traps.

    Each picture is stored once, captions or not; what is empty is asked of the stores; deletions reach both of them;
    the query engine shows captions to the LLM.

    Attributes:
        skipped: Message by id of the nodes left out because of ``on_error="skip"``.
    """

    def __init__(
        self, *args: Any, caption_weight: float | None = None, on_error: OnError = "raise", **kwargs: Any
    ) -> None:
        self.skipped: dict[str, str] = {}
        self._caption_weight = caption_weight
        self._on_error = on_error
        super().__init__(*args, **kwargs)

    @property
    def is_image_vector_store_empty(self) -> bool:
        """Whether there is no picture to find, as the store says now."""
        return _count(self._image_vector_store) == 0

    @property
    def is_text_vector_store_empty(self) -> bool:
        """Whether there is no text to find, as the store says now."""
        return _count(self._vector_store) == 0

    def as_retriever(self, **kwargs: Any) -> PictureRetriever:
        """Return a retriever by words and pictures.

        Args:
            **kwargs: ``similarity_top_k`` (texts), ``image_similarity_top_k`` (pictures), ``filters`` and the other
                arguments of LlamaIndex's multimodal retriever. ``vector_store_query_mode`` is ``"default"``, whose
                scores are cosines, or, where captions are not in the vectors (``caption_weight`` 0), ``"hybrid"``,
                which finds them by full text and scores by reciprocal ranks.
        """
        kwargs.setdefault("vector_store_query_mode", self._query_mode())
        return PictureRetriever(self, **kwargs)

    # Core returns its deprecated engine here, which drops captions.
    def as_query_engine(  # type: ignore[override]
        self, llm: LLMType | None = None, **kwargs: Any
    ) -> BaseQueryEngine:
        """Return an engine that answers from the pictures and texts found.

        Args:
            llm: A multimodal chat LLM; by default ``Settings.llm`` if one was set, else ``ZhipuMultiModal()``.
            **kwargs: Of ``as_retriever`` and of ``RetrieverQueryEngine.from_args`` (``streaming``, ``response_mode``,
                ``node_postprocessors``, …). ``chat_content_qa_template`` replaces ``PICTURE_QA_PROMPT``.
        """
        kwargs.setdefault("chat_content_qa_template", PICTURE_QA_PROMPT)
        return RetrieverQueryEngine.from_args(
            self.as_retriever(**kwargs), llm=resolve_llm(llm or _default_llm()), multimodal=True, **kwargs
        )

    def build_index_from_nodes(self, nodes: Sequence[BaseNode], **insert_kwargs: Any) -> IndexDict:
        """Index all nodes: core would drop pictures without caption and metadata."""
        return self._build_index_from_nodes(nodes, **insert_kwargs)

    def insert(self, document: Document, **insert_kwargs: Any) -> None:
        """Insert a document: a picture as it is, a text split."""
        if has_image(document):
            self.insert_nodes([_as_image_node(document)], **insert_kwargs)
        else:
            super().insert(document, **insert_kwargs)

    async def ainsert(self, document: Document, **insert_kwargs: Any) -> None:
        """As ``insert``, in a worker thread."""
        await asyncio.to_thread(self.insert, document, **insert_kwargs)

    def delete_ref_doc(self, ref_doc_id: str, delete_from_docstore: bool = False, **delete_kwargs: Any) -> None:
        """Delete all nodes of a document, pictures and texts; none is no error."""
        for store in self._stores:
            store.delete(ref_doc_id, **delete_kwargs)
        if delete_from_docstore:
            self._docstore.delete_ref_doc(ref_doc_id, raise_error=False)

    async def adelete_ref_doc(self, ref_doc_id: str, delete_from_docstore: bool = False, **delete_kwargs: Any) -> None:
        """As ``delete_ref_doc``, in a worker thread."""
        await asyncio.to_thread(self.delete_ref_doc, ref_doc_id, delete_from_docstore, **delete_kwargs)

    def delete_nodes(self, node_ids: list[str], delete_from_docstore: bool = False, **delete_kwargs: Any) -> None:
        """Delete nodes by id, pictures and texts; ids that are not there are passed over."""
        for store in self._stores:
            store.delete_nodes(node_ids, **delete_kwargs)
        if delete_from_docstore:
            for node_id in node_ids:
                self._docstore.delete_document(node_id, raise_error=False)

    async def adelete_nodes(
        self, node_ids: list[str], delete_from_docstore: bool = False, **delete_kwargs: Any
    ) -> None:
        """As ``delete_nodes``, in a worker thread."""
        await asyncio.to_thread(self.delete_nodes, node_ids, delete_from_docstore, **delete_kwargs)

    def checkpoint(self) -> None:
        """Write the stores' faiss caches, so that the next opening is fast. Nodes are on disk without it."""
        for store in self._stores:
            if store.persist_dir is not None:
                store.persist()

    def close(self) -> None:
        """Checkpoint and close the stores; the index cannot be used any more."""
        for store in self._stores:
            store.close()

    def _query_mode(self) -> VectorStoreQueryMode:
        store = _faiss_store(self._image_vector_store)
        captions_apart = store.get_setting(_CAPTION_WEIGHT) == 0 and store.has_texts()
        return VectorStoreQueryMode.HYBRID if captions_apart else VectorStoreQueryMode.DEFAULT

    @property
    def _stores(self) -> tuple[FaissMultiModalVectorStore, FaissMultiModalVectorStore]:
        return _faiss_store(self._vector_store), _faiss_store(self._image_vector_store)

    def _add_nodes_to_index(
        self, index_struct: IndexDict, nodes: Sequence[BaseNode], show_progress: bool = False, **insert_kwargs: Any
    ) -> None:
        pictures = [_as_image_node(node) for node in nodes if has_image(node)]
        texts = [node for node in nodes if not has_image(node) and node.get_content()]
        show_progress = show_progress or self._show_progress
        if pictures:
            weight = self._follow_caption_weight(pictures)
            for batch in self._batches(pictures, "Embedding pictures", show_progress):
                self._image_vector_store.add(self._embedded_pictures(batch, weight), **insert_kwargs)
        for batch in self._batches(texts, "Embedding texts", show_progress):
            self._vector_store.add(self._embedded_texts(batch), **insert_kwargs)

    async def _async_add_nodes_to_index(
        self, index_struct: IndexDict, nodes: Sequence[BaseNode], show_progress: bool = False, **insert_kwargs: Any
    ) -> None:
        await asyncio.to_thread(self._add_nodes_to_index, index_struct, nodes, show_progress, **insert_kwargs)

    def _batches(self, nodes: Sequence[BaseNode], title: str, show_progress: bool) -> Iterator[list[BaseNode]]:
        with tqdm(total=len(nodes), desc=title, disable=not (show_progress and nodes)) as bar:
            for batch in iter_batch(nodes, self._insert_batch_size):
                yield batch
                bar.update(len(batch))

    def _embedded_pictures(self, nodes: Sequence[BaseNode], caption_weight: float) -> list[BaseNode]:
        ready = [node for node in nodes if node.embedding is not None]
        waiting = [node for node in nodes if node.embedding is None]
        try:
            vectors = embed_image_nodes(self._image_embed_model, waiting, caption_weight)
        except ImageError:
            if self._on_error == "raise":
                raise
            waiting = self._readable(waiting)
            vectors = embed_image_nodes(self._image_embed_model, waiting, caption_weight)
        return [*ready, *_with_embeddings(waiting, vectors)]

    def _readable(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        readable = []
        for node in nodes:
            try:
                load_image(node)
                readable.append(node)
            except ImageError as error:
                self.skipped[node.node_id] = str(error)
                logger.warning("skipped node %s: %s", node.node_id, error)
        return readable

    def _embedded_texts(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        ready = [node for node in nodes if node.embedding is not None]
        waiting = [node for node in nodes if node.embedding is None]
        return [*ready, *_with_embeddings(waiting, embed_text_nodes(self._embed_model, waiting))]

    def _follow_caption_weight(self, pictures: Sequence[BaseNode]) -> float:
        """Take the weight that the store recorded; a new store records one."""
        store = _faiss_store(self._image_vector_store)
        captioned = sum(bool(caption_of(node)) for node in pictures)
        recorded = store.get_setting(_CAPTION_WEIGHT)
        if recorded is None:
            weight = self._caption_weight
            if weight is None:
                weight = 0.5 if captioned == len(pictures) else 0.0
            store.set_setting(_CAPTION_WEIGHT, weight)
            logger.info(
                "caption_weight %s: %d of %d pictures have captions; recorded in the store",
                weight,
                captioned,
                len(pictures),
            )
            return weight
        if recorded or not store.has_texts():
            _warn_of_other_kind(recorded, captioned, len(pictures))
        return float(recorded)


def _open_index(
    persist_dir: str | Path | None,
    *,
    embed_model: MultiModalEmbedding,
    text_embed_model: BaseEmbedding | None,
    **kwargs: Any,
) -> PictureIndex:
    texts = FaissMultiModalVectorStore(persist_dir, namespace=TEXT_NAMESPACE)
    images = FaissMultiModalVectorStore(persist_dir, namespace=IMAGE_NAMESPACE)
    text_embed_model = text_embed_model or _for_long_texts(embed_model)
    texts.require_model(_fingerprint(text_embed_model))
    images.require_model(_fingerprint(embed_model))
    return PictureIndex(
        nodes=[],
        storage_context=StorageContext.from_defaults(vector_store=texts),
        image_vector_store=images,
        embed_model=text_embed_model,
        image_embed_model=embed_model,
        **kwargs,
    )


def _for_long_texts(embed_model: MultiModalEmbedding) -> BaseEmbedding:
    """Share the model, with long texts embedded whole: a default text chunk is ten times what Chinese-CLIP takes."""
    if "long_text" in type(embed_model).model_fields:
        return embed_model.model_copy(update={"long_text": "mean"})
    return embed_model


def _fingerprint(model: BaseEmbedding) -> str:
    known = getattr(model, "fingerprint", None)
    return str(known) if known else f"{model.class_name()} {Path(model.model_name).name}"


def _default_llm() -> LLMType:
    # Settings.llm would make one of OpenAI's when nobody set it.
    if Settings._llm is not None:
        return Settings._llm
    from llama_index_mm_zhipu.llm import ZhipuMultiModal

    return ZhipuMultiModal()


def _as_nodes(items: Sequence[BaseNode], transformations: list[TransformComponent]) -> list[BaseNode]:
    """Documents become nodes: pictures as they are, texts split."""
    documents = [item for item in items if isinstance(item, Document) and not has_image(item)]
    nodes = [item for item in items if has_image(item) or not isinstance(item, Document)]
    return [*nodes, *run_transformations(documents, transformations)] if documents else nodes


def _as_image_node(node: BaseNode) -> ImageNode:
    """Turn a picture document into the node that LlamaIndex's engines know as a picture."""
    if isinstance(node, ImageNode):
        return node
    resource = node.image_resource  # type: ignore[attr-defined]
    source = {} if node.source_node else {NodeRelationship.SOURCE: node.as_related_node_info()}
    return ImageNode(
        id_=node.node_id,
        text=caption_of(node),
        image=resource.data.decode("ascii") if resource.data else None,
        image_path=str(resource.path) if resource.path else None,
        image_url=str(resource.url) if resource.url else None,
        image_mimetype=resource.mimetype,
        embedding=node.embedding,
        metadata=node.metadata,
        excluded_embed_metadata_keys=node.excluded_embed_metadata_keys,
        excluded_llm_metadata_keys=node.excluded_llm_metadata_keys,
        relationships={**node.relationships, **source},
    )


def _with_embeddings(nodes: Sequence[BaseNode], vectors: Sequence[list[float]]) -> list[BaseNode]:
    """Return copies with vectors: the caller's nodes stay as they were."""
    return [node.model_copy(update={"embedding": vector}) for node, vector in zip(nodes, vectors, strict=True)]


def _warn_of_other_kind(weight: float, captioned: int, pictures: int) -> None:
    if weight and captioned < pictures:
        logger.warning(
            "%d of %d pictures have no caption, but the index was built with caption_weight %s: captioned pictures "
            "will rank before them; build it anew with caption_weight=0 to mix both",
            pictures - captioned,
            pictures,
            weight,
        )
    elif not weight and captioned:
        logger.warning(
            "%d of %d pictures have captions, but the index was built with caption_weight 0: their captions are found "
            "by full text and are not in their vectors",
            captioned,
            pictures,
        )


def _count(store: Any) -> int:
    return _faiss_store(store).count()


def _faiss_store(store: Any) -> FaissMultiModalVectorStore:
    assert isinstance(store, FaissMultiModalVectorStore)
    return store
