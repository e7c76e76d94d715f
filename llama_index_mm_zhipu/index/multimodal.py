"""``ImageIndex``: core's multimodal index without its traps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from llama_index.core import Settings, StorageContext
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.chat_engine.types import BaseChatEngine, ChatMode
from llama_index.core.data_structs.data_structs import IndexDict
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.llms.utils import LLMType
from llama_index.core.schema import BaseNode, Document, ImageNode
from llama_index.core.utils import iter_batch
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from tqdm.auto import tqdm
from typing_extensions import Unpack

from llama_index_mm_zhipu.arguments import as_ids, chosen, keyword_names, member_of, require_known
from llama_index_mm_zhipu.embedding.nodes import Outcome, embed_text_nodes, failure_of, image_bar, stream_image_nodes
from llama_index_mm_zhipu.images import ImageError, has_image
from llama_index_mm_zhipu.images.nodes import as_image_node
from llama_index_mm_zhipu.index.input import IndexInput, IndexItem, items_of, nltk_errors_explained, nodes_of
from llama_index_mm_zhipu.index.stored_files import with_stored_vectors
from llama_index_mm_zhipu.index.stores import (
    ImageIndexStruct,
    faiss_store,
    fingerprint_of,
    follow_caption_weight,
    is_stored_alike,
    own_stores,
    recorded_weight,
    register_index,
)
from llama_index_mm_zhipu.index.update import ImageUpdate, ImageUpdater
from llama_index_mm_zhipu.llm.llm import llm_or_default
from llama_index_mm_zhipu.query.chat import ImageCondensePlusContextChatEngine, ImageContextChatEngine
from llama_index_mm_zhipu.query.engine import ImageQueryEngine
from llama_index_mm_zhipu.query.options import (
    ChatEngineOptions,
    QueryEngineOptions,
    RetrieverOptions,
    SynthesisOptions,
)
from llama_index_mm_zhipu.query.retriever import ImageRetriever
from llama_index_mm_zhipu.query.simple_chat import ImageCondenseQuestionChatEngine, ImageSimpleChatEngine
from llama_index_mm_zhipu.query.synthesizer import require_no_text_templates, without_text_templates
from llama_index_mm_zhipu.types import OnError
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store.nodes import storable_node

logger = logging.getLogger(__name__)

# Compared with the store together: some queries for all of them, and their vectors in memory.
_PLANNED_AT_A_TIME = 1_000

# Those of LlamaIndex's classes, which swallow others; "show_progress" and the like are declared by several.
_CONSTRUCTOR = frozenset[str]().union(
    *(keyword_names(each.__init__) for each in MultiModalVectorStoreIndex.__mro__[:3])  # type: ignore[misc]
)
_CHAT_ENGINES: dict[ChatMode, type[ImageContextChatEngine] | type[ImageCondensePlusContextChatEngine]] = {
    ChatMode.CONTEXT: ImageContextChatEngine,
    ChatMode.CONDENSE_PLUS_CONTEXT: ImageCondensePlusContextChatEngine,
    ChatMode.BEST: ImageCondensePlusContextChatEngine,
}


class ImageIndex(MultiModalVectorStoreIndex):
    """A ``MultiModalVectorStoreIndex`` over two ``FaissMultiModalVectorStore`` objects, without core's traps.

    Each image is stored once, captions or not; what is empty is asked of the stores; deletions reach both of them;
    the query engine shows captions to the LLM.

    Attributes:
        skipped: Message by id of the nodes left out because of ``on_error="skip"``.
        written_texts: Ids of the texts that the last insert wrote.
        kept: How many images were not embedded again, as the store had them with the same content and caption.
    """

    index_struct_cls = ImageIndexStruct

    def __init__(
        self,
        nodes: Sequence[BaseNode] | None = None,
        index_struct: Any = None,
        embed_model: BaseEmbedding | None = None,
        storage_context: StorageContext | None = None,
        *,
        caption_weight: float | None = None,
        on_error: OnError = "raise",
        **kwargs: Any,
    ) -> None:
        self.skipped: dict[str, str] = {}
        self.kept = 0
        self._caption_weight = caption_weight
        self._on_error = on_error
        # What was said of captions while batches come in: None for a single insert, which sees all of its images.
        self._said: set[str] | None = None
        self._updater: ImageUpdater | None = None
        self.written_texts: set[str] = set()
        require_known("ImageIndex", kwargs, _CONSTRUCTOR)
        stores = own_stores(storage_context, kwargs.get("image_vector_store"))
        embed_model = embed_model or Settings._embed_model
        image_model = kwargs.pop("image_embed_model", None)
        # LlamaIndex's default is the name of OpenAI's CLIP.
        image_model = embed_model if image_model is None or isinstance(image_model, str) else image_model
        if not isinstance(image_model, MultiModalEmbedding) or not isinstance(embed_model, BaseEmbedding):
            raise TypeError("give embed_model=ChineseClipEmbedding(…), the model of this index")
        if index_struct is not None:
            for store, model in zip(stores, (embed_model, image_model), strict=True):
                store.require_model(fingerprint_of(model))
        super().__init__(
            nodes=nodes,
            index_struct=index_struct,
            embed_model=embed_model,
            storage_context=storage_context,
            image_embed_model=image_model,
            **kwargs,
        )

    @property
    def is_image_vector_store_empty(self) -> bool:
        """Whether there is no image to find, as the store says now."""
        return self.image_store.count() == 0

    @property
    def is_text_vector_store_empty(self) -> bool:
        """Whether there is no text to find, as the store says now."""
        return self.text_store.count() == 0

    @property
    def caption_weight(self) -> float | None:
        """Share of captions in the images' vectors, as recorded in the store; None before the first image."""
        return recorded_weight(self.image_store)

    def as_retriever(self, **options: Unpack[RetrieverOptions]) -> ImageRetriever:  # type: ignore[override]
        """Return a retriever by words and images.

        Args:
            **options: Of ``ImageRetriever``. ``vector_store_query_mode`` is ``"default"``, whose scores are cosines,
                or, where captions are not in the vectors (``caption_weight`` 0), ``"hybrid"``, which finds them by
                full text and scores by reciprocal ranks; with a ``similarity_cutoff`` it is ``"default"``.

        Raises:
            TypeError: A name is not known; the message says which one is meant.
        """
        require_known("as_retriever", options, RetrieverOptions.__optional_keys__)
        # None stands for the default, as elsewhere in LlamaIndex.
        options = {name: value for name, value in options.items() if value is not None}  # type: ignore[assignment]
        mode = options.get("vector_store_query_mode") or self._query_mode(options.get("similarity_cutoff"))
        arguments: dict[str, Any] = {**options, "vector_store_query_mode": mode}
        return ImageRetriever(self, **arguments)

    # Core returns its deprecated engine here, which drops captions.
    def as_query_engine(  # type: ignore[override]
        self, llm: LLMType | None = None, **options: Unpack[QueryEngineOptions]
    ) -> ImageQueryEngine:
        """Return an engine that answers from the images and texts found.

        Args:
            llm: A multimodal chat LLM; by default ``Settings.llm`` if one was set, else ``ZhipuMultiModal()``.
            **options: Of ``as_retriever`` and of ``ImageQueryEngine.from_args`` (``language``, ``streaming``,
                ``response_mode``, ``node_postprocessors``, ``include_images``, …).

        Raises:
            TypeError: A name is not known; the message says which one is meant.
        """
        given = without_text_templates(options)
        require_known("as_query_engine", given, {*QueryEngineOptions.__optional_keys__, "llm"})
        retriever = self.as_retriever(**chosen(given, RetrieverOptions.__optional_keys__))
        return ImageQueryEngine.from_args(retriever, llm, **chosen(given, SynthesisOptions.__optional_keys__))

    # Core's engines of these modes drop captions.
    def as_chat_engine(  # type: ignore[override]
        self,
        chat_mode: ChatMode | str = ChatMode.BEST,
        llm: LLMType | None = None,
        **options: Unpack[ChatEngineOptions],
    ) -> BaseChatEngine:
        """Return an engine that answers from the images and texts found, over several turns.

        Args:
            chat_mode: ``"context"`` looks for sources by each message as it is; ``"condense_plus_context"``, the
                default, has the LLM make a question of message and history first. ``"condense_question"`` asks the
                query engine so, and ``"simple"`` answers without sources. The user's images stay in the history.
            llm: As in ``as_query_engine``.
            **options: Of ``as_retriever`` and of the mode's engine: ``language``, ``include_images``,
                ``metadata_keys``, ``on_error``, ``chat_content_qa_template``; ``system_prompt``, ``memory``,
                ``chat_history``, ``node_postprocessors`` and the like of LlamaIndex.

        Raises:
            TypeError: The mode's engine does not know a name; the message says which one is meant.
            ValueError: There is no such mode.
        """
        require_no_text_templates(name for name, value in options.items() if value is not None)
        mode = member_of(ChatMode, chat_mode, "chat_mode")
        if mode == ChatMode.SIMPLE:
            self._require_known_to_chat(mode, options, ImageSimpleChatEngine)
            names = _chat_names(ImageSimpleChatEngine)
            return ImageSimpleChatEngine.with_history(llm=llm_or_default(llm), **chosen(options, names))
        if mode == ChatMode.CONDENSE_QUESTION:
            engine = ImageCondenseQuestionChatEngine
            self._require_known_to_chat(mode, options, engine, QueryEngineOptions.__optional_keys__)
            llm = llm_or_default(llm)
            query_engine = self.as_query_engine(llm, **chosen(options, QueryEngineOptions.__optional_keys__))
            return engine.with_history(query_engine=query_engine, llm=llm, **chosen(options, _chat_names(engine)))
        own_engine = _CHAT_ENGINES.get(mode)
        if own_engine is None:
            return super().as_chat_engine(mode, llm_or_default(llm))
        self._require_known_to_chat(mode, options, own_engine, RetrieverOptions.__optional_keys__)
        retriever = self.as_retriever(**chosen(options, RetrieverOptions.__optional_keys__))
        llm = llm_or_default(llm)
        return own_engine.from_defaults(retriever, multi_modal_llm=llm, **chosen(options, _chat_names(own_engine)))

    @staticmethod
    def _require_known_to_chat(
        mode: ChatMode, options: Mapping[str, Any], engine: type[BaseChatEngine], names: Collection[str] = ()
    ) -> None:
        known = {*_chat_names(engine), *names, "llm", "chat_mode"}
        streams = "stream" in options or "streaming" in options
        advice = "a chat engine streams its answer by stream_chat(message)" if streams else ""
        require_known(f"as_chat_engine({mode.value!r})", options, known, advice)

    def build_index_from_nodes(self, nodes: Sequence[BaseNode], **insert_kwargs: Any) -> IndexDict:
        """Index all nodes: core would drop images without caption and metadata."""
        return self._build_index_from_nodes(nodes, **insert_kwargs)

    def insert_batches(self, batches: Iterable[Sequence[BaseNode]]) -> None:
        """Insert nodes batch after batch, with one progress bar for all.

        Whether all images have captions is not known when the first are stored: an index that has recorded no
        ``caption_weight`` takes 0 instead of 0.5.
        """
        show_progress = self._show_progress
        self._said, self.written_texts, self._show_progress = set(), set(), False
        updater = self._updater = ImageUpdater(self.image_store)
        try:
            with image_bar(None, show_progress) as bar:
                for batch in batches:
                    self.insert_nodes(batch)
                    bar.update(len(batch))
        finally:
            self._said, self._updater, self._show_progress = None, None, show_progress
            updater.warn()

    def insert(self, document: IndexItem, **insert_kwargs: Any) -> None:
        """Insert a document, an image in any form, or a folder of images; texts are split."""
        found = nodes_of(list(items_of(document)), self.skipped, on_error=self._on_error)
        texts = [node for node in found if isinstance(node, Document) and not has_image(node)]
        if others := [node for node in found if has_image(node) or not isinstance(node, Document)]:
            self.insert_nodes(others, **insert_kwargs)
        for text in texts:
            with nltk_errors_explained():
                super().insert(text, **insert_kwargs)

    def insert_nodes(self, nodes: IndexInput, **insert_kwargs: Any) -> None:
        """Insert nodes, images in any form, or folders of images; documents are taken as nodes, and not split."""
        super().insert_nodes(nodes_of(list(items_of(nodes)), self.skipped, on_error=self._on_error), **insert_kwargs)

    async def ainsert_nodes(self, nodes: IndexInput, **insert_kwargs: Any) -> None:
        """As ``insert_nodes``, in a worker thread."""
        await asyncio.to_thread(self.insert_nodes, nodes, **insert_kwargs)

    async def ainsert(self, document: IndexItem, **insert_kwargs: Any) -> None:
        """As ``insert``, in a worker thread."""
        await asyncio.to_thread(self.insert, document, **insert_kwargs)

    def update_ref_doc(self, document: Document, **update_kwargs: Any) -> None:
        """Insert a document, and delete what else there is of its id: nothing is lost where the insertion fails."""
        require_known("update_ref_doc", update_kwargs, ("insert_kwargs",))
        before = [
            {node.node_id for node in store.get_nodes_of_document(document.id_)}
            for store in (self.text_store, self.image_store)
        ]
        self.written_texts = set()
        self.insert(document, **update_kwargs.get("insert_kwargs", {}))
        texts, images = self.text_store, self.image_store
        texts.delete_nodes(sorted(before[0] - self.written_texts))
        # An image has the id of its document; a text may have been an image before.
        images.delete_nodes(sorted(before[1] if self.written_texts else before[1] - {document.id_}))

    async def aupdate_ref_doc(self, document: Document, **update_kwargs: Any) -> None:
        """As ``update_ref_doc``, in a worker thread."""
        await asyncio.to_thread(self.update_ref_doc, document, **update_kwargs)

    def refresh_ref_docs(self, documents: Sequence[Document], **update_kwargs: Any) -> list[bool]:
        """Insert the documents that are new or have changed, which their ids tell.

        Returns:
            Whether each was written. Texts that have not changed are not embedded again, nor are images whose content
            is known (see ``build_index``).
        """
        return [self._refresh(document, **update_kwargs) for document in documents]

    async def arefresh_ref_docs(self, documents: Sequence[Document], **update_kwargs: Any) -> list[bool]:
        """As ``refresh_ref_docs``, in a worker thread."""
        return await asyncio.to_thread(self.refresh_ref_docs, documents, **update_kwargs)

    def _refresh(self, document: Document, **update_kwargs: Any) -> bool:
        texts, images = (store.get_nodes_of_document(document.id_) for store in (self.text_store, self.image_store))
        if texts and not images and is_stored_alike(document, texts):
            return False
        self.update_ref_doc(document, **update_kwargs)
        return bool(self.written_texts) or images != self.image_store.get_nodes_of_document(document.id_)

    def delete_ref_doc(self, ref_doc_id: str, delete_from_docstore: bool = False, **delete_kwargs: Any) -> None:
        """Delete all nodes of a document, images and texts; none is no error."""
        for store in (self.text_store, self.image_store):
            store.delete(ref_doc_id, **delete_kwargs)
        if delete_from_docstore:
            self._docstore.delete_ref_doc(ref_doc_id, raise_error=False)

    async def adelete_ref_doc(self, ref_doc_id: str, delete_from_docstore: bool = False, **delete_kwargs: Any) -> None:
        """As ``delete_ref_doc``, in a worker thread."""
        await asyncio.to_thread(self.delete_ref_doc, ref_doc_id, delete_from_docstore, **delete_kwargs)

    def delete_nodes(self, node_ids: list[str], delete_from_docstore: bool = False, **delete_kwargs: Any) -> None:
        """Delete nodes by id, images and texts; ids that are not there are passed over."""
        node_ids = as_ids(node_ids, "node_ids") or []
        for store in (self.text_store, self.image_store):
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
        for store in (self.text_store, self.image_store):
            if store.persist_dir is not None:
                store.persist()

    def close(self) -> None:
        """Checkpoint and close the stores; the index cannot be used any more."""
        for store in (self.text_store, self.image_store):
            store.close()

    def _query_mode(self, similarity_cutoff: float | None) -> VectorStoreQueryMode:
        if similarity_cutoff is not None:
            return VectorStoreQueryMode.DEFAULT
        store = self.image_store
        captions_apart = self.caption_weight == 0 and store.has_texts()
        return VectorStoreQueryMode.HYBRID if captions_apart else VectorStoreQueryMode.DEFAULT

    @property
    def text_store(self) -> FaissMultiModalVectorStore:
        """The store of texts."""
        return faiss_store(self._vector_store)

    @property
    def image_store(self) -> FaissMultiModalVectorStore:
        """The store of images."""
        return faiss_store(self._image_vector_store)

    def _add_nodes_to_index(
        self, index_struct: IndexDict, nodes: Sequence[BaseNode], show_progress: bool = False, **insert_kwargs: Any
    ) -> None:
        nodes = self._storable(nodes)
        images = [as_image_node(node) for node in nodes if has_image(node)]
        texts = [node for node in nodes if not has_image(node) and node.get_content()]
        show_progress = show_progress or self._show_progress
        if images:
            self._add_images(images, show_progress, **insert_kwargs)
        if texts:
            if self._said is None:
                self.written_texts = set()
            texts = with_stored_vectors(self.text_store, texts, self.written_texts)
        for batch in self._batches(texts, "Embedding texts", show_progress):
            self._vector_store.add(self._embedded_texts(batch), **insert_kwargs)

    async def _async_add_nodes_to_index(
        self, index_struct: IndexDict, nodes: Sequence[BaseNode], show_progress: bool = False, **insert_kwargs: Any
    ) -> None:
        await asyncio.to_thread(self._add_nodes_to_index, index_struct, nodes, show_progress, **insert_kwargs)

    def _storable(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return the nodes that the stores can hold, so that no image is embedded in vain.

        Raises:
            ValueError: One cannot be stored, with ``on_error="raise"``.
        """
        storable = []
        for node in nodes:
            try:
                storable.append(storable_node(node).node)
            except ValueError as error:
                if self._on_error == "raise":
                    raise
                self.skipped[node.node_id] = str(error)
                logger.warning("skipped %s", error)
        return storable

    def _batches(self, nodes: Sequence[BaseNode], title: str, show_progress: bool) -> Iterator[list[BaseNode]]:
        with tqdm(total=len(nodes), desc=title, disable=not (show_progress and nodes)) as bar:
            for batch in iter_batch(nodes, self._insert_batch_size):
                yield batch
                bar.update(len(batch))

    def _add_images(self, images: Sequence[ImageNode], show_progress: bool, **insert_kwargs: Any) -> None:
        weight = follow_caption_weight(
            self.image_store,
            images,
            self._caption_weight,
            is_stream=self._said is not None,
            warn=self._warn,
        )
        updater = self._updater or ImageUpdater(self.image_store)
        with image_bar(len(images), show_progress) as bar:
            for batch in iter_batch(images, max(_PLANNED_AT_A_TIME, self._insert_batch_size)):
                update = updater.plan(list(batch))
                self.kept += update.kept
                bar.update(len(batch) - len(update.to_embed))
                self._write_images(update, weight, bar, **insert_kwargs)
        if self._updater is None:
            updater.warn()

    def _write_images(self, update: ImageUpdate, weight: float, bar: tqdm[None], **insert_kwargs: Any) -> None:
        done: list[BaseNode] = list(update.with_vectors)
        outcomes = stream_image_nodes(self._image_embed_model, update.to_embed, weight)
        try:
            with closing(outcomes):
                for node, outcome in outcomes:
                    done.extend(self._with_embedding(node, outcome))
                    if len(done) >= self._insert_batch_size:
                        self._image_vector_store.add(done, **insert_kwargs)
                        done = []
                    bar.update()
        except KeyboardInterrupt:
            logger.warning("interrupted: the images embedded so far are stored; insert the others again")
            raise
        finally:
            # After an error or Ctrl-C, too: what was embedded is not lost.
            self._image_vector_store.add(done, **insert_kwargs)

    def _with_embedding(self, node: BaseNode, outcome: Outcome) -> list[BaseNode]:
        """Return a copy with its vector, the caller's node stays as it was; nothing for an image to be skipped."""
        if not isinstance(outcome, ImageError):
            return [node.model_copy(update={"embedding": outcome.tolist()})]
        if self._on_error == "raise":
            raise failure_of(node, outcome)
        self.skipped[node.node_id] = str(outcome)
        logger.warning("skipped %s", failure_of(node, outcome))
        return []

    def _embedded_texts(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        ready = [node for node in nodes if node.embedding is not None]
        waiting = [node for node in nodes if node.embedding is None]
        vectors = embed_text_nodes(self._embed_model, waiting)
        embedded = zip(waiting, vectors, strict=True)
        # Copies: the caller's nodes stay as they were.
        return [*ready, *(node.model_copy(update={"embedding": vector}) for node, vector in embedded)]

    def _warn(self, message: str, *args: object) -> None:
        """Warn, once for all batches of an ``insert_batches``."""
        if self._said is None or message not in self._said:
            logger.warning(message, *args)
        if self._said is not None:
            self._said.add(message)


register_index(ImageIndex)


def _chat_names(engine: type[BaseChatEngine]) -> frozenset[str]:
    """Return what a chat engine can be told, besides what the index gives it."""
    # Every chat engine of LlamaIndex has this constructor, and their base class does not declare it.
    names = keyword_names(engine.from_defaults)  # type: ignore[attr-defined]
    return names - {"retriever", "query_engine", "llm", "multi_modal_llm"}
