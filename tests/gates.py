"""Faults of the mock server that wait for an event instead of a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from waiting import PATIENCE

from llama_index_mm_zhipu.testing import Fault
from llama_index_mm_zhipu.testing.wire import Reply


@dataclass(frozen=True)
class Together(Fault):
    """A normal answer, sent when as many requests are waiting for theirs as the barrier counts.

    Attributes:
        barrier: It breaks, and the client gets no answer, where they never wait all at once.
    """

    barrier: threading.Barrier

    def alter_reply(self, reply: Reply) -> Reply:
        """Wait for the others."""
        self.barrier.wait(PATIENCE)
        return reply


@dataclass(frozen=True)
class Held(Fault):
    """A normal answer, sent when the event is set."""

    released: threading.Event

    def alter_reply(self, reply: Reply) -> Reply:
        """Wait for the event."""
        assert self.released.wait(PATIENCE)
        return reply
