"""Chat engines that answer from images: LlamaIndex's own two, which by themselves drop captions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole
from llama_index.core.chat_engine import (
    CondenseQuestionChatEngine,
    MultiModalCondensePlusContextChatEngine,
    MultiModalContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.chat_engine.types import AgentChatResponse, StreamingAgentChatResponse
from llama_index.core.llms import LLM
from llama_index.core.llms.utils import LLMType
from llama_index.core.memory import BaseMemory
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.schema import QueryBundle
from typing_extensions import Self

from llama_index_mm_zhipu.arguments import explicit_arguments
from llama_index_mm_zhipu.llm.llm import llm_or_default
from llama_index_mm_zhipu.prompts.templates import prompts_of
from llama_index_mm_zhipu.prompts.wording import language_of_text, wording_of
from llama_index_mm_zhipu.query.chat_memory import RemembersImages, message_of
from llama_index_mm_zhipu.query.chat_turns import AnswersFromImages
from llama_index_mm_zhipu.query.prompt_helper import require_fitting
from llama_index_mm_zhipu.query.question import ImageQuestion, Question, as_bundle, has_words, images_of
from llama_index_mm_zhipu.types import Language, OnError

logger = logging.getLogger(__name__)


class ImageContextChatEngine(AnswersFromImages, MultiModalContextChatEngine):
    """Looks for sources by each message as it is.

    A message may be words, an image, or both in a ``QueryBundle`` or in a ``ChatMessage``. The user's images stay in
    the history and go out again with later messages, as far as the model takes so many; files are remembered by their
    path, other images in this process only. The images found for a message go out with this message alone.

    ``response.metadata`` holds the citations, as that of ``ImageQueryEngine`` does; of a stream, when it has ended.
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
    ) -> ImageContextChatEngine:
        """Build a chat engine.

        Args:
            retriever: Usually ``ImageRetriever``.
            chat_history: What was said before; its images are shown, too. Without effect if ``memory`` is given.
            memory: LlamaIndex's; by default as much of the history as the LLM takes.
            system_prompt: Stands before the package's own rules.
            node_postprocessors: Applied in order; images are numbered after them.
            context_template: Of LlamaIndex, for texts; it must be None.
            multi_modal_llm: As ``llm`` in ``as_chat_engine``.
            context_prompt: As ``context_template``.
            language: ``"zh"`` or ``"en"``, of prompts and labels.
            include_images: Whether images go out; else labels with captions alone.
            metadata_keys: Metadata that goes out besides.
            on_error: ``"skip"`` images that cannot be read any more, or ``"raise"`` at the first.
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
            memory=memory,
            system_prompt=system_prompt,
            node_postprocessors=node_postprocessors,
            multi_modal_llm=llm_or_default(multi_modal_llm),
        )
        built: ImageContextChatEngine = engine
        built._set_up(language, include_images, metadata_keys, on_error, chat_content_qa_template)
        built._begin_with(chat_history, memory)
        return built


class ImageCondensePlusContextChatEngine(AnswersFromImages, MultiModalCondensePlusContextChatEngine):
    """Has the LLM make a question of message and history, and looks for sources by this and the message's image.

    Messages, images and ``response.metadata`` are those of ``ImageContextChatEngine``.
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
    ) -> ImageCondensePlusContextChatEngine:
        """Build a chat engine.

        Args:
            retriever: Usually ``ImageRetriever``.
            multi_modal_llm: As ``llm`` in ``as_chat_engine``.
            chat_history: What was said before; its images are shown, too. Without effect if ``memory`` is given.
            memory: LlamaIndex's; by default as much of the history as the LLM takes.
            system_prompt: Stands before the package's own rules.
            context_prompt: Of LlamaIndex, for texts; it must be None.
            condense_prompt: Makes a question of history and message, in place of the package's.
            skip_condense: Whether to look for sources by each message as it is.
            node_postprocessors: Applied in order; images are numbered after them.
            verbose: Whether to print the condensed question.
            context_template: As ``context_prompt``.
            language: ``"zh"`` or ``"en"``, of prompts and labels.
            include_images: Whether images go out; else labels with captions alone.
            metadata_keys: Metadata that goes out besides.
            on_error: ``"skip"`` images that cannot be read any more, or ``"raise"`` at the first.
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
            memory=memory,
            system_prompt=system_prompt,
            condense_prompt=condense_prompt or prompts_of(language).condense,
            skip_condense=skip_condense,
            node_postprocessors=node_postprocessors,
            verbose=verbose,
        )
        built: ImageCondensePlusContextChatEngine = engine
        built._set_up(language, include_images, metadata_keys, on_error, chat_content_qa_template)
        built._begin_with(chat_history, memory)
        return built

    def _to_search_by(self, question: QueryBundle) -> QueryBundle:
        if not has_words(question.query_str):
            return question
        history = self._without_images(self._memory.get(input=question.query_str))
        return self._reported(question, self._condense_question(history, question.query_str))

    async def _ato_search_by(self, question: QueryBundle) -> QueryBundle:
        if not has_words(question.query_str):
            return question
        history = self._without_images(await self._memory.aget(input=question.query_str))
        return self._reported(question, await self._acondense_question(history, question.query_str))

    def _without_images(self, history: Sequence[ChatMessage]) -> list[ChatMessage]:
        """Return the words of a history, which condensing prompts hold."""
        alone = wording_of(self._blocks.language).image_alone
        return [
            ChatMessage(role=message.role, content=message.content if has_words(message.content or "") else alone)
            if message.role == MessageRole.USER
            else message
            for message in history
        ]

    def _reported(self, question: QueryBundle, condensed: str) -> QueryBundle:
        logger.info("Condensed question: %s", condensed)
        if self._verbose:
            print(f"Condensed question: {condensed}")
        return replace(question, query_str=condensed)


def _require_no_text_prompts(**prompts: object) -> None:
    for name, prompt in prompts.items():
        if prompt is not None:
            raise ValueError(f"{name} is for texts; give chat_content_qa_template, which shows images")


class _TakesImages(RemembersImages):
    """Passes a message with images to LlamaIndex's engine as content blocks, which this puts into a ``ChatMessage``."""

    _llm: LLM

    @classmethod
    def with_history(
        cls, chat_history: list[ChatMessage] | None = None, memory: BaseMemory | None = None, **settings: Any
    ) -> Self:
        """Build an engine as ``from_defaults`` does.

        Args:
            chat_history: What was said before; its images are kept as those of new messages are.
            memory: LlamaIndex's; it keeps what it has, and ``chat_history`` is then without effect.
            **settings: Others of ``from_defaults``.
        """
        engine: Self = cls.from_defaults(memory=memory, **settings)  # type: ignore[attr-defined]
        engine._begin_with(chat_history, memory)
        return engine

    def chat(self, message: Question, chat_history: list[ChatMessage] | None = None) -> AgentChatResponse:
        """Answer a message.

        Args:
            message: Words; an image in any form but a string; or both in a ``QueryBundle`` or in a ``ChatMessage``.
            chat_history: What was said before, as in LlamaIndex's engine.

        Raises:
            ImageError: An image of the message cannot be read.
            GLMError: The LLM, if it is ``ZhipuMultiModal``, did not answer.
            ValueError: The message is longer than what the LLM takes.
        """
        response: AgentChatResponse = super().chat(self._content(message), chat_history)  # type: ignore[misc]
        return response

    async def achat(self, message: Question, chat_history: list[ChatMessage] | None = None) -> AgentChatResponse:
        """As ``chat``."""
        content = await asyncio.to_thread(self._content, message)
        response: AgentChatResponse = await super().achat(content, chat_history)  # type: ignore[misc]
        return response

    def stream_chat(
        self, message: Question, chat_history: list[ChatMessage] | None = None
    ) -> StreamingAgentChatResponse:
        """As ``chat``, streaming."""
        content = self._content(message)
        response: StreamingAgentChatResponse = super().stream_chat(content, chat_history)  # type: ignore[misc]
        return response

    async def astream_chat(
        self, message: Question, chat_history: list[ChatMessage] | None = None
    ) -> StreamingAgentChatResponse:
        """As ``stream_chat``."""
        content = await asyncio.to_thread(self._content, message)
        response: StreamingAgentChatResponse = await super().astream_chat(content, chat_history)  # type: ignore[misc]
        return response

    def _content(self, message: Question) -> Any:
        question = as_bundle(message)
        require_fitting(question.query_str, self._llm.metadata, packed=False)
        return message_of(question).blocks if images_of(question) else question.query_str


class ImageSimpleChatEngine(_TakesImages, SimpleChatEngine):
    """LlamaIndex's engine without sources, for messages with images, which stay in the history."""


class ImageCondenseQuestionChatEngine(_TakesImages, CondenseQuestionChatEngine):
    """Has the LLM make a question of message and history, and asks the query engine.

    The query engine sees the images of the message; if it has none, the newest ones of the history are shown with the
    question, and the search is by its words.
    """

    def _condense_question(self, chat_history: list[ChatMessage], last_message: Any) -> Any:
        question = _as_question(last_message)
        if has_words(question.query_str):
            condensed = super()._condense_question(_words_of(chat_history), question.query_str)
            return _with_earlier_images(question, condensed, chat_history)
        return question

    async def _acondense_question(self, chat_history: list[ChatMessage], last_message: Any) -> Any:
        question = _as_question(last_message)
        if has_words(question.query_str):
            condensed = await super()._acondense_question(_words_of(chat_history), question.query_str)
            return _with_earlier_images(question, condensed, chat_history)
        return question


def _as_question(content: Any) -> QueryBundle:
    return as_bundle(ChatMessage(content=content))


def _words_of(history: Sequence[ChatMessage]) -> list[ChatMessage]:
    alone = wording_of(language_of_text("\n".join(message.content or "" for message in history))).image_alone
    return [ChatMessage(role=message.role, content=message.content or alone) for message in history]


def _with_earlier_images(question: QueryBundle, condensed: str, history: Sequence[ChatMessage]) -> QueryBundle:
    own = images_of(question)
    images = own or next(filter(None, map(_images_in, reversed(history))), [])
    return ImageQuestion(condensed, image_path=question.image_path, images=images) if images else QueryBundle(condensed)


def _images_in(message: ChatMessage) -> list[ImageBlock]:
    return [block for block in message.blocks if isinstance(block, ImageBlock) and message.role == MessageRole.USER]
