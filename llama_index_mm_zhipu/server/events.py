"""Server-sent events of work that runs in a thread, and that ends when its reader leaves or the server stops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, NamedTuple

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from llama_index_mm_zhipu.server.errors import described
from llama_index_mm_zhipu.server.responses import json_text

KEEP_ALIVE_SECONDS = 15.0
"""Seconds of silence after which a comment is sent: proxies close connections that are silent."""

_KEEP_ALIVE = b": keep-alive\n\n"


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


class StoppedError(RuntimeError):
    """Raised to work whose reader left, or whose server stops."""


SendEvent = Callable[[Event], None]
"""Sends an event from the thread of the work; raises ``StoppedError`` if nobody reads any more."""

Work = Callable[[SendEvent], Event]
"""Work that sends events as it goes on, and returns the last one."""


def error_event(code: str, message: str) -> Event:
    """Return the event for an error that ends the work; see ``error_response``."""
    return Event("error", {"error": {"code": code, "message": message}})


class EventStreams:
    """The event streams of a server.

    Args:
        max_running: How many may run at a time; others wait.
    """

    def __init__(self, max_running: int) -> None:
        self.places = anyio.CapacityLimiter(max_running)
        """Each running stream has one."""
        self.open: set[EventResponse] = set()
        """The streams that are sent."""

    def stop(self) -> None:
        """End all streams. Their work ends at its next event."""
        for stream in list(self.open):
            stream.stop()


class EventResponse(StreamingResponse):
    """Sends the events of work; an error of the work becomes an event ``error``.

    Args:
        work: Runs in a thread of its own. The thread does not keep the process from ending: a model may not answer.
        streams: The streams of the server.
        on_end: Called when the work has ended, before its last event is sent; also if it never began.
        on_stop: Called when nobody reads any more, so that the work need not wait for others.
    """

    def __init__(
        self,
        work: Work,
        streams: EventStreams,
        *,
        on_end: Callable[[], None],
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._work = work
        self._streams = streams
        self._on_end = on_end
        self._on_stop = on_stop
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._is_stopped = threading.Event()
        self._has_begun = False
        super().__init__(
            self._encoded(),
            media_type="text/event-stream",
            # Proxies would collect the events.
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        self._streams.open.add(self)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.open.discard(self)
            self.stop()
            if not self._has_begun:
                self._on_end()

    def stop(self) -> None:
        """End the response without the last event, and the work at its next one."""
        self._is_stopped.set()
        self._on_stop()
        self._events.put_nowait(None)

    async def _encoded(self) -> AsyncGenerator[bytes, None]:
        # The work has the place until it ends, which may be after the response.
        await self._streams.places.acquire_on_behalf_of(self)
        self._has_begun = True
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, args=(loop,), name="event stream", daemon=True).start()
        while (chunk := await self._next_chunk()) is not None:
            yield chunk

    async def _next_chunk(self) -> bytes | None:
        with anyio.move_on_after(KEEP_ALIVE_SECONDS):
            event = await self._events.get()
            return None if event is None else event.encoded()
        return _KEEP_ALIVE

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        def call(function: Callable[..., None], *arguments: object) -> None:
            # The loop is closed when the server has ended.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(function, *arguments)

        def send(event: Event) -> None:
            if self._is_stopped.is_set():
                raise StoppedError
            call(self._events.put_nowait, event)

        last = None
        try:
            last = self._work(send)
        except StoppedError:
            pass
        except Exception as error:
            _, code, message = described(error)
            last = error_event(code, message)
        try:
            self._on_end()
        finally:
            call(self._streams.places.release_on_behalf_of, self)
            if last is not None:
                call(self._events.put_nowait, last)
            call(self._events.put_nowait, None)
