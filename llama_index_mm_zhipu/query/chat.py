"""Chat engines that answer from images and keep the user's images in the history."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Collection, Sequence
from dataclasses import replace
from typing import Any

from llama_index.core import Settings
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.generic_utils import messages_to_history_str
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.callbacks import trace_method
from llama_index.core.chat_engine.types import AgentChatResponse, BaseChatEngine, StreamingAgentChatResponse
from llama_index.core.llms import LLM
from llama_index.core.llms.utils import LLMType
from llama_index.core.memory import BaseMemory, Memory
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.tools import ToolOutput
from llama_index.core.types import Thread

from llama_index_mm_zhipu.arguments import explicit_arguments, require_choice
from llama_index_mm_zhipu.llm.llm import llm_or_default
from llama_index_mm_zhipu.prompts.templates import ImagePromptTemplate, prompts_of
from llama_index_mm_zhipu.prompts.wording import wording_of
from llama_index_mm_zhipu.query.chat_memory import ImageMemory, message_of
from llama_index_mm_zhipu.query.compose import Composer, Found, aask, afind_nodes, ask, find_nodes
from llama_index_mm_zhipu.query.labels import as_keys
from llama_index_mm_zhipu.query.question import Question, as_bundle, has_words
from llama_index_mm_zhipu.query.rewrite import QueryRewriter, rewriter_of
from llama_index_mm_zhipu.query.sources import Sources
from llama_index_mm_zhipu.query.streamed_chat import StreamedChatResponse, response_so_far
from llama_index_mm_zhipu.query.synthesizer import require_fitting
from llama_index_mm_zhipu.types import Language, OnError

logger = logging.getLogger(__name__)

WRITER = "writer of an answer to the history"
"""Name of the threads that read streamed answers."""

# Tokens of the context that LlamaIndex's chat engines leave free in their default memory.
_FREE_TOKENS = 256


class ImageContextChatEngine(BaseChatEngine):
    """Chat engine that retrieves by each message as it is.

    A message may be words, an image, or both in a ``QueryBundle`` or in a ``ChatMessage``. The user's images stay in
    the history and are sent again with later messages, as far as the model takes so many. The history keeps files by
    their path and other images in this process only. Retrieved images are sent with their own message only, because
    their numbers are those of this message.

    ``response.metadata`` holds the citations and search words, as that of ``ImageQueryEngine`` does; for a stream, when
    it has ended.

    Args:
        retriever: Usually an ``ImageRetriever``.
        llm: A chat LLM that takes images.
        memory: Memory of the chat.
        system_prompt: Text before the package's own rules.
        node_postprocessors: Applied in order; images are numbered after them.
        language: Language of prompts and labels.
        include_images: Whether images are sent; otherwise labels with captions alone.
        metadata_keys: Metadata of sources that is sent besides.
        on_error: ``"skip"`` retrieved images that cannot be read, or ``"raise"`` at the first.
        chat_content_qa_template: Prompt in place of the package's.
        query_rewrite: As in ``from_defaults``.

    Examples:
        >>> from llama_index_mm_zhipu.query import ImageContextChatEngine
        >>> engine = ImageContextChatEngine.from_defaults(index.as_retriever(similarity_top_k=1), multi_modal_llm=llm)
        >>> response = engine.chat("红苹果")
        >>> [node.text for node in response.source_nodes], list(response.metadata["citations"])
        (['红苹果'], ['图1'])
    """

    def __init__(
        self,
        retriever: BaseRetriever,
        llm: LLM,
        memory: BaseMemory,
        *,
        system_prompt: str = "",
        node_postprocessors: Sequence[BaseNodePostprocessor] = (),
        language: Language = "zh",
        include_images: bool = True,
        metadata_keys: Collection[str] = (),
        on_error: OnError = "skip",
        chat_content_qa_template: BasePromptTemplate | None = None,
        query_rewrite: bool | QueryRewriter = False,
    ) -> None:
        require_choice(on_error, "on_error", "raise", "skip")
        self._retriever = retriever
        self._llm = llm
        self._memory = ImageMemory.of(memory)
        self._system_prompt = system_prompt
        self._postprocessors = list(node_postprocessors)
        self._composer = Composer(language, include_images, as_keys(metadata_keys))
        self._template = ImagePromptTemplate.of(chat_content_qa_template or prompts_of(language).qa)
        self._on_error: OnError = on_error
        self._rewriter = rewriter_of(query_rewrite, retriever, llm, language)
        self.callback_manager = Settings.callback_manager
        for postprocessor in self._postprocessors:
            postprocessor.callback_manager = self.callback_manager

    @classmethod
    @explicit_arguments
    def from_defaults(
        cls,
        retriever: BaseRetriever,
        chat_history: list[ChatMessage] | None = None,
        memory: BaseMemory | None = None,
        system_prompt: str | None = None,
        node_postprocessors: list[BaseNodePostprocessor] | None = None,
        context_template: None = None,
        multi_modal_llm: LLMType | None = None,
        *,
        context_prompt: None = None,
        language: Language = "zh",
        include_images: bool = True,
        metadata_keys: Collection[str] = (),
        on_error: OnError = "skip",
        chat_content_qa_template: BasePromptTemplate | None = None,
        query_rewrite: bool | QueryRewriter = False,
        verbose: bool = False,
    ) -> ImageContextChatEngine:
        """Build a chat engine.

        Args:
            retriever: Usually an ``ImageRetriever``.
            chat_history: Earlier messages; their images are shown too. Ignored if ``memory`` is given.
            memory: One of LlamaIndex's memories; by default as much of the history as the LLM takes.
            system_prompt: Text before the package's own rules.
            node_postprocessors: Applied in order; images are numbered after them.
            context_template: LlamaIndex's template for texts; must be ``None``.
            multi_modal_llm: As ``llm`` in ``as_chat_engine``.
            context_prompt: As ``context_template``.
            language: ``"zh"`` or ``"en"``, the language of prompts and labels.
            include_images: Whether images are sent; otherwise labels with captions alone.
            metadata_keys: Metadata of sources that is sent besides.
            on_error: ``"skip"`` images that cannot be read any more, or ``"raise"`` at the first.
            chat_content_qa_template: Prompt in place of the package's.
            query_rewrite: Whether the LLM writes search words for each message first, which full text searches besides
                the message; a ``QueryRewriter`` to choose another LLM or prompt for this.
            verbose: Ignored: this engine has nothing to report. ``"condense_plus_context"`` has.

        Raises:
            TypeError: An argument is not known; the message names the likely one.
            ValueError: ``context_template`` or ``context_prompt`` is given, or the retriever does not search the full
                text that ``query_rewrite`` is for.

        Examples:
            >>> from llama_index.core.llms import ChatMessage
            >>> from llama_index_mm_zhipu.query import ImageContextChatEngine
            >>> history = [ChatMessage("你好"), ChatMessage("你好！", role="assistant")]
            >>> engine = ImageContextChatEngine.from_defaults(index.as_retriever(), history, multi_modal_llm=llm)
            >>> len(engine.chat_history)
            2
        """
        _require_no_text_prompts(context_template=context_template, context_prompt=context_prompt)
        llm = llm_or_default(multi_modal_llm)
        return cls(
            retriever,
            llm,
            chat_memory(llm, memory, chat_history),
            system_prompt=system_prompt or "",
            node_postprocessors=node_postprocessors or (),
            language=language,
            include_images=include_images,
            metadata_keys=metadata_keys,
            on_error=on_error,
            chat_content_qa_template=chat_content_qa_template,
            query_rewrite=query_rewrite,
        )

    @property
    def chat_history(self) -> list[ChatMessage]:
        """All messages of the chat, with the user's images."""
        return self._memory.get_all()

    def reset(self) -> None:
        """Forget all messages and images of the chat.

        Examples:
            >>> engine = index.as_chat_engine("context", llm)
            >>> _ = engine.chat("红苹果")
            >>> engine.reset()
            >>> engine.chat_history
            []
        """
        self._memory.reset()

    def synthesize(
        self,
        query_bundle: str | QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        streaming: bool = False,
    ) -> RESPONSE_TYPE:
        """Answer a message from given nodes and the history.

        Examples:
            >>> engine = index.as_chat_engine("context", llm)
            >>> found = index.as_retriever(similarity_top_k=1).retrieve("红苹果")
            >>> [node.text for node in engine.synthesize("多少钱？", found).source_nodes]
            ['红苹果']
        """
        return self._answer(as_bundle(query_bundle), self._sources(nodes), streaming=streaming)

    async def asynthesize(
        self,
        query_bundle: str | QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        streaming: bool = False,
    ) -> RESPONSE_TYPE:
        """As ``synthesize``."""
        sources = await asyncio.to_thread(self._sources, nodes)
        return await self._aanswer(as_bundle(query_bundle), sources, streaming=streaming)

    @trace_method("chat")
    def chat(
        self,
        message: Question,
        chat_history: list[ChatMessage] | None = None,
        prev_chunks: list[NodeWithScore] | None = None,
    ) -> AgentChatResponse:
        """Answer a message; ``response.metadata`` holds the citations.

        Args:
            message: Words; an image in any form but a string; or both in a ``QueryBundle`` or in a ``ChatMessage``.
                Retrieval uses the first image of a message. The LLM sees all of them, in later turns too.
            chat_history: Replaces the earlier messages; its images are shown too.
            prev_chunks: Sources to answer from if none are found.

        Raises:
            EmptyAnswerError: The model answered nothing.
            ImageError: The message's image, or with ``on_error="raise"`` another, cannot be read.
            GLMError: The LLM, if it is ``ZhipuMultiModal``, did not answer.
            ValueError: The message is longer than what the LLM takes.

        Examples:
            >>> from pathlib import Path
            >>> from llama_index.core.schema import QueryBundle
            >>> engine = index.as_chat_engine("context", llm, similarity_top_k=1)
            >>> response = engine.chat(QueryBundle("有和它相似的吗？", image_path=Path("query.jpg")))
            >>> [node.text for node in response.source_nodes]
            ['红苹果']
        """
        question, sources, found = self._begin(message, chat_history, prev_chunks)
        response = found.told_in(self._answer(question, sources, streaming=False))
        self._memory.put(message_of(question))
        self._memory.put(ChatMessage(role=MessageRole.ASSISTANT, content=str(response)))
        return AgentChatResponse(str(response), **_sources_of(question, response), metadata=response.metadata)

    @trace_method("chat")
    async def achat(
        self,
        message: Question,
        chat_history: list[ChatMessage] | None = None,
        prev_chunks: list[NodeWithScore] | None = None,
    ) -> AgentChatResponse:
        """As ``chat``."""
        question, sources, found = await self._abegin(message, chat_history, prev_chunks)
        response = found.told_in(await self._aanswer(question, sources, streaming=False))
        await self._memory.aput(await asyncio.to_thread(message_of, question))
        await self._memory.aput(ChatMessage(role=MessageRole.ASSISTANT, content=str(response)))
        return AgentChatResponse(str(response), **_sources_of(question, response), metadata=response.metadata)

    @trace_method("chat")
    def stream_chat(
        self,
        message: Question,
        chat_history: list[ChatMessage] | None = None,
        prev_chunks: list[NodeWithScore] | None = None,
    ) -> StreamingAgentChatResponse:
        """As ``chat``, streaming; the citations are in ``response.metadata`` when the stream has ended.

        Examples:
            >>> engine = index.as_chat_engine("context", llm, similarity_top_k=1)
            >>> response = engine.stream_chat("红苹果")
            >>> len("".join(response.response_gen)) > 0, list(response.metadata["citations"])
            (True, ['图1'])
        """
        question, sources, found = self._begin(message, chat_history, prev_chunks)
        response = found.told_in(self._answer(question, sources, streaming=True))
        self._memory.put(message_of(question))
        pieces: Any = response.response_gen  # type: ignore[union-attr]
        streamed = StreamedChatResponse.of(pieces, metadata=response.metadata, **_sources_of(question, response))
        # The stream would wait for the thread if it had it: a reader that leaves early, as with Ctrl-C, would wait for
        # the rest of the answer, and so would the end of the program. The history has the answer before the last piece
        # is read.
        Thread(target=_write_to_history, args=(streamed, self._memory), name=WRITER, daemon=True).start()
        return streamed

    @trace_method("chat")
    async def astream_chat(
        self,
        message: Question,
        chat_history: list[ChatMessage] | None = None,
        prev_chunks: list[NodeWithScore] | None = None,
    ) -> StreamingAgentChatResponse:
        """As ``stream_chat``."""
        question, sources, found = await self._abegin(message, chat_history, prev_chunks)
        response = found.told_in(await self._aanswer(question, sources, streaming=True))
        await self._memory.aput(await asyncio.to_thread(message_of, question))
        pieces: Any = response.response_gen  # type: ignore[union-attr]
        stream = _aresponses_so_far(pieces)
        sources_of_answer = _sources_of(question, response)
        streamed = StreamedChatResponse(achat_stream=stream, metadata=response.metadata, **sources_of_answer)
        writing = streamed.awrite_response_to_history(self._memory)
        streamed.awrite_response_to_history_task = asyncio.create_task(writing)
        return streamed

    def _begin(
        self, message: Question, chat_history: list[ChatMessage] | None, prev_chunks: list[NodeWithScore] | None
    ) -> tuple[QueryBundle, Sources, Found]:
        """Return a message as a question, its sources and what was found; a given history replaces the earlier one."""
        question = self._checked(message)
        if chat_history is not None:
            self._memory.set(chat_history)
        found = find_nodes(self._retriever, self._postprocessors, self._search_question(question), self._rewriter)
        return question, self._sources(found.nodes or prev_chunks or []), found

    async def _abegin(
        self, message: Question, chat_history: list[ChatMessage] | None, prev_chunks: list[NodeWithScore] | None
    ) -> tuple[QueryBundle, Sources, Found]:
        question = await asyncio.to_thread(self._checked, message)
        if chat_history is not None:
            await self._memory.aset(chat_history)
        search_question = await self._asearch_question(question)
        found = await afind_nodes(self._retriever, self._postprocessors, search_question, self._rewriter)
        return question, await asyncio.to_thread(self._sources, found.nodes or prev_chunks or []), found

    def _checked(self, message: Question) -> QueryBundle:
        """Return a message as a question if the LLM has room for it.

        Raises:
            ValueError: The message is too long.
        """
        question = as_bundle(message)
        require_fitting(question.query_str, self._llm.metadata, packed=False)
        return question

    def _search_question(self, question: QueryBundle) -> QueryBundle:
        """Return the question to retrieve by."""
        return question

    async def _asearch_question(self, question: QueryBundle) -> QueryBundle:
        return question

    def _sources(self, nodes: Sequence[NodeWithScore]) -> Sources:
        return self._composer.sources_of(nodes, on_error=self._on_error)

    def _answer(self, question: QueryBundle, sources: Sources, *, streaming: bool) -> RESPONSE_TYPE:
        history = self._memory.get(input=str(question))
        return ask(self._llm, self._messages(question, sources, history), sources, streaming=streaming)

    async def _aanswer(self, question: QueryBundle, sources: Sources, *, streaming: bool) -> RESPONSE_TYPE:
        history = await self._memory.aget(input=str(question))
        messages = await asyncio.to_thread(self._messages, question, sources, history)
        return await aask(self._llm, messages, sources, streaming=streaming)

    def _messages(self, question: QueryBundle, sources: Sources, history: Sequence[ChatMessage]) -> list[ChatMessage]:
        return self._composer.compose(
            question, sources, self._template, history=history, system_prompt=self._system_prompt
        )


class ImageCondensePlusContextChatEngine(ImageContextChatEngine):
    """Chat engine that has the LLM condense history and message to a question, and retrieves by it.

    The message's image is searched by too. Messages, images and ``response.metadata`` are those of
    ``ImageContextChatEngine``.

    Examples:
        >>> engine = index.as_chat_engine("condense_plus_context", llm, similarity_top_k=1)
        >>> _ = engine.chat("红苹果")
        >>> type(engine).__name__, len(engine.chat_history)
        ('ImageCondensePlusContextChatEngine', 2)
    """

    _condense_prompt: BasePromptTemplate = prompts_of("zh").condense
    _skip_condense = False
    _verbose = False

    @classmethod
    @explicit_arguments
    def from_defaults(  # type: ignore[override]
        cls,
        retriever: BaseRetriever,
        multi_modal_llm: LLMType | None = None,
        chat_history: list[ChatMessage] | None = None,
        memory: BaseMemory | None = None,
        system_prompt: str | None = None,
        context_prompt: None = None,
        condense_prompt: PromptTemplate | str | None = None,
        skip_condense: bool = False,
        node_postprocessors: list[BaseNodePostprocessor] | None = None,
        verbose: bool = False,
        *,
        context_template: None = None,
        language: Language = "zh",
        include_images: bool = True,
        metadata_keys: Collection[str] = (),
        on_error: OnError = "skip",
        chat_content_qa_template: BasePromptTemplate | None = None,
        query_rewrite: bool | QueryRewriter = False,
    ) -> ImageCondensePlusContextChatEngine:
        """Build a chat engine.

        Args:
            retriever: Usually an ``ImageRetriever``.
            multi_modal_llm: As ``llm`` in ``as_chat_engine``.
            chat_history: Earlier messages; their images are shown too. Ignored if ``memory`` is given.
            memory: One of LlamaIndex's memories; by default as much of the history as the LLM takes.
            system_prompt: Text before the package's own rules.
            context_prompt: LlamaIndex's template for texts; must be ``None``.
            condense_prompt: Prompt that makes a question of history and message, in place of the package's.
            skip_condense: Whether to retrieve by each message as it is.
            node_postprocessors: Applied in order; images are numbered after them.
            verbose: Whether to print the condensed question.
            context_template: As ``context_prompt``.
            language: ``"zh"`` or ``"en"``, the language of prompts and labels.
            include_images: Whether images are sent; otherwise labels with captions alone.
            metadata_keys: Metadata of sources that is sent besides.
            on_error: ``"skip"`` images that cannot be read any more, or ``"raise"`` at the first.
            chat_content_qa_template: Prompt in place of the package's.
            query_rewrite: Whether the LLM writes search words for each condensed question too, which full text searches
                besides it; a ``QueryRewriter`` to choose another LLM or prompt for this.

        Raises:
            TypeError: An argument is not known; the message names the likely one.
            ValueError: ``context_template`` or ``context_prompt`` is given, or the retriever does not search the full
                text that ``query_rewrite`` is for.
        """
        _require_no_text_prompts(context_template=context_template, context_prompt=context_prompt)
        llm = llm_or_default(multi_modal_llm)
        engine = cls(
            retriever,
            llm,
            chat_memory(llm, memory, chat_history),
            system_prompt=system_prompt or "",
            node_postprocessors=node_postprocessors or (),
            language=language,
            include_images=include_images,
            metadata_keys=metadata_keys,
            on_error=on_error,
            chat_content_qa_template=chat_content_qa_template,
            query_rewrite=query_rewrite,
        )
        if isinstance(condense_prompt, str):
            condense_prompt = PromptTemplate(condense_prompt)
        engine._condense_prompt = condense_prompt or prompts_of(language).condense
        engine._skip_condense, engine._verbose = skip_condense, verbose
        return engine

    def _search_question(self, question: QueryBundle) -> QueryBundle:
        if not has_words(question.query_str):
            return question
        request = self._condense_request(question, self._memory.get(input=question.query_str))
        return self._condensed(question, str(self._llm.complete(request)) if request else question.query_str)

    async def _asearch_question(self, question: QueryBundle) -> QueryBundle:
        if not has_words(question.query_str):
            return question
        request = self._condense_request(question, await self._memory.aget(input=question.query_str))
        return self._condensed(question, str(await self._llm.acomplete(request)) if request else question.query_str)

    def _condense_request(self, question: QueryBundle, history: Sequence[ChatMessage]) -> str:
        """Return the prompt that has the LLM condense a chat; empty if there is nothing to condense."""
        if self._skip_condense or not history:
            return ""
        words = messages_to_history_str(list(map(self._without_images, history)))
        return self._condense_prompt.format(chat_history=words, question=question.query_str)

    def _without_images(self, message: ChatMessage) -> ChatMessage:
        if message.role != MessageRole.USER:
            return message
        content = message.content or ""
        alone = wording_of(self._composer.language).image_alone
        return ChatMessage(role=message.role, content=content if has_words(content) else alone)

    def _condensed(self, question: QueryBundle, condensed: str) -> QueryBundle:
        logger.info("Condensed question: %s", condensed)
        if self._verbose:
            print(f"Condensed question: {condensed}")
        return replace(question, query_str=condensed)


def _require_no_text_prompts(**prompts: object) -> None:
    for name, prompt in prompts.items():
        if prompt is not None:
            raise ValueError(f"{name} is for texts; give chat_content_qa_template, which shows images")


def chat_memory(
    llm: LLM, memory: BaseMemory | None = None, chat_history: list[ChatMessage] | None = None
) -> ImageMemory:
    """Return the memory of a new chat; as in LlamaIndex, a given memory keeps what it has.

    Args:
        llm: The model, whose context limits what is sent again.
        memory: Memory to wrap; by default one of the process.
        chat_history: First messages of a memory that is not given.
    """
    if memory is not None:
        return ImageMemory.of(memory)
    own = ImageMemory.of(Memory.from_defaults(token_limit=llm.metadata.context_window - _FREE_TOKENS))
    if chat_history:
        own.set(chat_history)
    return own


def _sources_of(question: QueryBundle, response: RESPONSE_TYPE) -> dict[str, Any]:
    """Return what a chat response says of its sources, in the form that LlamaIndex gives it."""
    captions = "\n".join(result.node.get_content() for result in response.source_nodes)
    retrieved = ToolOutput(
        tool_name="retriever",
        content=captions,
        raw_input={"message": question.query_str},
        raw_output=response.metadata,
    )
    return {"sources": [retrieved], "source_nodes": response.source_nodes}


def _write_to_history(streamed: StreamedChatResponse, memory: BaseMemory) -> None:
    """Read a stream and add the answer to the history; an error of the stream is raised to its reader."""
    try:
        streamed.write_response_to_history(memory)
    except Exception as error:
        # Python would print the traceback of an error that leaves a thread.
        if error is not streamed.exception:
            raise
    finally:
        streamed.wake_reader()


async def _aresponses_so_far(pieces: AsyncIterable[str]) -> AsyncGenerator[ChatResponse, None]:
    answer = ""
    async for piece in pieces:
        answer += piece
        yield response_so_far(answer, piece)
