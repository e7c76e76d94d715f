"""Faults of the mock server that wait for an event instead of a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

from waiting import PATIENCE

from llama_index_mm_zhipu.testing import Fault
from llama_index_mm_zhipu.testing.wire import Finish, Reply


@dataclass(frozen=True)
class Together(Fault):
    """A normal answer that is sent when as many requests are waiting as the barrier has parties.

    Attributes:
        barrier: Breaks after a timeout; then the client gets no answer.
    """

    barrier: threading.Barrier

    def alter_reply(self, reply: Reply) -> Reply:
        """Wait for the other requests."""
        self.barrier.wait(PATIENCE)
        return reply


@dataclass(frozen=True)
class Held(Fault):
    """A normal answer that is sent when an event is set.

    Attributes:
        released: The event.
    """

    released: threading.Event

    def alter_reply(self, reply: Reply) -> Reply:
        """Wait for the event."""
        assert self.released.wait(PATIENCE)
        return reply


@dataclass(frozen=True)
class HeldAfter(Fault):
    """A normal answer that stops in the middle, and goes on when an event is set.

    Attributes:
        after: Number of events before it stops.
        released: The event.
        is_cut: Whether the connection is closed then, instead of going on.
    """

    after: int
    released: threading.Event
    is_cut: bool = False

    def alter_reply(self, reply: Reply) -> Reply:
        """Wait for the event between two pieces."""
        pieces = reply.pieces[: self.after + 1] if self.is_cut else reply.pieces
        finish = Finish.CUT if self.is_cut else reply.finish
        return replace(reply, pieces=_HeldPieces(pieces, self.after, self.released), finish=finish)


class _HeldPieces(tuple[bytes, ...]):
    """Pieces of a reply that are waited for after the first ones."""

    _after: int
    _released: threading.Event

    def __new__(cls, pieces: tuple[bytes, ...], after: int, released: threading.Event) -> _HeldPieces:
        made = super().__new__(cls, pieces)
        made._after, made._released = after, released
        return made

    def __iter__(self) -> Iterator[bytes]:
        for number, piece in enumerate(super().__iter__()):
            if number == self._after:
                assert self._released.wait(PATIENCE)
            yield piece
