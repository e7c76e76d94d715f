"""Chat engines that do not retrieve by themselves: LlamaIndex's own two, for messages with images."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole
from llama_index.core.chat_engine import CondenseQuestionChatEngine, SimpleChatEngine
from llama_index.core.chat_engine.types import AgentChatResponse, StreamingAgentChatResponse
from llama_index.core.llms import LLM
from llama_index.core.memory import BaseMemory
from llama_index.core.schema import QueryBundle
from typing_extensions import Self

from llama_index_mm_zhipu.prompts.wording import language_of_text, wording_of
from llama_index_mm_zhipu.query.chat_memory import RemembersImages, message_of
from llama_index_mm_zhipu.query.question import ImageQuestion, Question, as_bundle, has_words, images_of
from llama_index_mm_zhipu.query.synthesizer import require_fitting


class _TakesImages(RemembersImages):
    """Mixin that hands messages with images to LlamaIndex's engine as content blocks of a ``ChatMessage``."""

    _llm: LLM

    @classmethod
    def with_history(
        cls, chat_history: list[ChatMessage] | None = None, memory: BaseMemory | None = None, **settings: Any
    ) -> Self:
        """Build an engine, as ``from_defaults`` does.

        Args:
            chat_history: Earlier messages, whose images are kept too. Ignored if ``memory`` is given.
            memory: One of LlamaIndex's memories.
            **settings: Further arguments of ``from_defaults``.
        """
        engine: Self = cls.from_defaults(memory=memory, **settings)  # type: ignore[attr-defined]
        engine._begin_with(chat_history, memory)
        return engine

    def chat(self, message: Question, chat_history: list[ChatMessage] | None = None) -> AgentChatResponse:
        """Answer a message.

        Args:
            message: Words; an image in any form but a string; or both in a ``QueryBundle`` or in a ``ChatMessage``.
            chat_history: Replaces the earlier messages, as in LlamaIndex's engine.

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
    """Chat engine without retrieval; images of messages stay in the history."""


class ImageCondenseQuestionChatEngine(_TakesImages, CondenseQuestionChatEngine):
    """Chat engine that has the LLM condense history and message to a question, and asks a query engine.

    The query engine gets the images of the message. If the message has none, it gets the newest images of the history
    to show them, and retrieves by words.
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
