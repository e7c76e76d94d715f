"""Coroutines from synchronous code, on an event loop of their own."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


def run_on_own_loop(call: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a thread with a loop of its own; an interruption cancels it and waits for its end.

    Other loops are not used: the caller's may be running, as in notebooks, and the one of ``ZhipuMultiModal`` must not
    wait for an LLM that asks ``ZhipuMultiModal`` itself.
    """
    outcome: Future[T] = Future()
    task: Future[asyncio.Task[Any]] = Future()

    async def main() -> T:
        current = asyncio.current_task()
        assert current is not None
        task.set_result(current)
        return await call

    def work() -> None:
        try:
            outcome.set_result(asyncio.run(main()))
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    thread.start()
    try:
        return outcome.result()
    except BaseException:
        if not outcome.done():
            running = task.result()
            running.get_loop().call_soon_threadsafe(running.cancel)
            thread.join()
        raise
