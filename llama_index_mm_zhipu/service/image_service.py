"""``ImageService``: search, ask, look, add and status of one index, for programs that show them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index.core.chat_engine.types import BaseChatEngine
from llama_index.core.llms.utils import LLMType
from llama_index.core.memory import BaseMemory
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQueryMode

from llama_index_mm_zhipu.arguments import as_path, require_positive
from llama_index_mm_zhipu.display import Gallery, show
from llama_index_mm_zhipu.embedding import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding.backends import Precision
from llama_index_mm_zhipu.embedding.references import model_of
from llama_index_mm_zhipu.images import ImageSource, encode_image, has_image, load_within
from llama_index_mm_zhipu.index.build import build_from_reader, create_index, has_index, load_index
from llama_index_mm_zhipu.index.fill import fill_index
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.llm.llm import llm_or_default
from llama_index_mm_zhipu.prompts.wording import language_of_text
from llama_index_mm_zhipu.query.chat import chat_memory
from llama_index_mm_zhipu.query.labels import number_images
from llama_index_mm_zhipu.query.question import image_question
from llama_index_mm_zhipu.readers.records import FILE_NAME, SOURCE_ROOT, Source
from llama_index_mm_zhipu.service.adding import reader_of, report_of
from llama_index_mm_zhipu.service.answers import AnswerStream, ChatSession, SourceOptions
from llama_index_mm_zhipu.service.conversion import lines_of, result_of, results_of
from llama_index_mm_zhipu.service.filters import parse_filters
from llama_index_mm_zhipu.service.inputs import IndexInputs
from llama_index_mm_zhipu.service.lookup import filter_options, image_with_id, types_of_values
from llama_index_mm_zhipu.service.results import FilterOption, ImageDetails, IndexReport, SearchResult, StoredImage
from llama_index_mm_zhipu.service.status import IndexStatus, status_of
from llama_index_mm_zhipu.store_file import EMBED_MODEL, IMAGES_FILE, read_store_file
from llama_index_mm_zhipu.types import Language

DEFAULT_MODEL = "ViT-B-16"
"""Embedding model of a new index."""

MAX_SIDE = 1024
"""Default for the longer side of an image that is looked at, in pixels."""


@dataclass(frozen=True)
class SearchResults:
    """What a search found.

    Attributes:
        results: The results as plain data, best first; texts come before images.
        nodes: The same as LlamaIndex's nodes.
        question: The words and the image that were searched for.

    Examples:
        >>> from llama_index_mm_zhipu.service.image_service import ImageService
        >>> found = ImageService(index).search("红苹果", similarity_top_k=2)
        >>> [result.caption for result in found.results] == [node.node.text for node in found.nodes]
        True
        >>> found.gallery().title
        '红苹果'
    """

    results: list[SearchResult]
    nodes: list[NodeWithScore]
    question: QueryBundle

    def gallery(self, language: Language | None = None) -> Gallery:
        """Return the results as a page.

        Examples:
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> found = ImageService(index).search("红苹果")
            >>> found.gallery("en").save("results.html").name
            'results.html'
        """
        return show(self.question, self.nodes, language=language)


class ImageService:
    """Search, ask, look, add and status of one index.

    Threads may share a service.

    Args:
        index: An index from ``build_index`` or ``load_index``.
        folder: Folder of the index; None for one that is not in a folder, which has no status.
        llm: A multimodal chat LLM; by default ``Settings.llm`` if one was set, else ``ZhipuMultiModal()``, made at the
            first question.

    Examples:
        >>> from llama_index_mm_zhipu.service.image_service import ImageService
        >>> service = ImageService(index, llm=llm)
        >>> [found] = service.search("红苹果", similarity_top_k=1).results
        >>> found.caption, f"{found.score:.2f}", found.metadata
        ('红苹果', '0.96', {'file_name': 'apple.jpg', '价格': 10})
        >>> service.ask("红苹果多少钱？", similarity_top_k=1).read().citations == {"图1": nodes[0].node_id}
        True
    """

    def __init__(self, index: ImageIndex, *, folder: Path | None = None, llm: LLMType | None = None) -> None:
        self.index = index
        self.folder = folder
        self._llm = llm
        # The index tells what happened to the nodes that were inserted last.
        self._adding = threading.Lock()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        model: str | Path | None = None,
        device: str = "auto",
        precision: Precision | None = None,
        ocr: bool = False,
        create: bool = False,
        llm: LLMType | None = None,
    ) -> ImageService:
        """Open the index in a folder.

        Args:
            folder: The folder that the index was built in.
            model: Name or path of the Chinese-CLIP model; None takes the one that the index recorded.
            device: As in ``ChineseClipEmbedding``.
            precision: As in ``ChineseClipEmbedding``.
            ocr: Whether the text in images that are added is read, which needs the extra ``ocr``.
            create: Whether to create an empty index if there is none, with ``DEFAULT_MODEL`` by default.
            llm: As in the constructor.

        Raises:
            CheckpointError: The model cannot be found or loaded.
            FileNotFoundError: There is no index in the folder, or its model was moved.
            ImportError: The extra ``ocr`` is not installed.
            ModelMismatchError: The index was built with another model.
            StoreError: The index cannot be opened.
            ValueError: The index is empty, or of an earlier version, and says nothing of its model.

        Examples:
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> build_index(nodes, embed_model, persist_dir="storage").close()
            >>> service = ImageService.open("storage", llm=llm)
            >>> service.status().images
            12
            >>> service.close()
        """
        path = as_path(folder, "folder")
        if not create and not has_index(path):
            raise FileNotFoundError(f"no index in {path}")
        if not create and model is None and _recorded_model(path) is None:
            # The default model might be another one, and would be downloaded for nothing.
            raise ValueError(f"the index in {path} holds no images yet; index some first")
        embed_model = _embedding(path, model, device, precision)
        open_index = load_index if has_index(path) else create_index
        return cls(open_index(path, embed_model, on_error="skip", ocr=ocr), folder=path, llm=llm)

    @classmethod
    def build(
        cls,
        inputs: IndexInputs,
        folder: str | Path,
        *,
        model: str | Path | None = None,
        device: str = "auto",
        precision: Precision | None = None,
        ocr: bool = False,
        remove_missing: bool = False,
        llm: LLMType | None = None,
    ) -> tuple[ImageService, IndexReport]:
        """Build an index in a folder, or add to the one that is there.

        Args:
            inputs: What to index.
            folder: The folder; it is created if it is missing.
            model: As in ``open``; for a new index ``DEFAULT_MODEL`` by default.
            device: As in ``ChineseClipEmbedding``.
            precision: As in ``ChineseClipEmbedding``.
            ocr: Whether the text in images is read, which needs the extra ``ocr``.
            remove_missing: Whether images whose files are gone from the given folders are deleted.
            llm: As in the constructor.

        Returns:
            The service, and what was done.

        Raises:
            CheckpointError: The model cannot be found or loaded.
            ImportError: An extra is missing.
            ModelMismatchError: The index was built with another model.
            StoreError: The index cannot be opened or written to; what was acknowledged is stored.
            ValueError: There is nothing to index.

        Examples:
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> from llama_index_mm_zhipu.service.inputs import IndexInputs
            >>> service, report = ImageService.build(IndexInputs("images"), "storage", model="ViT-B-16")
            >>> report.images, report.new_images, report.skipped
            (12, 12, {})
            >>> service.close()
        """
        started = time.monotonic()
        path = as_path(folder, "folder")
        before = read_store_file(path / IMAGES_FILE).nodes if has_index(path) else 0
        embed_model = _embedding(path, model, device, precision)
        index = build_from_reader(
            # An index that is new is not created for folders without images.
            reader_of(inputs, remove_missing, allow_empty=remove_missing and has_index(path)),
            embed_model,
            persist_dir=path,
            caption_weight=None if before else inputs.caption_weight_for(embed_model),
            ocr=ocr,
        )
        return cls(index, folder=path, llm=llm), report_of(index, inputs, before, started)

    def add(
        self, inputs: IndexInputs, *, remove_missing: bool = False, on_read: Callable[[int], None] | None = None
    ) -> IndexReport:
        """Add to the open index; images that have not changed are not embedded again.

        Args:
            inputs: What to index.
            remove_missing: Whether images whose files are gone from the given folders are deleted.
            on_read: Called with the number of images read so far, as they are read; those before the present batch of
                32 are stored. It may raise an error to stop: what was read is stored, and the error passed on.

        Raises:
            StoreError: The index cannot be written to; what was acknowledged is stored.
            ValueError: There is nothing to index.

        Examples:
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> from llama_index_mm_zhipu.service.inputs import IndexInputs
            >>> service = ImageService(build_index("images", embed_model))
            >>> report = service.add(IndexInputs("query.jpg"))
            >>> report.images, report.new_images
            (13, 1)
        """
        started = time.monotonic()
        with self._adding:
            before = self.index.image_store.count()
            fill_index(self.index, reader_of(inputs, remove_missing, allow_empty=remove_missing, on_read=on_read))
            return report_of(self.index, inputs, before, started)

    def search(
        self,
        words: str = "",
        *,
        image: ImageSource | None = None,
        like: str | None = None,
        similarity_top_k: int = 5,
        filters: Sequence[str] = (),
        mode: VectorStoreQueryMode | str | None = None,
        similarity_cutoff: float | None = None,
    ) -> SearchResults:
        """Find images and texts.

        Args:
            words: Words to search for.
            image: Image to search by, alone or together with words.
            like: Id of an image of the index to search by instead of ``image``; it is left out of the results.
            similarity_top_k: How many images and texts to find.
            filters: Metadata filters, such as ``price>=100``, all of which a result meets; see
                ``service.FILTER_SYNTAX``.
            mode: As ``vector_store_query_mode`` of ``as_retriever``.
            similarity_cutoff: As in ``as_retriever``.

        Raises:
            ImageError: The image cannot be read.
            UnknownNodeError: No image has the id ``like``.
            ValueError: There is nothing to search for, or both ``image`` and ``like``; a filter is not understood or
                matches nothing, or a mode or number is not possible.

        Examples:
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> service = ImageService(index)
            >>> [found.caption for found in service.search("鞋", filters=["价格>=100"]).results]
            ['男鞋', '连衣裙']
            >>> [found.caption for found in service.search(image="query.jpg", similarity_top_k=1).results]
            ['红苹果']
        """
        if like is not None and image is not None:
            raise ValueError("give either an image, or the id of one of the index that others are to be like")
        if like is not None:
            image = image_with_id(self.index.image_store, like)
        if image is None and not words.strip():
            raise ValueError("nothing to search for: give words, an image, or both")
        question = image_question(words, [image]) if image is not None else QueryBundle(words)
        language = language_of_text(words)
        retriever = self.index.as_retriever(
            similarity_top_k=similarity_top_k,
            image_similarity_top_k=similarity_top_k + (like is not None),
            filters=self.parsed_filters(filters),
            vector_store_query_mode=mode,
            similarity_cutoff=similarity_cutoff,
            language=language,
        )
        nodes = retriever.retrieve(question)
        if like is not None:
            nodes = number_images(_without_image(nodes, like, similarity_top_k), language=language)
        return SearchResults(results_of(nodes), nodes, question)

    def ask(
        self,
        question: str,
        *,
        image: ImageSource | None = None,
        similarity_top_k: int = 3,
        filters: Sequence[str] = (),
    ) -> AnswerStream:
        """Answer a question from the images and texts found for it.

        Args:
            question: The words.
            image: An image that the question is about, by which images are searched, too.
            similarity_top_k: How many images and texts the model gets.
            filters: As in ``search``.

        Raises:
            GLMError: The model did not answer.
            ImageError: The image cannot be read.
            ValueError: There is no key for the model, or a filter is not understood or matches nothing.

        Examples:
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> stream = ImageService(index, llm=llm).ask("红苹果多少钱？", similarity_top_k=1)
            >>> for piece in stream:
            ...     print(piece, end="")
            （本地模拟服务，不是模型）问题：红苹果多少钱？
            收到 1 张图片。
            第1张图片：JPEG 128×128，平均颜色 #...；说明：图1（相似度 0.8...）：「红苹果」
        """
        engine = self.index.as_query_engine(
            llm=self._chat_model(),
            similarity_top_k=similarity_top_k,
            filters=self.parsed_filters(filters),
            language=language_of_text(question),
            streaming=True,
        )
        asked = image_question(question, [image]) if image is not None else question
        return AnswerStream(question, engine.query(asked))

    def chat(self, *, similarity_top_k: int = 3, filters: Sequence[str] = ()) -> ChatSession:
        """Begin a conversation.

        Args:
            similarity_top_k: How many images and texts the model gets with each message.
            filters: As in ``search``.

        Raises:
            ValueError: There is no key for the model, or a filter is not understood.

        Examples:
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> chat = ImageService(index, llm=llm).chat(similarity_top_k=1)
            >>> [source.caption for source in chat.ask("红苹果").read().sources]
            ['红苹果']
        """
        llm, options = self._chat_model(), SourceOptions(similarity_top_k, filters)
        # Reports mistakes now.
        self.parsed_filters(filters)

        def engine_with(language: Language, memory: BaseMemory, of_message: SourceOptions) -> BaseChatEngine:
            return self.index.as_chat_engine(
                llm=llm,
                similarity_top_k=of_message.similarity_top_k,
                filters=self.parsed_filters(of_message.filters),
                language=language,
                memory=memory,
            )

        return ChatSession(engine_with, lambda: chat_memory(llm), options)

    def look(self, node_id: str, *, max_side: int = MAX_SIDE) -> StoredImage:
        """Return an image of the index.

        Args:
            node_id: Id of the image.
            max_side: Its longer side in pixels at most, 1024 by default.

        Raises:
            ImageError: The image cannot be read any more.
            UnknownNodeError: No image has this id.
            ValueError: ``max_side`` is not positive.

        Examples:
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> image = ImageService(index).look(nodes[0].node_id, max_side=64)
            >>> image.width, image.height, image.mime_type
            (64, 64, 'image/jpeg')
        """
        require_positive(max_side, "max_side")
        node = image_with_id(self.index.image_store, node_id)
        image = load_within(node, max_side)
        return StoredImage(result_of(node), encode_image(image), image.width, image.height)

    def details(self, node_id: str, words: str = "") -> ImageDetails:
        """Return what is known of an image, with the lines that OCR found in it.

        Args:
            node_id: Id of the image.
            words: Words that were searched for; lines with any of them are marked.

        Raises:
            UnknownNodeError: No image has this id.

        Examples:
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> details = ImageService(index).details(nodes[0].node_id)
            >>> details.result.caption
            '红苹果'
        """
        node = image_with_id(self.index.image_store, node_id)
        return ImageDetails(result_of(node), lines_of(node, words))

    def has_images_of(self, path: Path) -> bool:
        """Return whether the index holds an image that is a file, or that was read from one, such as a page.

        Examples:
            >>> from pathlib import Path
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> service = ImageService(index)
            >>> service.has_images_of(Path("images/apple.jpg")), service.has_images_of(Path("query.jpg"))
            (True, False)
        """
        of_file = {SOURCE_ROOT: Source.of(path.parent).location, FILE_NAME: path.name}
        filters = MetadataFilters(filters=[MetadataFilter(key=key, value=value) for key, value in of_file.items()])
        return bool(self.index.image_store.get_nodes(filters=filters, include_images=False))

    def filter_options(self) -> list[FilterOption]:
        """Return the metadata keys that filters can use, with the types and examples of their values.

        Examples:
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> [(option.key, option.types) for option in ImageService(index).filter_options()]
            [('file_name', ['text']), ('价格', ['number'])]
        """
        return filter_options((self.index.image_store, self.index.text_store))

    def status(self) -> IndexStatus:
        """Return what the index holds.

        Raises:
            ValueError: The index is not in a folder.

        Examples:
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> build_index(nodes, embed_model, persist_dir="storage").close()
            >>> status = ImageService.open("storage").status()
            >>> status.images, status.texts, status.caption_weight
            (12, 0, 0.5)
        """
        if self.folder is None:
            raise ValueError("the index is not in a folder; its stores tell what they hold")
        return status_of(self.folder)

    def parsed_filters(self, expressions: Sequence[str]) -> MetadataFilters | None:
        """Return filters for the index, whose values have the types of the metadata; None without any.

        Raises:
            ValueError: An expression is not understood.

        Examples:
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> [condition] = ImageService(index).parsed_filters(["价格>=100"]).filters
            >>> condition.key, condition.operator.value, condition.value
            ('价格', '>=', 100)
        """
        return parse_filters(
            expressions, lambda key: types_of_values((self.index.image_store, self.index.text_store), key)
        )

    def close(self) -> None:
        """Close the index.

        Examples:
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> service = ImageService(index)
            >>> service.close()
        """
        self.index.close()

    def _chat_model(self) -> Any:
        self._llm = llm_or_default(self._llm)
        return self._llm


def _without_image(results: Sequence[NodeWithScore], node_id: str, max_images: int) -> list[NodeWithScore]:
    """Return results without one of the images, and with at most so many others."""
    images = [result for result in results if has_image(result.node) and result.node.node_id != node_id]
    return [*(result for result in results if not has_image(result.node)), *images[:max_images]]


def _embedding(
    folder: Path, model: str | Path | None, device: str, precision: Precision | None
) -> ChineseClipEmbedding:
    """Return the embedding model of an index: the given one, the recorded one, or that of a new index.

    Raises:
        ValueError: The index is of an earlier version, which recorded no model.
    """
    reference = _recorded_model(folder) if model is None and has_index(folder) else None
    if reference is not None:
        return model_of(reference, device=device, precision=precision)
    return ChineseClipEmbedding(model or DEFAULT_MODEL, device=device, precision=precision)


def _recorded_model(folder: Path) -> dict[str, Any] | None:
    """Return the reference of the embedding model that an index recorded; None for an index without images.

    Raises:
        ValueError: The index has images, and is of an earlier version, which recorded no model.
    """
    stored = read_store_file(folder / IMAGES_FILE)
    reference: dict[str, Any] | None = stored.settings.get(EMBED_MODEL)
    if reference is None and stored.nodes:
        raise ValueError(f"the index in {folder} does not say which model it was built with; give the model")
    return reference
