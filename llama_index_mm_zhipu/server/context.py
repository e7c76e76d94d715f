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
from llama_index_mm_zhipu.server.events import EventStreams
from llama_index_mm_zhipu.server.metrics import Metrics
from llama_index_mm_zhipu.server.uploads import Uploads
from llama_index_mm_zhipu.service.image_service import ImageService

T = TypeVar("T")

# Searches hold the interpreter most of their time: more at once would only take turns.
_SEARCHES = 4
_IMAGES = 2
# Answers wait for the model, and indexing for other files; each has a thread.
_STREAMS = 64
# Runs that are stopped end at their next image, or after the present batch.
_SECONDS_TO_END = 5.0


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
        upload_folder: Folder for files that users add; None if they may not.
        chats: The conversations.
        metrics: Counters.
        streams: The answers and indexing runs that are sent as events.
        uploads: The files that users add; None if they may not.
    """

    opening: Future[ImageService]
    llm: LlmInfo
    upload_folder: Path | None = None
    chats: Chats = field(default_factory=Chats)
    metrics: Metrics = field(default_factory=Metrics)
    streams: EventStreams = field(default_factory=lambda: EventStreams(_STREAMS))
    uploads: Uploads | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._searches = anyio.CapacityLimiter(_SEARCHES)
        self._images = anyio.CapacityLimiter(_IMAGES)
        self._answers = anyio.CapacityLimiter(_STREAMS)
        if self.upload_folder is not None:
            self.uploads = Uploads(self.upload_folder, lambda path: self.service.has_images_of(path))

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
        """Run a call that prepares a stream in a worker thread."""
        return await anyio.to_thread.run_sync(call, limiter=self._answers)

    def close(self) -> None:
        """Close the service when it has opened, unless an indexing run does not end: the process ends it safely."""
        self.opening.cancel()
        if self.uploads is None or self.uploads.wait_until_unused(_SECONDS_TO_END):
            self.opening.add_done_callback(_close)


def _close(opening: Future[ImageService]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
