"""Turns: so many calls at a time, in the order in which they came."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from llama_index_mm_zhipu.llm.errors import GLMTimeoutError, new_error

# Streams that nobody reads any more may lie in reference cycles, which Python collects when it likes. A collection
# stops all threads for a moment: not sooner, not more often.
_COLLECT_AFTER_SECONDS = 5.0
_COLLECT_EVERY_SECONDS = 60.0


class Turns:
    """Lets calls and streams go on; all coroutines run on one event loop.

    Args:
        most: How many at a time.
        patience: Seconds without the end of any call or stream after which waiting is given up.
    """

    def __init__(self, most: int, patience: float) -> None:
        self._most = most
        self._patience = patience
        self._free = asyncio.Semaphore(most)
        self._streams = 0
        self._ended = 0
        self._collected = -_COLLECT_EVERY_SECONDS

    @asynccontextmanager
    async def turn(self, *, is_stream: bool) -> AsyncIterator[None]:
        """Wait for a turn, and have it until the block ends.

        Raises:
            GLMTimeoutError: The line does not move: streams are neither read nor closed.
        """
        await self._wait()
        self._streams += is_stream
        try:
            yield
        finally:
            self._streams -= is_stream
            self._ended += 1
            self._free.release()

    async def _wait(self) -> None:
        acquiring = asyncio.ensure_future(self._free.acquire())
        try:
            if not await self._moves(acquiring, min(_COLLECT_AFTER_SECONDS, self._patience)):
                await self._collect_forgotten_streams()
            while not acquiring.done():
                if not await self._moves(acquiring, self._patience):
                    raise new_error(
                        GLMTimeoutError,
                        f"none of the {self._most} calls of max_concurrency ended within {self._patience:g} s: "
                        "read streams to their end, or close them",
                    )
        except BaseException:
            if acquiring.done() and not acquiring.cancelled():
                self._free.release()
            acquiring.cancel()
            raise

    async def _moves(self, acquiring: asyncio.Future[Any], seconds: float) -> bool:
        """Wait for the turn, and tell whether it came or any other ended meanwhile."""
        ended = self._ended
        await asyncio.wait({acquiring}, timeout=seconds)
        return acquiring.done() or self._ended > ended

    async def _collect_forgotten_streams(self) -> None:
        now = time.monotonic()
        if self._streams == self._most and now - self._collected > _COLLECT_EVERY_SECONDS:
            self._collected = now
            await asyncio.to_thread(gc.collect)
