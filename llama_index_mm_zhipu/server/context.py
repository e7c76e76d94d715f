"""What the endpoints share: the service, which may still be opening, limits on work done at a time, and counters."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from llama_index_mm_zhipu.server.chats import Chats
from llama_index_mm_zhipu.server.errors import ServerError, described
from llama_index_mm_zhipu.server.metrics import Metrics
from llama_index_mm_zhipu.service.image_service import ImageService

T = TypeVar("T")

# Searches hold the interpreter most of their time: more at once would only take turns.
_SEARCHES = 4
_IMAGES = 2
# Answers wait for the model, and events of indexing for the next image; each has a thread.
_STREAMS = 64


@dataclass(frozen=True)
class LlmInfo:
    """The model that answers.

    Attributes:
        model: Its name.
        is_mock: Whether it is the local mock server, because there is no key.
    """

    model: str
    is_mock: bool


@dataclass
class Context:
    """What the endpoints share.

    Attributes:
        opening: The service.
        llm: The model that answers.
        uploads: Folder for images that users add; None if they may not.
        chats: The conversations.
        metrics: Counters.
    """

    opening: Future[ImageService]
    llm: LlmInfo
    uploads: Path | None = None
    chats: Chats = field(default_factory=Chats)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self._searches = anyio.CapacityLimiter(_SEARCHES)
        self._images = anyio.CapacityLimiter(_IMAGES)
        # Of the responses whose events threads make.
        self.streams = anyio.CapacityLimiter(_STREAMS)

    @property
    def service(self) -> ImageService:
        """The service.

        Raises:
            ServerError: It is still opening, or could not be opened.
        """
        if not self.opening.done():
            raise ServerError(503, "loading", "the model is being loaded; try again in some seconds")
        error = self.opening.exception()
        if error is None:
            return self.opening.result()
        _, code, message = described(error) if isinstance(error, Exception) else (503, "store", str(error))
        raise ServerError(503, code, message)

    async def searching(self, call: Callable[[], T]) -> T:
        """Run a call that searches in a worker thread."""
        return await anyio.to_thread.run_sync(call, limiter=self._searches)

    async def reading_images(self, call: Callable[[], T]) -> T:
        """Run a call that decodes an image in a worker thread."""
        return await anyio.to_thread.run_sync(call, limiter=self._images)

    async def asking(self, call: Callable[[], T]) -> T:
        """Run a call that waits for the model in a worker thread."""
        return await anyio.to_thread.run_sync(call, limiter=self.streams)

    def close(self) -> None:
        """Close the service, after it has opened."""
        if not self.opening.cancel() and self.opening.exception() is None:
            self.opening.result().close()
