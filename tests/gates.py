"""Faults of the mock server that wait for an event instead of a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from waiting import PATIENCE

from llama_index_mm_zhipu.testing import Fault
from llama_index_mm_zhipu.testing.wire import Reply


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
