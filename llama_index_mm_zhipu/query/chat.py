"""Chat engines that answer from pictures: LlamaIndex's own two, which by themselves drop captions."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.core.base.response.schema import RESPONSE_TYPE, AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.chat_engine import (
    MultiModalCondensePlusContextChatEngine,
    MultiModalContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.chat_engine.types import AgentChatResponse, StreamingAgentChatResponse
from llama_index.core.llms import LLM
from llama_index.core.llms.llm import astream_chat_response_to_tokens, stream_chat_response_to_tokens
from llama_index.core.llms.utils import LLMType
from llama_index.core.memory import BaseMemory
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.schema import NodeWithScore, QueryBundle

from llama_index_mm_zhipu.arguments import explicit_arguments, require_choice
from llama_index_mm_zhipu.embedding.nodes import OnError
from llama_index_mm_zhipu.llm.default import llm_or_default
from llama_index_mm_zhipu.llm.pictures import image_block
from llama_index_mm_zhipu.query.labels import as_keys
from llama_index_mm_zhipu.query.prompt_blocks import PromptBlocks
from llama_index_mm_zhipu.query.prompts import PicturePromptTemplate, prompts_of
from llama_index_mm_zhipu.query.question import Question, as_bundle, has_words
from llama_index_mm_zhipu.query.sources import Sources
from llama_index_mm_zhipu.wording import Language, wording_of

ChatResponseType = TypeVar("ChatResponseType", AgentChatResponse, StreamingAgentChatResponse)


class _AnswersFromPictures:
    """Builds the messages of a turn from labels and pictures, and reads citations from the answer.

    The history holds what was said, not the pictures that were shown.
    """

    _multi_modal_llm: LLM
    _memory: BaseMemory
    _system_prompt: Any
    _retriever: BaseRetriever
    _node_postprocessors: list[BaseNodePostprocessor]
    _blocks: PromptBlocks = PromptBlocks()
    _template: BasePromptTemplate = prompts_of("zh").qa
    _on_error: OnError = "skip"

    def _show_pictures(
        self,
        language: Language,
        include_images: bool,
        metadata_keys: Collection[str],
        on_error: OnError,
        template: BasePromptTemplate | None,
    ) -> None:
        require_choice(on_error, "on_error", "raise", "skip")
        self._blocks = PromptBlocks(language, include_images, as_keys(metadata_keys))
        self._template = PicturePromptTemplate.of(template or prompts_of(language).qa)
        self._on_error = on_error

    # Core's own of the condensing engine leave the picture out of what postprocessors see.

    def _get_nodes(self, query: str | QueryBundle) -> list[NodeWithScore]:
        bundle = as_bundle(query)
        nodes = self._retriever.retrieve(bundle)
        for postprocessor in self._node_postprocessors:
            nodes = postprocessor.postprocess_nodes(nodes, query_bundle=bundle)
        return self._sources(nodes).sent

    async def _aget_nodes(self, query: str | QueryBundle) -> list[NodeWithScore]:
        bundle = as_bundle(query)
        nodes = await self._retriever.aretrieve(bundle)
        for postprocessor in self._node_postprocessors:
            nodes = await postprocessor.apostprocess_nodes(nodes, query_bundle=bundle)
        return (await asyncio.to_thread(self._sources, nodes)).sent

    def synthesize(
        self,
        query_bundle: str | QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        streaming: bool = False,
    ) -> RESPONSE_TYPE:
        """Answer a message from given nodes and the history."""
        sources = self._sources(nodes)
        metadata = sources.metadata()
        messages = self._messages(query_bundle, sources, self._memory.get(input=str(query_bundle)))
        if streaming:
            pieces = stream_chat_response_to_tokens(self._multi_modal_llm.stream_chat(messages))
            return StreamingResponse(sources.watched(pieces, metadata), sources.sent, metadata)
        answer = self._multi_modal_llm.chat(messages).message.content or ""
        return Response(answer, sources.sent, {**metadata, **sources.citations_in(answer)})

    async def asynthesize(
        self,
        query_bundle: str | QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        streaming: bool = False,
    ) -> RESPONSE_TYPE:
        """As ``synthesize``."""
        sources = await asyncio.to_thread(self._sources, nodes)
        metadata = sources.metadata()
        history = await self._memory.aget(input=str(query_bundle))
        messages = await asyncio.to_thread(self._messages, query_bundle, sources, history)
        if streaming:
            pieces = await astream_chat_response_to_tokens(await self._multi_modal_llm.astream_chat(messages))
            return AsyncStreamingResponse(sources.awatched(pieces, metadata), sources.sent, metadata)
        answer = (await self._multi_modal_llm.achat(messages)).message.content or ""
        return Response(answer, sources.sent, {**metadata, **sources.citations_in(answer)})

    def chat(self, message: Question, *args: Any, **kwargs: Any) -> AgentChatResponse:
        """Answer a message, words or an image or both; ``response.metadata`` holds the citations."""
        response: AgentChatResponse = super().chat(  # type: ignore[misc]
            _message(message), *args, **kwargs
        )
        return _with_metadata(response)

    async def achat(self, message: Question, *args: Any, **kwargs: Any) -> AgentChatResponse:
        """As ``chat``."""
        response: AgentChatResponse = await super().achat(  # type: ignore[misc]
            _message(message), *args, **kwargs
        )
        return _with_metadata(response)

    def stream_chat(self, message: Question, *args: Any, **kwargs: Any) -> StreamingAgentChatResponse:
        """As ``chat``, streaming; the citations are in ``response.metadata`` when the stream has ended."""
        response: StreamingAgentChatResponse = super().stream_chat(  # type: ignore[misc]
            _message(message), *args, **kwargs
        )
        return _with_metadata(response)

    async def astream_chat(self, message: Question, *args: Any, **kwargs: Any) -> StreamingAgentChatResponse:
        """As ``stream_chat``."""
        response: StreamingAgentChatResponse = await super().astream_chat(  # type: ignore[misc]
            _message(message), *args, **kwargs
        )
        return _with_metadata(response)

    def _sources(self, nodes: Sequence[NodeWithScore]) -> Sources:
        return Sources.of(
            nodes,
            language=self._blocks.language,
            metadata_keys=self._blocks.metadata_keys,
            on_error=self._on_error,
            needs_pictures=self._blocks.include_images,
        )

    def _messages(
        self, query: str | QueryBundle, sources: Sources, history: Sequence[ChatMessage]
    ) -> list[ChatMessage]:
        """Put the history between the rule and the sources with the message."""
        bundle = as_bundle(query)
        results = self._blocks.of_results(sources.sent) or self._blocks.of_no_results()
        shown = [ChatMessage(blocks=result.node.get_content_blocks()) for result in results]
        prompt = self._template.format_messages(
            context_messages=shown, query_str=bundle.query_str, query_blocks=self._blocks.of_question(bundle)
        )
        rules = [message.content or "" for message in prompt if message.role == MessageRole.SYSTEM]
        system = "\n\n".join(filter(None, [self._system_prompt, *rules]))
        return [
            *([ChatMessage(role=MessageRole.SYSTEM, content=system)] if system else []),
            *(self._with_words(message) for message in history),
            *(message for message in prompt if message.role != MessageRole.SYSTEM),
        ]

    def _with_words(self, message: ChatMessage) -> ChatMessage:
        """Say of a message that was a picture alone what it was: APIs refuse empty ones."""
        if message.role != MessageRole.USER or has_words(message.content or ""):
            return message
        return ChatMessage(role=message.role, content=wording_of(self._blocks.language).picture_alone)


class PictureContextChatEngine(_AnswersFromPictures, MultiModalContextChatEngine):
    """Looks for sources by each message as it is; a message may be a ``QueryBundle`` with a picture.

    ``response.metadata`` holds the citations, as that of ``PictureQueryEngine`` does; of a stream, when it has ended.
    """

    @classmethod
    @explicit_arguments
    def from_defaults(  # type: ignore[override]
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
        verbose: bool = False,
    ) -> PictureContextChatEngine:
        """Build a chat engine.

        Args:
            retriever: Usually ``PictureRetriever``.
            chat_history: What was said before.
            memory: LlamaIndex's; by default as much of the history as the LLM takes.
            system_prompt: Stands before the package's own rules.
            node_postprocessors: Applied in order; pictures are numbered after them.
            context_template: Of LlamaIndex, for texts; it must be None.
            multi_modal_llm: As ``llm`` in ``as_chat_engine``.
            context_prompt: As ``context_template``.
            language: ``"zh"`` or ``"en"``, of prompts and labels.
            include_images: Whether pictures go out; else labels with captions alone.
            metadata_keys: Metadata that goes out besides.
            on_error: ``"skip"`` pictures that cannot be read any more, or ``"raise"`` at the first.
            chat_content_qa_template: In place of the package's prompt.
            verbose: Without effect: this engine has nothing to tell. ``"condense_plus_context"`` has.

        Raises:
            TypeError: An argument is not known; the message says which one is meant.
            ValueError: ``context_template`` or ``context_prompt`` is given.
        """
        _require_no_text_prompts(context_template=context_template, context_prompt=context_prompt)
        # Core's calls this class's constructor.
        engine: Any = super().from_defaults(
            retriever,
            chat_history=chat_history,
            memory=memory,
            system_prompt=system_prompt,
            node_postprocessors=node_postprocessors,
            multi_modal_llm=llm_or_default(multi_modal_llm),
        )
        built: PictureContextChatEngine = engine
        built._show_pictures(language, include_images, metadata_keys, on_error, chat_content_qa_template)
        return built


class PictureCondensePlusContextChatEngine(_AnswersFromPictures, MultiModalCondensePlusContextChatEngine):
    """Has the LLM make a question of message and history, and looks for sources by this and the message's picture.

    A message may be a ``QueryBundle`` with a picture. ``response.metadata`` holds the citations, as that of
    ``PictureQueryEngine`` does; of a stream, when it has ended.
    """

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
    ) -> PictureCondensePlusContextChatEngine:
        """Build a chat engine.

        Args:
            retriever: Usually ``PictureRetriever``.
            multi_modal_llm: As ``llm`` in ``as_chat_engine``.
            chat_history: What was said before.
            memory: LlamaIndex's; by default as much of the history as the LLM takes.
            system_prompt: Stands before the package's own rules.
            context_prompt: Of LlamaIndex, for texts; it must be None.
            condense_prompt: Makes a question of history and message, in place of the package's.
            skip_condense: Whether to look for sources by each message as it is.
            node_postprocessors: Applied in order; pictures are numbered after them.
            verbose: Whether to print the condensed question.
            context_template: As ``context_prompt``.
            language: ``"zh"`` or ``"en"``, of prompts and labels.
            include_images: Whether pictures go out; else labels with captions alone.
            metadata_keys: Metadata that goes out besides.
            on_error: ``"skip"`` pictures that cannot be read any more, or ``"raise"`` at the first.
            chat_content_qa_template: In place of the package's prompt.

        Raises:
            TypeError: An argument is not known; the message says which one is meant.
            ValueError: ``context_template`` or ``context_prompt`` is given.
        """
        _require_no_text_prompts(context_template=context_template, context_prompt=context_prompt)
        # Core's calls this class's constructor.
        engine: Any = super().from_defaults(
            retriever,
            multi_modal_llm=llm_or_default(multi_modal_llm),
            chat_history=chat_history,
            memory=memory,
            system_prompt=system_prompt,
            condense_prompt=condense_prompt or prompts_of(language).condense,
            skip_condense=skip_condense,
            node_postprocessors=node_postprocessors,
            verbose=verbose,
        )
        built: PictureCondensePlusContextChatEngine = engine
        built._show_pictures(language, include_images, metadata_keys, on_error, chat_content_qa_template)
        return built

    def _condense_question(self, chat_history: list[ChatMessage], latest_message: Any) -> Any:
        return _rephrased(latest_message, super()._condense_question(chat_history, str(latest_message)))

    async def _acondense_question(self, chat_history: list[ChatMessage], latest_message: Any) -> Any:
        return _rephrased(latest_message, await super()._acondense_question(chat_history, str(latest_message)))


class PictureSimpleChatEngine(SimpleChatEngine):
    """LlamaIndex's engine without sources; a message may be an image, or a ``QueryBundle`` with one."""

    # LlamaIndex passes a message on as the content of a ``ChatMessage``, which may be blocks as well.

    def chat(self, message: Question, chat_history: list[ChatMessage] | None = None) -> AgentChatResponse:
        """Answer a message, words or an image or both."""
        response: AgentChatResponse = super().chat(_content(message), chat_history)
        return response

    async def achat(self, message: Question, chat_history: list[ChatMessage] | None = None) -> AgentChatResponse:
        """As ``chat``."""
        response: AgentChatResponse = await super().achat(await asyncio.to_thread(_content, message), chat_history)
        return response

    def stream_chat(
        self, message: Question, chat_history: list[ChatMessage] | None = None
    ) -> StreamingAgentChatResponse:
        """As ``chat``, streaming."""
        response: StreamingAgentChatResponse = super().stream_chat(_content(message), chat_history)
        return response

    async def astream_chat(
        self, message: Question, chat_history: list[ChatMessage] | None = None
    ) -> StreamingAgentChatResponse:
        """As ``stream_chat``."""
        response: StreamingAgentChatResponse = await super().astream_chat(
            await asyncio.to_thread(_content, message), chat_history
        )
        return response


def _content(question: Question) -> Any:
    bundle = as_bundle(question)
    if not bundle.image_path:
        return bundle.query_str
    words = [TextBlock(text=bundle.query_str)] if has_words(bundle.query_str) else []
    return [image_block(bundle.image_path), *words]


def _require_no_text_prompts(**prompts: object) -> None:
    for name, prompt in prompts.items():
        if prompt is not None:
            raise ValueError(f"{name} is for texts; give chat_content_qa_template, which shows pictures")


def _with_metadata(response: ChatResponseType) -> ChatResponseType:
    """Give a chat response the metadata of the answer; a stream completes the same dictionary at its end."""
    # LlamaIndex's class for streams has no such field.
    response.metadata = response.sources[0].raw_output  # type: ignore[attr-defined, unused-ignore]
    return response


def _message(question: Question) -> str | QueryBundle:
    bundle = as_bundle(question)
    return bundle.query_str if isinstance(question, str) else bundle


def _rephrased(message: str | QueryBundle, question: str) -> str | QueryBundle:
    return replace(message, query_str=question) if isinstance(message, QueryBundle) else question
