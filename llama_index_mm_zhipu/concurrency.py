"""Event loops for calls from any thread, a concurrency limiter, locks that survive a fork, and numbers of threads.

All calls of the GLM API run on one event loop in a background thread. Threads, event loops and streams therefore share
one code path, one connection pool and one concurrency limit, no caller's event loop is blocked, and connections may
outlive the event loop of their caller.

This is asyncio and not anyio's blocking portal, which costs twice as much per call (2.1 times from threads, 1.8 times
from event loops). An interpreter hangs at its exit if a portal was not closed, or is closed during an open stream, and
so does a forked child that drops the portal of its parent. A portal also waits until its loop accepts a call, which
deadlocks in finalizers: the garbage collector may run them in a thread that holds a lock, or in the loop's own thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar, cast

S = TypeVar("S")
T = TypeVar("T")

_END = object()


def fork_safe_lock() -> threading.Lock:
    """Return a lock that no other thread holds in a forked child. It is never freed, so only use it in modules."""
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


class FairLock:
    """A lock that threads get in the order in which they ask for it; a context manager.

    With ``threading.Lock``, a thread that releases the lock and takes it again at once, over and over, may keep all
    others waiting for seconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_held = False
        # Each thread that waits is woken by the release of a lock of its own.
        self._turns: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if not self._is_held:
                self._is_held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._turns.append(turn)
        try:
            turn.acquire()
        except BaseException:
            # Ctrl-C, perhaps just when it is the turn of this thread.
            with self._lock:
                if turn in self._turns:
                    self._turns.remove(turn)
                    raise
            self._pass_on()
            raise

    def __exit__(self, *error: object) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        with self._lock:
            if self._turns:
                self._turns.popleft().release()
            else:
                self._is_held = False


def thread_limit() -> int | None:
    """Return the limit of threads for computations in ``OMP_NUM_THREADS``; None if there is none.

    torch and faiss follow this variable, and Ray sets it to the number of CPUs of an actor.
    """
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return int(limit) if limit.isdecimal() and int(limit) > 0 else None


def available_threads() -> int:
    """Return how many threads computations may use: the limit in ``OMP_NUM_THREADS``, or the cores of the process."""
    limit = thread_limit()
    if limit is not None:
        return limit
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _LoopThread:
    """An event loop that runs in a daemon thread until the process ends."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="llama-index-mm-zhipu", daemon=True)
        self._thread.start()

    def is_current(self) -> bool:
        return threading.current_thread() is self._thread


# Reentrant: the garbage collector may close a stream, which needs the loop, in the thread that starts the loop.
_starting = threading.RLock()
_loop_thread: _LoopThread | None = None


def _running_loop_thread() -> _LoopThread:
    global _loop_thread
    running = _loop_thread
    if running is None:
        with _starting:
            if _loop_thread is None:
                _loop_thread = _LoopThread()
            running = _loop_thread
    return running


def _drop_loop_thread() -> None:
    """Make a forked child start its own loop: it inherits the loop of its parent, but not the thread."""
    global _loop_thread, _starting
    _loop_thread = None
    _starting = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_loop_thread)


def start(call: Coroutine[Any, Any, T]) -> Future[T]:
    """Run a coroutine on the background loop without waiting for it."""
    return asyncio.run_coroutine_threadsafe(call, _running_loop_thread().loop)


def run(call: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop and return its result. ``KeyboardInterrupt`` cancels it.

    Raises:
        RuntimeError: This was called on the background loop, which would wait for itself.
    """
    if _running_loop_thread().is_current():
        call.close()
        raise RuntimeError("a synchronous call of ZhipuMultiModal on its own event loop; await the asynchronous one")
    future = start(call)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def arun(call: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine that runs on the background loop. Cancelling the awaiting task cancels it."""
    return await asyncio.wrap_future(start(call))


def iterate(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Yield the items of an async generator that runs on the background loop.

    The async generator is closed when the returned one is exhausted, closed or garbage-collected.
    """
    return _closed_with(_iterate(items), items)


def aiterate(items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Yield the items of an async generator as ``iterate`` does, on any event loop."""
    return _closed_with(_aiterate(items), items)


def _iterate(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    process = os.getpid()
    try:
        while (item := run(_next(items))) is not _END:
            yield cast("T", item)
    finally:
        _start_in(process, partial(_aclose, items))


async def _aiterate(items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    process = os.getpid()
    try:
        while (item := await arun(_next(items))) is not _END:
            yield cast("T", item)
    finally:
        _start_in(process, partial(_aclose, items))


async def _next(items: AsyncGenerator[T, None]) -> T | object:
    return await anext(items, _END)


def start_when_collected(owner: object, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine on the background loop when an object is garbage-collected.

    It does not run in a forked child, whose open connections belong to the parent. Whatever ``call`` refers to stays
    alive until then.
    """
    weakref.finalize(owner, _start_in, os.getpid(), call).atexit = False


def _closed_with(stream: S, items: AsyncGenerator[Any, None]) -> S:
    # The ``finally`` of a stream that nobody holds any more may never run, for example if its event loop is gone. The
    # finalizer also keeps ``items`` out of a collected reference cycle: the garbage collector would close its inner
    # generators in any order, and in a thread that may hold the lock of a connection pool.
    start_when_collected(stream, partial(_aclose, items))
    return stream


def _start_in(process: int, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
    # This may run inside the garbage collector, so it must not wait for the call.
    if os.getpid() == process:
        start(call())


async def _aclose(items: AsyncGenerator[Any, None]) -> None:
    # A reader that was cancelled may still be running: ``aclose`` would raise an error.
    while getattr(items, "ag_running", False):
        await asyncio.sleep(0.01)
    await items.aclose()


class ConcurrencyLimiter:
    """A semaphore for calls and streams that reports when nothing is released any more.

    It serves waiting tasks in the order in which they came. All tasks must run on one event loop.

    Args:
        max_concurrency: How many slots there are.
        patience: Seconds. A task that waits for so long gives up if no slot was released meanwhile.
    """

    def __init__(self, max_concurrency: int, patience: float) -> None:
        self._max_concurrency = max_concurrency
        self._patience = patience
        self._slots = asyncio.Semaphore(max_concurrency)
        self._released = 0

    async def acquire(self) -> None:
        """Wait for a slot.

        Raises:
            TimeoutError: No slot was released within ``patience``.
        """
        acquiring = asyncio.ensure_future(self._slots.acquire())
        try:
            while not acquiring.done():
                released = self._released
                await asyncio.wait({acquiring}, timeout=self._patience)
                if not acquiring.done() and self._released == released:
                    raise TimeoutError(
                        f"none of the {self._max_concurrency} calls of max_concurrency ended within "
                        f"{self._patience:g} s"
                    )
        except BaseException:
            # A slot may have been granted in the same step of the loop that cancelled the wait.
            if acquiring.done() and not acquiring.cancelled():
                self._slots.release()
            acquiring.cancel()
            raise

    def release(self) -> None:
        """Give a slot back."""
        self._released += 1
        self._slots.release()


def run_in_new_loop(call: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a new thread with its own event loop and the caller's context variables.

    This works while the caller's event loop runs, as in notebooks, and the coroutine may call any LLM: on the
    background loop a synchronous call of ``ZhipuMultiModal`` would be refused. ``KeyboardInterrupt`` cancels the
    coroutine and waits until it has ended, which ``asyncio_run`` of LlamaIndex does not.
    """
    outcome: Future[T] = Future()
    started: Future[asyncio.Task[Any]] = Future()

    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None
        started.set_result(task)
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
            task = started.result()
            task.get_loop().call_soon_threadsafe(task.cancel)
            thread.join()
        raise


async def gather_or_cancel(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines concurrently and return their results in order.

    If one fails or this is cancelled, the others are cancelled and awaited before the first error is raised as it is.
    ``asyncio.TaskGroup`` needs Python 3.11 and, like anyio's task groups, raises an ``ExceptionGroup``.
    """
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
