"""Event streams: the order of events, errors, readers that leave, and servers that stop."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from api import SentEvent, events_of
from waiting import PATIENCE

from llama_index_mm_zhipu.server import events
from llama_index_mm_zhipu.server.events import Event, EventResponse, EventStreams, SendEvent, StoppedError, Work


class Reader:
    """Reads a response as a server sends it; may leave.

    Args:
        leaves_after: Number of messages after which the client leaves; None for the end.
    """

    def __init__(self, leaves_after: int | None = None) -> None:
        self.text = ""
        self._leaves_after = leaves_after
        self._messages = 0
        self._left = asyncio.Event()

    @property
    def events(self) -> list[SentEvent]:
        """The events that came."""
        return events_of(self.text)

    async def read(self, response: EventResponse) -> None:
        """Read until the end, or until the client leaves."""
        if self._leaves_after == 0:
            self._left.set()
        await asyncio.wait_for(response({"type": "http"}, self._receive, self._send), PATIENCE)

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self._messages += 1
        self.text += message.get("body", b"").decode()
        if self._messages == self._leaves_after:
            self._left.set()


class Ended:
    """Counts how often the work has ended, and waits for it."""

    def __init__(self) -> None:
        self.count = 0
        self.event = threading.Event()

    def __call__(self) -> None:
        self.count += 1
        self.event.set()

    async def wait(self) -> None:
        """Wait for the first end."""
        assert await asyncio.to_thread(self.event.wait, PATIENCE)


def numbers_until(last: int) -> Work:
    """Return work that sends numbers."""

    def work(send: SendEvent) -> Event:
        for number in range(last):
            send(Event("number", number))
        return Event("end", last)

    return work


def endless(send: SendEvent) -> Event:
    """Send events until the work is stopped."""
    while True:
        send(Event("more", None))


async def test_events_come_in_their_order_and_the_work_ends_before_the_last() -> None:
    ended, reader = Ended(), Reader()
    await reader.read(EventResponse(numbers_until(3), EventStreams(1), ended))
    assert reader.events == [("number", 0), ("number", 1), ("number", 2), ("end", 3)]
    assert ended.count == 1


async def test_an_error_of_the_work_is_the_last_event() -> None:
    def work(send: SendEvent) -> Event:
        send(Event("number", 1))
        raise ValueError("bad\nfilter")

    ended, reader = Ended(), Reader()
    await reader.read(EventResponse(work, EventStreams(1), ended))
    assert reader.events[1:] == [("error", {"error": {"code": "bad_request", "message": "bad filter"}})]
    assert ended.count == 1


async def test_an_error_of_the_end_does_not_hold_the_response() -> None:
    def fail() -> None:
        raise StoppedError

    reader = Reader()
    with pytest.warns(pytest.PytestUnhandledThreadExceptionWarning):
        await reader.read(EventResponse(numbers_until(0), EventStreams(1), fail))
        await asyncio.sleep(0)
    assert reader.events == [("end", 0)]
