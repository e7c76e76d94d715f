"""``ImageQueryEngine``: answers from images, with citations."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from llama_index.core.base.base_multi_modal_retriever import MultiModalRetriever
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.callbacks.base import EventContext
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.llms import LLM
from llama_index.core.llms.utils import LLMType
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import BaseSynthesizer, ResponseMode
from llama_index.core.schema import NodeWithScore, QueryBundle, QueryType
from llama_index.core.settings import Settings

from llama_index_mm_zhipu.arguments import explicit_arguments, keyword_names, member_of, require_choice, require_known
from llama_index_mm_zhipu.images import ImageSource
from llama_index_mm_zhipu.llm.llm import llm_or_default
from llama_index_mm_zhipu.prompts.templates import QUERY_BLOCKS, ImagePromptTemplate
from llama_index_mm_zhipu.prompts.wording import wording_of
from llama_index_mm_zhipu.query.compose import (
    Composer,
    Found,
    PromptNode,
    aask,
    afind_nodes,
    apostprocessed,
    ask,
    find_nodes,
    postprocessed,
    synthesis_events,
)
from llama_index_mm_zhipu.query.labels import as_keys
from llama_index_mm_zhipu.query.question import Question, as_bundle, as_image_bundle, images_of
from llama_index_mm_zhipu.query.rewrite import QueryRewriter, rewriter_of
from llama_index_mm_zhipu.query.sources import Sources
from llama_index_mm_zhipu.query.synthesizer import (
    asks_an_llm,
    fit_one_request,
    image_synthesizer,
    looks_at_sources,
    may_take_one_request,
    require_fitting,
    require_no_text_templates,
    without_text_templates,
)
from llama_index_mm_zhipu.text import replace_lone_surrogates
from llama_index_mm_zhipu.types import Language, OnError

_dispatcher = get_dispatcher(__name__)


class ImageQueryEngine(RetrieverQueryEngine):
    """Answers from the images and texts that a retriever finds, and from the image of the question.

    The prompt shows a label (number, similarity, caption) directly before each image, and of nodes nothing else but
    the metadata in ``metadata_keys``. ``response.source_nodes`` are the nodes that were sent, images in the order of
    their numbers. ``response.metadata`` holds the metadata that the model was shown by node id, and:

    - ``"citations"``: the node id of each cited image by name (``图1``);
    - ``"unknown_citations"``: cited names that no image has;
    - ``"skipped"``: the reason by node id of images that were found and can no longer be read;
    - ``"search_words"``: with ``query_rewrite``, the words that were searched for besides the question.

    For a stream, citations are there when it has ended.

    Args:
        retriever: Usually an ``ImageRetriever``; any retriever of image or text nodes.
        response_synthesizer: A multimodal one, see ``from_args``.
        node_postprocessors: Applied in order; images are numbered after them.
        callback_manager: LlamaIndex's.
        language: ``"zh"`` or ``"en"``, the language of labels.
        include_images: Whether images are sent; otherwise labels with captions alone.
        metadata_keys: Metadata of sources that is sent besides.
        on_error: ``"skip"`` images that cannot be read any more, or ``"raise"`` at the first.
        query_rewrite: As in ``from_args``.

    Examples:
        >>> from llama_index_mm_zhipu.query import ImageRetriever
        >>> engine = ImageQueryEngine.from_args(ImageRetriever(index, similarity_top_k=2), llm)
        >>> response = engine.query("红苹果")
        >>> [node.text for node in response.source_nodes]
        ['红苹果', '男鞋']
        >>> list(response.metadata["citations"]), response.metadata["skipped"]
        (['图1', '图2'], {})
    """

    @explicit_arguments
    def __init__(
        self,
        retriever: BaseRetriever,
        response_synthesizer: BaseSynthesizer | None = None,
        node_postprocessors: list[BaseNodePostprocessor] | None = None,
        callback_manager: CallbackManager | None = None,
        *,
        language: Language = "zh",
        include_images: bool = True,
        metadata_keys: Collection[str] = (),
        on_error: OnError = "skip",
        query_rewrite: bool | QueryRewriter = False,
    ) -> None:
        # Asked without the synthesizer if one request holds all sources; None where only the synthesizer may ask.
        self._llm: LLM | None = None
        if response_synthesizer is None:
            llm = llm_or_default(None)
            response_synthesizer = image_synthesizer(llm, language)
            self._llm = llm if may_take_one_request(llm, ResponseMode.COMPACT) else None
        if include_images and not response_synthesizer._multimodal:
            raise ValueError(
                "the response synthesizer sends no images: make it with multimodal=True, or set include_images=False"
            )
        super().__init__(retriever, response_synthesizer, node_postprocessors, callback_manager)
        self._synthesizer = response_synthesizer
        self._postprocessors = list(node_postprocessors or [])
        self._composer = Composer(language, include_images, as_keys(metadata_keys))
        self._on_error: OnError = on_error
        self._rewriter = rewriter_of(query_rewrite, retriever, response_synthesizer._llm, language)

    # Core's own takes templates that a multimodal synthesizer does not use, and not the one of tree_summarize.
    @classmethod
    def from_args(  # type: ignore[override]
        cls,
        retriever: BaseRetriever,
        llm: LLMType | None = None,
        response_synthesizer: BaseSynthesizer | None = None,
        node_postprocessors: list[BaseNodePostprocessor] | None = None,
        callback_manager: CallbackManager | None = None,
        *,
        language: Language = "zh",
        include_images: bool = True,
        metadata_keys: Collection[str] = (),
        on_error: OnError = "skip",
        query_rewrite: bool | QueryRewriter = False,
        response_mode: ResponseMode | str = ResponseMode.COMPACT,
        chat_content_qa_template: BasePromptTemplate | None = None,
        chat_content_refine_template: BasePromptTemplate | None = None,
        chat_summary_template: BasePromptTemplate | None = None,
        simple_template: BasePromptTemplate | None = None,
        output_cls: type[BaseModel] | None = None,
        use_async: bool = False,
        streaming: bool = False,
        verbose: bool = False,
        **text_templates: None,
    ) -> ImageQueryEngine:
        """Build an engine.

        Args:
            retriever: Retriever of the sources.
            llm: A chat LLM that takes images; by default ``Settings.llm`` if one was set, else ``ZhipuMultiModal()``.
            response_synthesizer: Synthesizer in place of one made of the arguments below.
            node_postprocessors: Such as ``ImageReranker``.
            callback_manager: LlamaIndex's.
            language: ``"zh"`` or ``"en"``, the language of prompts and labels.
            include_images: Whether images are sent; otherwise labels with captions alone.
            metadata_keys: Metadata of sources that is sent besides.
            on_error: ``"skip"`` images that can no longer be read, or ``"raise"`` at the first.
            query_rewrite: Whether the LLM writes search words for each question first, which full text searches
                besides the question; a ``QueryRewriter`` to choose another LLM or prompt for this.
            response_mode: One of LlamaIndex's response modes. ``compact``, ``simple_summarize`` and
                ``tree_summarize`` send all images in one request, ``refine`` and ``accumulate`` one after the other.
            chat_content_qa_template: A ``RichPromptTemplate`` in place of the package's, like the next three.
            chat_content_refine_template: Template for further sources.
            chat_summary_template: Template for mode ``tree_summarize``.
            simple_template: Template for mode ``generation``, which uses the question and its image alone.
            output_cls: A pydantic model for structured answers.
            use_async: Whether independent requests are sent at the same time.
            streaming: Whether answers stream.
            verbose: LlamaIndex's.
            **text_templates: LlamaIndex's templates for texts, which must be None.

        Raises:
            TypeError: An argument is not known; the message names the likely one.
            ValueError: A template is for texts, a language or mode is unknown, or the retriever does not search the
                full text that ``query_rewrite`` is for.

        Examples:
            >>> from pydantic import BaseModel
            >>> class Product(BaseModel):
            ...     name: str
            >>> engine = ImageQueryEngine.from_args(index.as_retriever(similarity_top_k=1), llm, output_cls=Product)
            >>> type(engine.query("这是什么？").response).__name__
            'Product'
        """
        wording_of(language)
        require_choice(on_error, "on_error", "raise", "skip")
        if isinstance(node_postprocessors, BaseNodePostprocessor):
            node_postprocessors = [node_postprocessors]
        require_known("ImageQueryEngine.from_args", without_text_templates(text_templates), _FROM_ARGS)
        mode = member_of(ResponseMode, response_mode, "response_mode")
        asked: LLM | None = None
        if response_synthesizer is None:
            own_llm = llm_or_default(llm)
            asked = own_llm if may_take_one_request(own_llm, mode, output_cls) else None
            response_synthesizer = image_synthesizer(
                own_llm,
                language,
                mode,
                chat_content_qa_template=chat_content_qa_template,
                chat_content_refine_template=chat_content_refine_template,
                chat_summary_template=chat_summary_template,
                simple_template=simple_template,
                output_cls=output_cls,
                use_async=use_async,
                streaming=streaming,
                verbose=verbose,
            )
        engine = cls(
            retriever,
            response_synthesizer,
            node_postprocessors,
            callback_manager or Settings.callback_manager,
            language=language,
            include_images=include_images,
            metadata_keys=metadata_keys,
            on_error=on_error,
            query_rewrite=query_rewrite,
        )
        engine._llm = asked
        return engine

    def with_retriever(self, retriever: BaseRetriever) -> ImageQueryEngine:
        """Return the same engine with another retriever.

        Examples:
            >>> engine = index.as_query_engine(llm)
            >>> engine = engine.with_retriever(index.as_retriever(similarity_top_k=1))
            >>> len(engine.query("红苹果").source_nodes)
            1
        """
        engine = type(self)(
            retriever,
            self._synthesizer,
            self._postprocessors,
            self.callback_manager,
            language=self._composer.language,
            include_images=self._composer.include_images,
            metadata_keys=self._composer.metadata_keys,
            on_error=self._on_error,
            query_rewrite=self._rewriter or False,
        )
        engine._llm = self._llm
        return engine

    def update_prompts(self, prompts_dict: PromptDictType) -> None:
        """Replace templates, by the names of ``get_prompts``.

        Examples:
            >>> from llama_index.core.prompts import RichPromptTemplate
            >>> engine = index.as_query_engine(llm)
            >>> name = "response_synthesizer:chat_content_qa_template"
            >>> template = '{% chat role="user" %}{{ context_messages }}只用一个词回答：{{ query_str }}{% endchat %}'
            >>> engine.update_prompts({name: RichPromptTemplate(template)})
            >>> "只用一个词" in engine.get_prompts()[name].get_template()
            True
        """
        present = self.get_prompts()
        changed = {name: template for name, template in prompts_dict.items() if present.get(name) != template}
        require_no_text_templates(name.rpartition(":")[2] for name in changed)
        super().update_prompts({name: ImagePromptTemplate.of(template) for name, template in changed.items()})

    def synthesize(
        self,
        query_bundle: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> RESPONSE_TYPE:
        """Answer a question from given nodes.

        Raises:
            EmptyAnswerError: The model answered nothing.
            ImageError: The question's image, or with ``on_error="raise"`` another, cannot be read.
            GLMError: The LLM, if it is ``ZhipuMultiModal``, did not answer.

        Examples:
            >>> engine = index.as_query_engine(llm)
            >>> found = engine.retrieve("红苹果")
            >>> response = engine.synthesize("多少钱？", found[:1])
            >>> [node.text for node in response.source_nodes]
            ['红苹果']
        """
        query = as_bundle(query_bundle)
        sources, messages = self._prepared(query, nodes)
        if self._llm is not None and messages:
            with synthesis_events(self._synthesizer.callback_manager, query) as end:
                response = end(ask(self._llm, messages, sources, streaming=self._synthesizer._streaming))
        else:
            shown, arguments = self._for_synthesizer(query, sources)
            response = sources.cited_in(self._synthesizer.synthesize(query, shown, **arguments))
        response.source_nodes += additional_source_nodes or ()
        return response

    async def asynthesize(
        self,
        query_bundle: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> RESPONSE_TYPE:
        """As ``synthesize``."""
        query = as_bundle(query_bundle)
        sources, messages = await asyncio.to_thread(self._prepared, query, nodes)
        if self._llm is not None and messages:
            with synthesis_events(self._synthesizer.callback_manager, query) as end:
                response = end(await aask(self._llm, messages, sources, streaming=self._synthesizer._streaming))
        else:
            shown, arguments = await asyncio.to_thread(self._for_synthesizer, query, sources)
            response = sources.cited_in(await self._synthesizer.asynthesize(query, shown, **arguments))
        response.source_nodes += additional_source_nodes or ()
        return response

    def query(self, str_or_query_bundle: Question) -> RESPONSE_TYPE:
        """Answer a question.

        Args:
            str_or_query_bundle: Words; an image in any form but a string; or both in a ``QueryBundle`` or in a
                ``ChatMessage``. Retrieval uses the first image of a message; the LLM sees all of them.

        Raises:
            EmptyAnswerError: The model answered nothing.
            ImageError: The question's image, or with ``on_error="raise"`` another, cannot be read.
            GLMError: The LLM, if it is ``ZhipuMultiModal``, did not answer.
            ValueError: The question is longer than what the LLM takes.

        Examples:
            >>> from pathlib import Path
            >>> from llama_index.core.schema import QueryBundle
            >>> engine = index.as_query_engine(llm, similarity_top_k=1)
            >>> print(engine.query(QueryBundle("红苹果多少钱？", image_path=Path("query.jpg"))))
            （本地模拟服务，不是模型）问题：红苹果多少钱？
            收到 2 张图片。
            第1张图片：JPEG 96×96，平均颜色 #...；说明：用户提供的图片（问题所指，没有编号）：
            第2张图片：JPEG 128×128，平均颜色 #...；说明：图1（相似度 0.8...）：「红苹果」
        """
        return super().query(self._checked(as_bundle(str_or_query_bundle)))

    async def aquery(self, str_or_query_bundle: Question) -> RESPONSE_TYPE:
        """As ``query``."""
        return await super().aquery(await asyncio.to_thread(self._checked, as_bundle(str_or_query_bundle)))

    def retrieve(self, query_bundle: Question) -> list[NodeWithScore]:
        """Retrieve sources and apply the postprocessors.

        Examples:
            >>> [result.node.text for result in index.as_query_engine(llm, similarity_top_k=1).retrieve("红苹果")]
            ['红苹果']
        """
        return self._find(as_bundle(query_bundle)).nodes

    async def aretrieve(self, query_bundle: Question) -> list[NodeWithScore]:
        """As ``retrieve``."""
        return (await self._afind(as_bundle(query_bundle))).nodes

    @_dispatcher.span
    def image_query(self, image_path: QueryBundle | ImageSource, prompt_str: str) -> RESPONSE_TYPE:
        """Retrieve by an image alone, and answer a question about it and the images found.

        LlamaIndex's own engines have this method too, but they neither show the image itself to the LLM nor apply
        postprocessors.

        Args:
            image_path: The image in any form; a string is its path or URL.
            prompt_str: The question; retrieval does not use it.

        Raises:
            EmptyAnswerError: The model answered nothing.
            ImageError: The image, or with ``on_error="raise"`` another, cannot be read.
            GLMError: The LLM, if it is ``ZhipuMultiModal``, did not answer.
            ValueError: The question is longer than what the LLM takes.

        Examples:
            >>> response = index.as_query_engine(llm, similarity_top_k=1).image_query("query.jpg", "这是什么水果？")
            >>> [node.text for node in response.source_nodes]
            ['红苹果']
        """
        question = self._checked(_question_about(image_path, prompt_str))
        with self.callback_manager.as_trace("query"), self._query_event(question) as event:
            nodes = postprocessed(self._find_by_image(question), self._postprocessors, question)
            response = self.synthesize(question, nodes)
            event.on_end(payload={EventPayload.RESPONSE: response})
        return response

    @_dispatcher.span
    async def aimage_query(self, image_path: QueryBundle | ImageSource, prompt_str: str) -> RESPONSE_TYPE:
        """As ``image_query``."""
        question = await asyncio.to_thread(self._checked, _question_about(image_path, prompt_str))
        with self.callback_manager.as_trace("query"), self._query_event(question) as event:
            nodes = await apostprocessed(await self._afind_by_image(question), self._postprocessors, question)
            response = await self.asynthesize(question, nodes)
            event.on_end(payload={EventPayload.RESPONSE: response})
        return response

    @_dispatcher.span
    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        with self._query_event(query_bundle) as event:
            found = self._find(query_bundle)
            response = found.told_in(self.synthesize(query_bundle, found.nodes))
            event.on_end(payload={EventPayload.RESPONSE: response})
        return response

    @_dispatcher.span
    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        with self._query_event(query_bundle) as event:
            found = await self._afind(query_bundle)
            response = found.told_in(await self.asynthesize(query_bundle, found.nodes))
            event.on_end(payload={EventPayload.RESPONSE: response})
        return response

    def _find(self, question: QueryBundle) -> Found:
        return find_nodes(self.retriever, self._postprocessors, question, self._rewriter)

    async def _afind(self, question: QueryBundle) -> Found:
        return await afind_nodes(self.retriever, self._postprocessors, question, self._rewriter)

    def _query_event(self, question: QueryBundle) -> AbstractContextManager[EventContext]:
        return self.callback_manager.event(CBEventType.QUERY, payload={EventPayload.QUERY_STR: question.query_str})

    def _checked(self, question: QueryBundle) -> QueryBundle:
        """Return a question if the LLM has room for it.

        Raises:
            ValueError: The question is too long.
        """
        if asks_an_llm(self._synthesizer):
            packed = looks_at_sources(self._synthesizer)
            require_fitting(question.query_str, self._synthesizer._llm.metadata, packed=packed)
        return question

    def _find_by_image(self, question: QueryBundle) -> list[NodeWithScore]:
        image = replace(question, query_str="", custom_embedding_strs=None)
        if isinstance(self.retriever, MultiModalRetriever):
            # Its other methods may search by words alone.
            return self.retriever.image_to_image_retrieve(image)
        return self.retriever.retrieve(image)

    async def _afind_by_image(self, question: QueryBundle) -> list[NodeWithScore]:
        image = replace(question, query_str="", custom_embedding_strs=None)
        if isinstance(self.retriever, MultiModalRetriever):
            return await self.retriever.aimage_to_image_retrieve(image)
        return await self.retriever.aretrieve(image)

    def _prepared(self, query: QueryBundle, nodes: Sequence[NodeWithScore]) -> tuple[Sources, list[ChatMessage]]:
        """Return the sources, and the messages of the request if one request holds them all, otherwise none."""
        sources = self._composer.sources_of(
            nodes if looks_at_sources(self._synthesizer) else [],
            on_error=self._on_error,
            expects_answer=asks_an_llm(self._synthesizer),
        )
        if self._llm is None or self._llm.output_parser is not None:
            return sources, []
        template = self._synthesizer.get_prompts()["chat_content_qa_template"]
        has_image = self._composer.include_images and images_of(query)
        if template.output_parser is not None or not (sources.sent or has_image):
            return sources, []
        messages = self._composer.compose(query, sources, template)
        if self._llm.system_prompt:
            # A message of its own, as in LlamaIndex's synthesizers.
            messages.insert(0, ChatMessage(role=MessageRole.SYSTEM, content=self._llm.system_prompt))
        return sources, messages if fit_one_request(messages, self._llm.metadata) else []

    def _for_synthesizer(self, query: QueryBundle, sources: Sources) -> tuple[list[NodeWithScore], dict[str, Any]]:
        """Return nodes and arguments for the synthesizer, which may need several requests."""
        blocks = self._composer.blocks_of_question(query) if sources.expects_answer else []
        shown = self._composer.nodes_for_synthesizer(sources)
        if not shown and (blocks or not looks_at_sources(self._synthesizer)):
            # LlamaIndex's synthesizers ask no model where there is no node.
            shown = [NodeWithScore(node=PromptNode("", self._composer.blocks_without_sources()))]
        return shown, {QUERY_BLOCKS: blocks} if blocks else {}


def _question_about(image: QueryBundle | ImageSource, prompt: str) -> QueryBundle:
    question = replace(as_bundle(as_image_bundle(image)), query_str=replace_lone_surrogates(prompt))
    if not question.image_path:
        raise ValueError("image_path is a question without an image; give an image, or QueryBundle(image_path=…)")
    return question


_FROM_ARGS = keyword_names(ImageQueryEngine.from_args)
