"""The event loop on which all calls of the API go out, in a thread of its own.

Threads, event loops and streams then share one code path, one pool of connections and one limit of calls at a time;
nobody's event loop is blocked, and none has to outlive a connection.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar, cast


def fork_safe_lock() -> threading.Lock:
    """Return a lock that no thread holds while the process forks. For locks of modules: it is never forgotten."""
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


S = TypeVar("S")
T = TypeVar("T")

_END = object()
_THREAD = "llama-index-mm-zhipu"

# Reentrant: the garbage collector may close a stream in the thread that starts the loop.
_starting = threading.RLock()
_loop: asyncio.AbstractEventLoop | None = None


def start(call: Coroutine[Any, Any, T]) -> Future[T]:
    """Begin a call without waiting for it."""
    return asyncio.run_coroutine_threadsafe(call, _running_loop())


def run(call: Coroutine[Any, Any, T]) -> T:
    """Make a call and wait for its end; an interruption cancels it.

    Raises:
        RuntimeError: This is called on the loop itself, which would wait for ever.
    """
    if threading.current_thread().name == _THREAD:
        call.close()
        raise RuntimeError("a synchronous call of ZhipuMultiModal on its own event loop; await the asynchronous one")
    future = start(call)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def arun(call: Coroutine[Any, Any, T]) -> T:
    """As ``run``, from any event loop; cancelling the awaiting task cancels the call."""
    return await asyncio.wrap_future(start(call))


def iterate(pieces: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Yield what a streaming call yields; it is closed when this ends, is closed or is forgotten."""
    return _closing_when_forgotten(_iterate(pieces), pieces)


def aiterate(pieces: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """As ``iterate``, in any event loop."""
    return _closing_when_forgotten(_aiterate(pieces), pieces)


def _iterate(pieces: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    process = os.getpid()
    try:
        while (piece := run(_next(pieces))) is not _END:
            yield cast("T", piece)
    finally:
        _start_in(process, partial(_aclose, pieces))


async def _aiterate(pieces: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    process = os.getpid()
    try:
        while (piece := await arun(_next(pieces))) is not _END:
            yield cast("T", piece)
    finally:
        _start_in(process, partial(_aclose, pieces))


async def _next(pieces: AsyncGenerator[T, None]) -> T | object:
    return await anext(pieces, _END)


def start_when_forgotten(owner: object, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Begin a call when an object has gone, unless that is in a forked child: what is open belongs to its parent.

    What the call refers to stays alive until then.
    """
    weakref.finalize(owner, _start_in, os.getpid(), call).atexit = False


def _closing_when_forgotten(stream: S, pieces: AsyncGenerator[Any, None]) -> S:
    # The stream's own end closes the call while somebody holds the stream, this when nobody does.
    # It also keeps the call's generators out of the garbage collector's reach: it would close them in any order, and
    # in a thread that may hold the lock of a connection pool.
    start_when_forgotten(stream, partial(_aclose, pieces))
    return stream


def _start_in(process: int, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
    # Not waited for: the garbage collector may be calling.
    if os.getpid() == process:
        start(call())


async def _aclose(pieces: AsyncGenerator[Any, None]) -> None:
    # A reader that was cancelled may not have noticed yet.
    while getattr(pieces, "ag_running", False):
        await asyncio.sleep(0.01)
    await pieces.aclose()


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop
    loop = _loop
    if loop is None:
        with _starting:
            if _loop is None:
                _loop = asyncio.new_event_loop()
                threading.Thread(target=_loop.run_forever, name=_THREAD, daemon=True).start()
            loop = _loop
    return loop


def _forget_loop() -> None:
    """A forked child has the loop but not its thread."""
    global _loop, _starting
    _loop = None
    _starting = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_loop)


def run_in_new_loop(call: Coroutine[Any, Any, T]) -> T:
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


async def gather_or_cancel(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all calls; when one fails or this is cancelled, the others are cancelled and awaited first."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
