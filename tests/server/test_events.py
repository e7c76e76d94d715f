"""Event streams: the order of events, errors, readers that leave, and servers that stop."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import pytest
from api import SentEvent, events_of
from waiting import PATIENCE

from llama_index_mm_zhipu.server import events
from llama_index_mm_zhipu.server.events import Event, EventResponse, EventStreams, SendEvent, Work


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
    await reader.read(EventResponse(numbers_until(3), EventStreams(1), on_end=ended))
    assert reader.events == [("number", 0), ("number", 1), ("number", 2), ("end", 3)]
    assert ended.count == 1


async def test_an_error_of_the_work_is_the_last_event() -> None:
    def work(send: SendEvent) -> Event:
        send(Event("number", 1))
        raise ValueError("bad\nfilter")

    ended, reader = Ended(), Reader()
    await reader.read(EventResponse(work, EventStreams(1), on_end=ended))
    assert reader.events[1:] == [("error", {"error": {"code": "bad_request", "message": "bad filter"}})]
    assert ended.count == 1


async def test_a_reader_that_leaves_stops_the_work() -> None:
    ended = Ended()
    await Reader(leaves_after=3).read(EventResponse(endless, EventStreams(1), on_end=ended))
    await ended.wait()
    assert ended.count == 1


async def test_a_server_that_stops_ends_responses_without_a_last_event() -> None:
    streams, ended, reader = EventStreams(1), Ended(), Reader()
    released = threading.Event()

    def work(send: SendEvent) -> Event:
        send(Event("first", None))
        # A model that does not answer.
        released.wait(PATIENCE)
        return Event("last", None)

    reading = asyncio.create_task(reader.read(EventResponse(work, streams, on_end=ended)))
    while not reader.events:
        await asyncio.sleep(0)
    streams.stop()
    await reading
    assert [event.name for event in reader.events] == ["first"]
    assert streams.open == set()
    released.set()
    await ended.wait()


async def test_work_whose_reader_leaves_before_it_begins_never_runs() -> None:
    streams, ended, waiting = EventStreams(1), Ended(), Ended()
    released = threading.Event()

    def work(send: SendEvent) -> Event:
        released.wait(PATIENCE)
        return Event("last", None)

    running = asyncio.create_task(Reader().read(EventResponse(work, streams, on_end=ended)))
    while streams.places.available_tokens:
        await asyncio.sleep(0)
    await Reader(leaves_after=1).read(EventResponse(pytest.fail, streams, on_end=waiting))
    assert waiting.count == 1
    released.set()
    await running
    # The place is free again.
    reader = Reader()
    await reader.read(EventResponse(numbers_until(0), streams, on_end=Ended()))
    assert reader.events == [("end", 0)]


async def test_a_reader_that_has_left_before_the_response_releases_what_it_holds() -> None:
    ended = Ended()
    await Reader(leaves_after=0).read(EventResponse(endless, EventStreams(1), on_end=ended))
    await ended.wait()
    assert ended.count == 1


async def test_silence_is_broken_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", 0.001)
    reader, heard = Reader(), threading.Event()

    def work(send: SendEvent) -> Event:
        heard.wait(PATIENCE)
        return Event("last", None)

    reading = asyncio.create_task(reader.read(EventResponse(work, EventStreams(1), on_end=Ended())))
    while ":" not in reader.text:
        await asyncio.sleep(0.001)
    assert reader.text.startswith(": keep-alive\n\n")
    heard.set()
    await reading
    assert reader.events == [("last", None)]


def test_numbers_that_json_lacks_are_null_and_lines_are_one() -> None:
    assert Event("x", {"a": math.nan, "b": "1\n\n2", "c": "\ud800"}).encoded().decode() == (
        'event: x\ndata: {"a": null, "b": "1\\n\\n2", "c": "\ufffd"}\n\n'
    )
