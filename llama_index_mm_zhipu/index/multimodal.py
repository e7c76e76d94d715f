"""``ImageIndex``: LlamaIndex's multimodal index, with each image in one store and captions in the prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from llama_index.core import Settings, StorageContext
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks import CallbackManager
from llama_index.core.chat_engine.types import BaseChatEngine, ChatMode
from llama_index.core.data_structs.data_structs import IndexDict
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.llms.utils import LLMType
from llama_index.core.schema import BaseNode, Document, TransformComponent
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQueryMode,
)
from typing_extensions import Unpack

from llama_index_mm_zhipu.arguments import as_ids, explicit_arguments, member_of, require_known
from llama_index_mm_zhipu.embedding.nodes import EmbeddedNodes, as_nodes, image_bar
from llama_index_mm_zhipu.images import has_image
from llama_index_mm_zhipu.index.engines import (
    ChatEngineOptions,
    QueryEngineOptions,
    make_chat_engine,
    make_query_engine,
)
from llama_index_mm_zhipu.index.read import IndexInput, IndexItem, items_of, nodes_of, transformed
from llama_index_mm_zhipu.index.settings import has_texts_apart, recorded_weight, require_fingerprint
from llama_index_mm_zhipu.index.stored_files import is_stored_alike
from llama_index_mm_zhipu.index.stores import (
    IMAGE_NAMESPACE,
    ImageIndexStruct,
    register_index,
    require_model,
    with_index_stores,
)
from llama_index_mm_zhipu.index.write import Destination, NodeWriter
from llama_index_mm_zhipu.ingestion.ocr import ImageOcr, ocr_to_follow
from llama_index_mm_zhipu.llm.llm import llm_or_default
from llama_index_mm_zhipu.query.engine import ImageQueryEngine
from llama_index_mm_zhipu.query.retriever import ImageRetriever, QueryMode
from llama_index_mm_zhipu.reporting import Skipped
from llama_index_mm_zhipu.types import Language, OnError
from llama_index_mm_zhipu.vector_store.contract import IndexStore


class ImageIndex(MultiModalVectorStoreIndex):
    """A ``MultiModalVectorStoreIndex`` that stores each image once and shows captions to the LLM.

    LlamaIndex's own puts captioned images into both stores, forgets after a reload which store is empty, and leaves
    images behind when their document is deleted. ``build_index`` and ``load_index`` make the index.

    Args:
        nodes: Nodes to index.
        index_struct: LlamaIndex's structure of an index that was stored.
        embed_model: Embeds texts and, if it is multimodal and ``image_embed_model`` is not given, images.
        storage_context: Holds the store of texts, and that of images unless ``image_vector_store`` is given.
        use_async: Ignored: insertions run in the calling thread, ``ainsert_nodes`` in a worker thread.
        show_progress: Whether insertions show progress bars.
        image_vector_store: The store of images.
        image_embed_model: Embeds images and the words that images are searched by.
        callback_manager: LlamaIndex's.
        transformations: Applied to documents that are inserted, see ``build_index``.
        insert_batch_size: How many nodes are written in one transaction.
        objects: LlamaIndex's index nodes.
        store_nodes_override: Passed to LlamaIndex's index.
        is_image_to_text: Passed to LlamaIndex's index.
        is_image_vector_store_empty: Ignored: the store is asked.
        is_text_vector_store_empty: Ignored: the store is asked.
        caption_weight: As in ``build_index``.
        on_error: As in ``build_index``.
        ocr: Reads the text in images that are inserted.

    Attributes:
        skipped: The nodes that were left out because of ``on_error="skip"``, with the reasons.
        written_texts: Ids of the texts that the last insertion wrote.
        kept: How many images were not embedded again because the store has them with the same content and caption.
        removed_images: How many images ``remove_missing`` deleted.
        removed_texts: How many texts it deleted.

    Raises:
        ModelMismatchError: A store was filled with another model.
        StoreError: The server of a store cannot be reached.
        TypeError: There is no multimodal embedding model.
        ValueError: The storage context does not hold two stores that keep nodes, or one is made for vectors of another
            dimension.

    Examples:
        >>> index = build_index(nodes, embed_model)
        >>> index.image_store.count(), index.text_store.count(), index.caption_weight
        (12, 0, 0.5)
    """

    index_struct_cls = ImageIndexStruct

    @explicit_arguments
    def __init__(
        self,
        nodes: Sequence[BaseNode] | None = None,
        index_struct: Any = None,
        embed_model: BaseEmbedding | None = None,
        storage_context: StorageContext | None = None,
        use_async: bool = False,
        store_nodes_override: bool = False,
        show_progress: bool = False,
        image_vector_store: BasePydanticVectorStore | None = None,
        image_embed_model: MultiModalEmbedding | str | None = None,
        is_image_to_text: bool = False,
        is_image_vector_store_empty: bool = False,
        is_text_vector_store_empty: bool = False,
        *,
        callback_manager: CallbackManager | None = None,
        transformations: list[TransformComponent] | None = None,
        insert_batch_size: int = 2048,
        objects: Sequence[Any] | None = None,
        caption_weight: float | None = None,
        on_error: OnError = "raise",
        ocr: ImageOcr | None = None,
    ) -> None:
        storage_context = with_index_stores(storage_context, image_vector_store)
        texts: Any = storage_context.vector_store
        images: Any = storage_context.vector_stores[IMAGE_NAMESPACE]
        embed_model = embed_model or Settings._embed_model
        # LlamaIndex's default is the name of OpenAI's CLIP.
        image_model = (
            embed_model if image_embed_model is None or isinstance(image_embed_model, str) else image_embed_model
        )
        if not isinstance(image_model, MultiModalEmbedding) or not isinstance(embed_model, BaseEmbedding):
            raise TypeError("give embed_model=ChineseClipEmbedding(…), the model of this index")
        self._given_transformations = transformations
        self._destination = Destination(
            texts=texts,
            images=images,
            text_model=embed_model,
            image_model=image_model,
            caption_weight=caption_weight,
            on_error=on_error,
            batch_size=insert_batch_size,
        )
        self._ocr = ocr
        self._with_progress = show_progress
        self._traces = callback_manager or Settings.callback_manager
        self.skipped = Skipped()
        self.kept = 0
        self.removed_images = 0
        self.removed_texts = 0
        self.written_texts: set[str] = set()
        for store, model in ((images, image_model), (texts, embed_model)):
            require_model(store, model)
        super().__init__(
            nodes=nodes,
            index_struct=index_struct,
            embed_model=embed_model,
            storage_context=storage_context,
            use_async=False,
            store_nodes_override=store_nodes_override,
            show_progress=show_progress,
            image_vector_store=images,
            image_embed_model=image_model,
            is_image_to_text=is_image_to_text,
            callback_manager=callback_manager,
            transformations=transformations,
            insert_batch_size=insert_batch_size,
            objects=objects,
        )

    @property
    def text_store(self) -> Any:
        """The store of texts: a ``FaissMultiModalVectorStore``, or an ``ExternalVectorStore`` around another one."""
        return self.vector_store

    @property
    def image_store(self) -> Any:
        """The store of images: a ``FaissMultiModalVectorStore``, or an ``ExternalVectorStore`` around another one."""
        return self.image_vector_store

    @property
    def transformations(self) -> list[TransformComponent]:
        """Transformations of documents that are inserted: those that were given, or ``Settings.transformations``."""
        return self._given_transformations or Settings.transformations

    @property
    def _stores(self) -> tuple[IndexStore, IndexStore]:
        return self._destination.texts, self._destination.images

    @property
    def is_image_vector_store_empty(self) -> bool:
        """Whether the store holds no image now."""
        return self._destination.images.is_empty()

    @property
    def is_text_vector_store_empty(self) -> bool:
        """Whether the store holds no text now."""
        return self._destination.texts.is_empty()

    @property
    def caption_weight(self) -> float | None:
        """Share of captions in the images' vectors, as recorded in the store; None before the first image."""
        return recorded_weight(self._destination.images)

    @property
    def has_ocr(self) -> bool:
        """Whether the text in images that are inserted is read, see ``ocr`` of ``build_index``."""
        return self._ocr is not None

    @explicit_arguments
    def as_retriever(  # type: ignore[override]
        self,
        *,
        similarity_top_k: int | None = None,
        image_similarity_top_k: int | None = None,
        filters: MetadataFilters | None = None,
        node_ids: list[str] | None = None,
        doc_ids: list[str] | None = None,
        query_mode: QueryMode | None = None,
        similarity_cutoff: float | None = None,
        vector_store_query_mode: VectorStoreQueryMode | str | None = None,
        alpha: float | None = None,
        sparse_top_k: int | None = None,
        mmr_threshold: float | None = None,
        vector_store_kwargs: Mapping[str, Any] | None = None,
        language: Language | None = None,
        metadata_keys: Collection[str] | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> ImageRetriever:
        """Return a retriever by words and images.

        The arguments are those of ``ImageRetriever``; ``None`` stands for its default. ``vector_store_query_mode`` is
        ``"default"``, whose scores are cosines, or ``"hybrid"`` where images have texts that are not in their vectors:
        captions with ``caption_weight`` 0, long captions, and page texts.

        Raises:
            TypeError: An argument is not known; the message names the likely one.
            ValueError: A mode, number or language is not possible.

        Examples:
            >>> retriever = index.as_retriever(similarity_top_k=1)
            >>> [(result.node.text, f"{result.score:.2f}") for result in retriever.retrieve("红苹果")]
            [('红苹果', '0.96')]
        """
        # None stands for the default, as elsewhere in LlamaIndex. This line comes first: it sees the arguments alone.
        given = {name: value for name, value in locals().items() if name != "self" and value is not None}
        given.setdefault("vector_store_query_mode", self._query_mode())
        return ImageRetriever(self, **given)

    # LlamaIndex returns its deprecated engine here, which drops captions.
    def as_query_engine(  # type: ignore[override]
        self, llm: LLMType | None = None, **options: Unpack[QueryEngineOptions]
    ) -> ImageQueryEngine:
        """Return an engine that answers from the images and texts found.

        Args:
            llm: A multimodal chat LLM; by default ``Settings.llm`` if one was set, else ``ZhipuMultiModal()``.
            **options: Arguments of ``as_retriever`` and of ``ImageQueryEngine.from_args`` (``language``, ``streaming``,
                ``response_mode``, ``node_postprocessors``, ``include_images``, ``query_rewrite``, …).

        Raises:
            TypeError: An argument is not known; the message names the likely one.

        Examples:
            >>> response = index.as_query_engine(llm, similarity_top_k=1).query("红苹果")
            >>> [node.text for node in response.source_nodes], list(response.metadata["citations"])
            (['红苹果'], ['图1'])
        """
        return make_query_engine(self.as_retriever, llm, options)

    # LlamaIndex's engines of these modes drop captions.
    def as_chat_engine(  # type: ignore[override]
        self,
        chat_mode: ChatMode | str = ChatMode.BEST,
        llm: LLMType | None = None,
        **options: Unpack[ChatEngineOptions],
    ) -> BaseChatEngine:
        """Return an engine that answers from the images and texts found, over several turns.

        Args:
            chat_mode: ``"context"`` retrieves by each message as it is. ``"condense_plus_context"``, the default, has
                the LLM condense message and history to a question first. ``"condense_question"`` asks the query engine
                this question. ``"simple"`` answers without sources. The user's images stay in the history.
            llm: As in ``as_query_engine``.
            **options: Arguments of ``as_retriever`` and of the mode's engine: ``language``, ``include_images``,
                ``metadata_keys``, ``on_error``, ``query_rewrite``, ``chat_content_qa_template``; ``system_prompt``,
                ``memory``, ``chat_history``, ``node_postprocessors`` and the like of LlamaIndex.

        Raises:
            TypeError: The mode's engine does not know an argument; the message names the likely one.
            ValueError: The mode does not exist.

        Examples:
            >>> engine = index.as_chat_engine("context", llm, similarity_top_k=1)
            >>> [node.text for node in engine.chat("红苹果").source_nodes]
            ['红苹果']
            >>> [node.text for node in engine.chat("帆船呢？").source_nodes], len(engine.chat_history)
            (['帆船'], 4)
        """
        mode = member_of(ChatMode, chat_mode, "chat_mode")
        return make_chat_engine(self.as_retriever, mode, llm, options) or super().as_chat_engine(
            mode, llm_or_default(llm)
        )

    def build_index_from_nodes(self, nodes: Sequence[BaseNode]) -> IndexDict:  # type: ignore[override]
        """Index all nodes: LlamaIndex's own would drop images without caption and metadata."""
        if nodes:
            self._write([nodes], is_stream=False)
        return self.index_struct_cls()

    @explicit_arguments
    def insert(self, document: IndexItem, *, show_progress: bool = False) -> None:  # type: ignore[override]
        """Insert a document, an image in any form, or a folder of images; texts are split.

        Raises:
            ImageError: An image cannot be read, with ``on_error="raise"``; what was inserted before it is stored.
            StoreError: A store cannot be written to.
            TypeError: An item is neither a node nor an image.
            ValueError: A file is not an image; the message names the reader for it.

        Examples:
            >>> from llama_index.core import Document
            >>> index = build_index("images", embed_model)
            >>> index.insert("query.jpg")
            >>> index.insert(Document(text="苹果每斤 10 元。"))
            >>> index.image_store.count(), index.text_store.count()
            (13, 1)
        """
        found = nodes_of(list(items_of(document)), self.skipped, on_error=self._destination.on_error)
        self._insert_nodes(transformed(found, self.transformations), show_progress=show_progress)
        for node in found:
            if isinstance(node, Document) and not has_image(node):
                self.docstore.set_document_hash(node.id_, node.hash)

    async def ainsert(self, document: IndexItem, *, show_progress: bool = False) -> None:  # type: ignore[override]
        """As ``insert``, in a worker thread."""
        await asyncio.to_thread(self.insert, document, show_progress=show_progress)

    @explicit_arguments
    def insert_nodes(self, nodes: IndexInput, *, show_progress: bool = False) -> None:  # type: ignore[override]
        """Insert nodes, images in any form, or folders of images; documents are taken as nodes, and not split.

        Raises:
            ImageError: An image cannot be read, with ``on_error="raise"``; what was inserted before it is stored.
            StoreError: A store cannot be written to.
            TypeError: An item is neither a node nor an image.
            ValueError: A file is not an image; the message names the reader for it.

        Examples:
            >>> from llama_index.core.schema import ImageNode, TextNode
            >>> apple = ImageNode(image_path="query.jpg", text="红苹果")
            >>> index.insert_nodes([apple, TextNode(text="苹果每斤 10 元。")])
            >>> index.image_store.count(), index.text_store.count()
            (13, 1)
        """
        with ocr_to_follow(self.has_ocr):
            found = nodes_of(list(items_of(nodes)), self.skipped, on_error=self._destination.on_error)
        self._insert_nodes(found, show_progress=show_progress)

    async def ainsert_nodes(self, nodes: IndexInput, *, show_progress: bool = False) -> None:  # type: ignore[override]
        """As ``insert_nodes``, in a worker thread."""
        await asyncio.to_thread(self.insert_nodes, nodes, show_progress=show_progress)

    def insert_batches(self, batches: Iterable[Sequence[BaseNode]]) -> None:
        """Insert nodes batch after batch, with one progress bar for all.

        Whether all images have captions is not known when the first are stored: an index that has recorded no
        ``caption_weight`` takes 0 instead of 0.5.

        Raises:
            ImageError: An image cannot be read, with ``on_error="raise"``; what was inserted before it is stored.
            StoreError: A store cannot be written to.
            TypeError: A batch is not a list of nodes; the batches before it are stored.

        Examples:
            >>> index = build_index(nodes[:2], embed_model)
            >>> index.insert_batches([nodes[2:7], nodes[7:]])
            >>> index.image_store.count()
            12
        """
        with ocr_to_follow(self.has_ocr):
            self._write(map(as_nodes, batches), is_stream=True)

    def insert_embedded(self, nodes: Sequence[BaseNode], *, caption_weight: float | None = None) -> None:
        """Insert nodes that have their vectors, such as those of ``embed_nodes``: nothing is embedded.

        Args:
            nodes: Images and texts with ``embedding`` set.
            caption_weight: Share of captions in the vectors of images. None takes that of ``embed_nodes``, otherwise
                the recorded weight, or 0 if the index holds no image.

        Raises:
            ModelMismatchError: ``embed_nodes`` used another model than the index; nothing is stored.
            TypeError: Something is not a node; nothing is stored.
            ValueError: A node has no vector, or the index holds images with another caption weight; nothing is stored.

        Examples:
            >>> index = build_index(nodes[:2], embed_model)
            >>> index.insert_embedded(embed_nodes(nodes[2:], embed_model))
            >>> index.image_store.count()
            12
        """
        if isinstance(nodes, EmbeddedNodes):
            require_fingerprint(nodes.fingerprint, self._destination.image_model)
            caption_weight = nodes.caption_weight if caption_weight is None else caption_weight
        without = next((node.node_id for node in as_nodes(nodes) if node.embedding is None), None)
        if without is not None:
            raise ValueError(f"node {without} has no embedding; embed_nodes(nodes, embed_model) makes them")
        recorded = self.caption_weight
        weight = caption_weight if caption_weight is not None else recorded or 0.0
        if recorded is not None and weight != recorded:
            raise ValueError(
                f"the vectors were made with caption_weight {weight}, and those of the index with {recorded}; "
                f"embed the nodes with caption_weight={recorded}"
            )
        self._insert_nodes(list(nodes), embedded_with=weight)

    def _insert_nodes(
        self, nodes: Sequence[BaseNode], *, show_progress: bool = False, embedded_with: float | None = None
    ) -> None:
        with self._traces.as_trace("insert_nodes"):
            self._write([nodes], is_stream=False, show_progress=show_progress, embedded_with=embedded_with)
            self.storage_context.index_store.add_index_struct(self.index_struct)

    def _write(
        self,
        batches: Iterable[Sequence[BaseNode]],
        *,
        is_stream: bool,
        show_progress: bool = False,
        embedded_with: float | None = None,
    ) -> None:
        shown = show_progress or self._with_progress
        writer = NodeWriter(self._destination, self.skipped, is_stream, shown, embedded_with)
        try:
            with writer, image_bar(None, shown and is_stream) as bar:
                for batch in batches:
                    if self._ocr is not None and embedded_with is None:
                        batch = self._ocr(batch, show_progress=shown and not is_stream)
                    writer.write(batch)
                    bar.update(len(batch))
        finally:
            self.kept += writer.kept
            self.written_texts = writer.written_texts

    def update_ref_doc(self, document: Document, **update_kwargs: Any) -> None:
        """Insert a document, then delete the older nodes with its id; nothing is lost if the insertion fails.

        Stores that cannot list nodes delete the older nodes first.

        Examples:
            >>> from llama_index.core import Document
            >>> index.insert(Document(id_="price", text="苹果每斤 10 元。"))
            >>> index.update_ref_doc(Document(id_="price", text="苹果每斤 12 元。"))
            >>> [node.get_content() for node in index.text_store.get_nodes()]
            ['苹果每斤 12 元。']
        """
        require_known("update_ref_doc", update_kwargs, ("insert_kwargs",))
        before = [_ids_of_document(store, document.id_) for store in self._stores]
        self.written_texts = set()
        self.insert(document, **update_kwargs.get("insert_kwargs", {}))
        texts, images = self._stores
        texts.delete_nodes(sorted(before[0] - self.written_texts))
        # An image has the id of its document; a text may have been an image before.
        images.delete_nodes(sorted(before[1] if self.written_texts else before[1] - {document.id_}))

    async def aupdate_ref_doc(self, document: Document, **update_kwargs: Any) -> None:
        """As ``update_ref_doc``, in a worker thread."""
        await asyncio.to_thread(self.update_ref_doc, document, **update_kwargs)

    def refresh_ref_docs(self, documents: Sequence[Document], **update_kwargs: Any) -> list[bool]:
        """Insert the documents that are new or changed, compared by their ids.

        Returns:
            Whether each document was written. Unchanged texts are not embedded again, nor are images whose content is
            known (see ``build_index``).

        Examples:
            >>> from llama_index.core import Document
            >>> documents = [Document(id_="price", text="苹果每斤 10 元。"), Document(id_="origin", text="产地：烟台")]
            >>> index.refresh_ref_docs(documents)
            [True, True]
            >>> documents[0] = Document(id_="price", text="苹果每斤 12 元。")
            >>> index.refresh_ref_docs(documents)
            [True, False]
        """
        return [self._refresh(document, **update_kwargs) for document in documents]

    async def arefresh_ref_docs(self, documents: Sequence[Document], **update_kwargs: Any) -> list[bool]:
        """As ``refresh_ref_docs``, in a worker thread."""
        return await asyncio.to_thread(self.refresh_ref_docs, documents, **update_kwargs)

    def _refresh(self, document: Document, **update_kwargs: Any) -> bool:
        if not all(store.lists_nodes for store in self._stores):
            self.update_ref_doc(document, **update_kwargs)
            return True
        texts, images = (store.get_nodes_of_document(document.id_) for store in self._stores)
        if texts and not images and is_stored_alike(document, texts):
            return False
        self.update_ref_doc(document, **update_kwargs)
        return bool(self.written_texts) or images != self._destination.images.get_nodes_of_document(document.id_)

    def delete_ref_doc(self, ref_doc_id: str, delete_from_docstore: bool = False) -> None:  # type: ignore[override]
        """Delete all nodes of a document, images and texts; an unknown id is no error.

        Examples:
            >>> from llama_index.core import Document
            >>> index.insert(Document(id_="price", text="苹果每斤 10 元。"))
            >>> index.delete_ref_doc("price")
            >>> index.text_store.is_empty()
            True
        """
        for store in self._stores:
            store.delete(ref_doc_id)
        if delete_from_docstore:
            self.docstore.delete_ref_doc(ref_doc_id, raise_error=False)

    async def adelete_ref_doc(self, ref_doc_id: str, delete_from_docstore: bool = False) -> None:  # type: ignore[override]
        """As ``delete_ref_doc``, in a worker thread."""
        await asyncio.to_thread(self.delete_ref_doc, ref_doc_id, delete_from_docstore)

    def delete_nodes(self, node_ids: list[str], delete_from_docstore: bool = False) -> None:  # type: ignore[override]
        """Delete nodes by id, images and texts; unknown ids are ignored.

        Examples:
            >>> index.delete_nodes([nodes[0].node_id, "unknown"])
            >>> index.image_store.count()
            11
        """
        node_ids = as_ids(node_ids, "node_ids") or []
        for store in self._stores:
            store.delete_nodes(node_ids)
        if delete_from_docstore:
            for node_id in node_ids:
                self.docstore.delete_document(node_id, raise_error=False)

    async def adelete_nodes(self, node_ids: list[str], delete_from_docstore: bool = False) -> None:  # type: ignore[override]
        """As ``delete_nodes``, in a worker thread."""
        await asyncio.to_thread(self.delete_nodes, node_ids, delete_from_docstore)

    def checkpoint(self) -> None:
        """Write the stores' faiss caches, so that the next opening is fast. Nodes are on disk without it.

        Examples:
            >>> index = build_index(nodes, embed_model, persist_dir="storage")
            >>> index.checkpoint()
        """
        for store in self._stores:
            store.checkpoint()

    def close(self) -> None:
        """Checkpoint and close the stores; the index cannot be used afterwards.

        Examples:
            >>> index = build_index(nodes, embed_model, persist_dir="storage")
            >>> index.close()
            >>> load_index("storage").image_store.count()
            12
        """
        for store in self._stores:
            store.close()

    def _query_mode(self) -> VectorStoreQueryMode:
        texts_apart = has_texts_apart(self._destination.images)
        return VectorStoreQueryMode.HYBRID if texts_apart else VectorStoreQueryMode.DEFAULT


def _ids_of_document(store: IndexStore, ref_doc_id: str) -> set[str]:
    """Return the ids of a document's nodes; none after deleting them, if the store cannot list them."""
    if store.lists_nodes:
        return {node.node_id for node in store.get_nodes_of_document(ref_doc_id)}
    store.delete(ref_doc_id)
    return set()


register_index(ImageIndex)
