"""Server-sent events of work that is done in a worker thread, and that ends when its reader leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from llama_index_mm_zhipu.server.errors import described
from llama_index_mm_zhipu.server.responses import json_text

KEEP_ALIVE_SECONDS = 15.0
"""Seconds of silence after which a comment is sent: proxies close connections that are silent."""


class Event(NamedTuple):
    """An event.

    Attributes:
        name: Its type.
        data: A value that JSON can hold.
    """

    name: str
    data: Any

    def encoded(self) -> bytes:
        """Return the event as it is sent."""
        # A line break would end the field.
        return f"event: {self.name}\ndata: {json_text(self.data)}\n\n".encode()


Events = Generator[Event, None, None]


class EventResponse(StreamingResponse):
    """Sends the events of a generator, which runs in a worker thread; its errors become an event ``error``.

    If the client leaves, the generator is closed at its next event.

    Args:
        events: The generator.
        limiter: Limits how many generators run at a time.
        on_end: Called at the end, however it came.
    """

    def __init__(self, events: Events, limiter: anyio.CapacityLimiter, on_end: Callable[[], None]) -> None:
        self._events = events
        self._limiter = limiter
        self._on_end = on_end
        self._pending: asyncio.Task[Event | None] | None = None
        super().__init__(
            self._encoded(),
            media_type="text/event-stream",
            # Proxies would collect the events.
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._pending is None or self._pending.done():
                self._close()
            else:
                # The generator can be closed when its thread has come to the next event.
                self._pending.add_done_callback(self._close)

    async def _encoded(self) -> AsyncGenerator[bytes, None]:
        while True:
            self._pending = asyncio.create_task(anyio.to_thread.run_sync(_next, self._events, limiter=self._limiter))
            while not (await asyncio.wait({self._pending}, timeout=KEEP_ALIVE_SECONDS))[0]:
                yield b": keep-alive\n\n"
            event = self._pending.result()
            if event is None:
                return
            yield event.encoded()

    def _close(self, pending: asyncio.Task[Event | None] | None = None) -> None:
        # Tasks are cancelled when the server ends, while the thread may still be inside the generator.
        if pending is None or not pending.cancelled():
            self._events.close()
        self._on_end()


def _next(events: Events) -> Event | None:
    try:
        return next(events, None)
    except Exception as error:
        _, code, message = described(error)
        events.close()
        return Event("error", {"error": {"code": code, "message": message}})
