"""``ImageMemory``: a chat memory that keeps the user's images without writing their bytes to a chat store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.memory import BaseMemory
from llama_index.core.schema import QueryBundle

from llama_index_mm_zhipu.images import ImageError, ImageSource, open_image, read_bytes, resolve_source
from llama_index_mm_zhipu.llm.images import UnprintedImageBlock, content_key, language_of_chat
from llama_index_mm_zhipu.prompts.wording import wording_of
from llama_index_mm_zhipu.query.question import has_words, images_of

logger = logging.getLogger(__name__)

_SCHEME = "session-image:"
"""Scheme of the URL that replaces, in the chat store, an image given as bytes."""


class ImageMemory(BaseMemory):
    """A memory that wraps another one, which may write its messages to a database.

    The wrapped memory gets a URL for each image: ``file://`` for a file, the URL of an image on the web, or
    ``session-image:`` and a hash for an image given as bytes. These bytes stay in this object until ``reset``. Messages
    come back with their images; a text replaces an image that no longer exists.
    """

    _memory: BaseMemory = PrivateAttr()
    _contents: dict[str, bytes] = PrivateAttr(default_factory=dict)

    def __init__(self, memory: BaseMemory) -> None:
        super().__init__()
        self._memory = memory

    @classmethod
    def of(cls, memory: BaseMemory) -> ImageMemory:
        """Wrap a memory, unless it is of this class."""
        return memory if isinstance(memory, cls) else cls(memory)

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this component."""
        return "ImageMemory"

    @classmethod
    def from_defaults(cls, **kwargs: Any) -> ImageMemory:
        """Raise an error: this memory needs another one to wrap.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("call ImageMemory(memory)")

    @property
    def tokenizer_fn(self) -> Callable[[str], list[Any]]:
        """The tokenizer of the wrapped memory, with which ``SimpleChatEngine`` counts its first messages."""
        tokenizer: Callable[[str], list[Any]] = self._memory.tokenizer_fn  # type: ignore[attr-defined]
        return tokenizer

    def get(self, input: str | None = None, **kwargs: Any) -> list[ChatMessage]:  # noqa: A002
        """Return the messages to send, as the wrapped memory selects them."""
        return self._restored(self._memory.get(input=input, **kwargs))

    async def aget(self, input: str | None = None, **kwargs: Any) -> list[ChatMessage]:  # noqa: A002
        """As ``get``."""
        return await asyncio.to_thread(self._restored, await self._memory.aget(input=input, **kwargs))

    def get_all(self) -> list[ChatMessage]:
        """Return all messages."""
        return self._restored(self._memory.get_all())

    async def aget_all(self) -> list[ChatMessage]:
        """As ``get_all``."""
        return await asyncio.to_thread(self._restored, await self._memory.aget_all())

    def put(self, message: ChatMessage) -> None:
        """Add a message."""
        self._memory.put(self._storable(message))

    async def aput(self, message: ChatMessage) -> None:
        """As ``put``."""
        await self._memory.aput(await asyncio.to_thread(self._storable, message))

    async def aput_messages(self, messages: list[ChatMessage]) -> None:
        """Add messages."""
        await self._memory.aput_messages(await asyncio.to_thread(self._all_storable, messages))

    def set(self, messages: list[ChatMessage]) -> None:
        """Replace all messages."""
        self._memory.set(self._all_storable(messages))

    async def aset(self, messages: list[ChatMessage]) -> None:
        """As ``set``."""
        await self._memory.aset(await asyncio.to_thread(self._all_storable, messages))

    def reset(self) -> None:
        """Forget all messages and images."""
        self._memory.reset()
        self._contents.clear()

    async def areset(self) -> None:
        """As ``reset``."""
        await self._memory.areset()
        self._contents.clear()

    def _all_storable(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        return list(map(self._storable, messages))

    def _storable(self, message: ChatMessage) -> ChatMessage:
        if not _has_image(message):
            return message
        return message.model_copy(update={"blocks": [self._without_bytes(block) for block in message.blocks]})

    def _without_bytes(self, block: Any) -> Any:
        if not isinstance(block, ImageBlock) or _key_of(block) is not None:
            return block
        source = resolve_source(block)
        if isinstance(source, Path):
            url = source.absolute().as_uri()
        elif isinstance(source, str):
            url = source
        else:
            content = read_bytes(source)
            key = content_key(content)
            self._contents[key] = content
            url = _SCHEME + key
        return ImageBlock(url=url, image_mimetype=block.image_mimetype, detail=block.detail)

    def _restored(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        gone = TextBlock(text=wording_of(language_of_chat(messages)).gone)
        return [
            message.model_copy(update={"blocks": [self._with_bytes(block, gone) for block in message.blocks]})
            if _has_image(message)
            else message
            for message in messages
        ]

    def _with_bytes(self, block: Any, gone: TextBlock) -> Any:
        if not isinstance(block, ImageBlock):
            return block
        if (key := _key_of(block)) is not None:
            content = self._contents.get(key)
            return gone if content is None else UnprintedImageBlock(image=content, detail=block.detail)
        try:
            return image_block(block, detail=block.detail)
        except ImageError as error:
            logger.warning("an image of an earlier message is left out: %s", error)
            return gone


class RemembersImages:
    """Mixin of chat engines whose history keeps the user's images."""

    _memory: BaseMemory

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._memory = ImageMemory.of(self._memory)

    def _begin_with(self, chat_history: list[ChatMessage] | None, memory: BaseMemory | None) -> None:
        """Put a history into the engine's own memory; as in LlamaIndex, a given memory keeps what it has.

        LlamaIndex's ``from_defaults`` would put the images into the chat store.
        """
        if chat_history and memory is None:
            self._memory.set(chat_history)


def image_block(image: ImageSource, detail: str | None = None) -> ImageBlock:
    """Return an image in any form as a block: a file by its path, a web image by its URL, others by their bytes.

    Raises:
        ImageError: The image cannot be read.
    """
    source = resolve_source(image)
    if isinstance(source, str):
        return ImageBlock(url=source, detail=detail)
    if isinstance(source, Path):
        with open_image(source):
            return ImageBlock(path=source, detail=detail)
    return UnprintedImageBlock(image=read_bytes(source), detail=detail)


def message_of(question: QueryBundle) -> ChatMessage:
    """Return a question as the user's message, images first.

    Raises:
        ImageError: An image cannot be read.
    """
    images = [image_block(image) for image in images_of(question)]
    words = [TextBlock(text=question.query_str)] if has_words(question.query_str) or not images else []
    return ChatMessage(role=MessageRole.USER, blocks=[*images, *words])


def _has_image(message: ChatMessage) -> bool:
    return any(isinstance(block, ImageBlock) for block in message.blocks)


def _key_of(block: ImageBlock) -> str | None:
    url = str(block.url) if block.url else ""
    return url.removeprefix(_SCHEME) if url.startswith(_SCHEME) else None
