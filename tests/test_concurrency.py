"""Calls on the background loop, coroutines in a new loop, concurrent coroutines and the concurrency limiter."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from waiting import PATIENCE, wait_until

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.concurrency import (
    ConcurrencyLimiter,
    FairLock,
    aiterate,
    arun,
    available_threads,
    iterate,
    run,
    run_in_new_loop,
    thread_limit,
)

SPAN: contextvars.ContextVar[str] = contextvars.ContextVar("span", default="none")


class Stream:
    """An async generator of numbers that records when it starts and when it is closed."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.closed = threading.Event()

    async def numbers(self, count: int = 1000, pause: float = 0.0) -> AsyncGenerator[int, None]:
        """Yield the numbers below ``count``."""
        try:
            for number in range(count):
                self.started.set()
                await asyncio.sleep(pause)
                yield number
        finally:
            self.closed.set()


async def _double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def _fail() -> None:
    raise KeyError("gone")


# Background loop


@pytest.mark.parametrize("call", ["run", "arun"])
def test_calls_return_and_raise(call: str) -> None:
    make: Callable[[Any], Any] = run if call == "run" else (lambda coroutine: asyncio.run(arun(coroutine)))
    assert make(_double(21)) == 42
    with pytest.raises(KeyError, match="gone"):
        make(_fail())


async def test_streams_yield_all_items_and_are_closed() -> None:
    stream = Stream()
    assert list(iterate(stream.numbers(5))) == [0, 1, 2, 3, 4]
    assert stream.closed.is_set()
    stream = Stream()
    assert [number async for number in aiterate(stream.numbers(5))] == [0, 1, 2, 3, 4]
    assert stream.closed.is_set()


def test_calls_run_concurrently() -> None:
    arrived: list[int] = []
    all_are_here = asyncio.Event()

    async def meet(number: int) -> int:
        arrived.append(number)
        if len(arrived) == 20:
            all_are_here.set()
        await asyncio.wait_for(all_are_here.wait(), PATIENCE)
        return number

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(lambda number: run(meet(number)), range(20))) == list(range(20))


@pytest.mark.parametrize("way", ["close", "break", "exception", "cycle", "interrupt"])
def test_a_stream_that_is_not_read_to_its_end_is_closed(way: str) -> None:
    stream = Stream()
    numbers = iterate(stream.numbers())
    next(numbers)
    if way == "close":
        numbers.close()
    elif way == "exception":
        with pytest.raises(ZeroDivisionError):
            numbers.throw(ZeroDivisionError())
    elif way == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            numbers.throw(KeyboardInterrupt())
    elif way == "cycle":
        cycle: list[Any] = [numbers]
        cycle.append(cycle)
        del cycle
    del numbers
    gc.collect()
    assert stream.closed.wait(PATIENCE)


async def test_an_async_stream_that_is_not_read_to_its_end_is_closed() -> None:
    stream = Stream()
    async for _ in aiterate(stream.numbers()):
        break
    gc.collect()
    await asyncio.to_thread(stream.closed.wait, PATIENCE)
    assert stream.closed.is_set()


def test_a_stream_whose_event_loop_is_gone_is_closed() -> None:
    stream = Stream()
    loop = asyncio.new_event_loop()
    numbers = aiterate(stream.numbers())
    loop.run_until_complete(anext(numbers))
    loop.close()
    del numbers
    gc.collect()
    assert stream.closed.wait(PATIENCE)


async def test_cancelling_the_task_cancels_the_call() -> None:
    stream = Stream()

    async def read() -> None:
        async for _ in aiterate(stream.numbers(pause=3600)):
            pass

    task = asyncio.create_task(read())
    assert await asyncio.to_thread(stream.started.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(stream.closed.wait, PATIENCE)
    assert stream.closed.is_set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_starts_its_own_loop() -> None:
    stream = Stream()
    numbers = iterate(stream.numbers())
    assert next(numbers) == 0
    child = os.fork()
    if child == 0:
        # The stream belongs to the parent. Closing it here must not wait for the parent's loop.
        numbers.close()
        os._exit(0 if run(_double(21)) == 42 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert next(numbers) == 1


def test_a_call_that_would_wait_for_itself_is_refused(llm: ZhipuMultiModal) -> None:
    async def ask() -> str:
        return llm.complete("你好").text

    with pytest.raises(RuntimeError, match="on its own event loop; await the asynchronous one"):
        run(ask())
    assert "你好" in llm.complete("你好").text


# New loop


async def _span() -> str:
    await asyncio.sleep(0)
    return SPAN.get()


def test_a_new_loop_returns_results_and_raises_errors() -> None:
    assert run_in_new_loop(_span()) == "none"
    with pytest.raises(KeyError, match="gone"):
        run_in_new_loop(_fail())


async def test_a_new_loop_runs_while_another_runs_and_keeps_context_variables() -> None:
    token = SPAN.set("a span")
    assert run_in_new_loop(_span()) == "a span"
    SPAN.reset(token)


# Limiter


async def _hold(limiter: ConcurrencyLimiter, seconds: float, order: list[int], number: int) -> None:
    await limiter.acquire()
    try:
        order.append(number)
        await asyncio.sleep(seconds)
    finally:
        limiter.release()


async def test_slots_are_granted_in_the_order_of_the_calls() -> None:
    limiter, order = ConcurrencyLimiter(2, patience=PATIENCE), []
    await asyncio.gather(*(_hold(limiter, 0.01, order, number) for number in range(20)))
    assert order == list(range(20))


@pytest.fixture
async def held() -> AsyncIterator[ConcurrencyLimiter]:
    """A limiter whose only slot is taken."""
    limiter = ConcurrencyLimiter(1, patience=0.1)
    await limiter.acquire()
    yield limiter
    limiter.release()


async def test_waiting_ends_when_no_slot_is_released(held: ConcurrencyLimiter) -> None:
    with pytest.raises(TimeoutError, match=r"none of the 1 calls of max_concurrency ended within 0\.1 s"):
        await _hold(held, 0, [], 0)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
async def test_a_cancelled_call_gives_its_slot_back(steps: int) -> None:
    """The number of loop steps between the grant and the cancellation does not matter."""
    limiter = ConcurrencyLimiter(1, patience=PATIENCE)
    first = asyncio.create_task(_hold(limiter, 0.01, [], 0))
    await asyncio.sleep(0)
    second = asyncio.create_task(_hold(limiter, PATIENCE, [], 1))
    await first
    for _ in range(steps):
        await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await asyncio.wait_for(_hold(limiter, 0, [], 2), PATIENCE)


@pytest.mark.parametrize("limit", ["1", "3"])
def test_computations_follow_the_limit_of_threads(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert thread_limit() == available_threads() == int(limit)


@pytest.mark.parametrize("limit", [None, "", "0", "-1", "2,1", "many", "1.5"])
def test_without_a_limit_computations_take_the_cores_of_the_process(
    monkeypatch: pytest.MonkeyPatch, limit: str | None
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if limit is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert thread_limit() is None
    assert 1 <= available_threads() <= (os.cpu_count() or 1)


# Locks


def test_a_fair_lock_lets_one_thread_in_at_a_time() -> None:
    lock, inside, most = FairLock(), 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(200):
            with lock:
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)


def test_a_thread_that_takes_a_fair_lock_again_waits_for_those_that_asked_before() -> None:
    lock, order = FairLock(), []

    def wait(name: str) -> None:
        with lock:
            order.append(name)

    with lock:
        threads = []
        for name in ("first", "second"):
            threads.append(threading.Thread(target=wait, args=(name,)))
            threads[-1].start()
            assert wait_until(lambda: len(lock._turns) == len(threads))
    wait("again")
    for thread in threads:
        thread.join()
    assert order == ["first", "second", "again"]


def test_an_interrupted_wait_does_not_keep_a_fair_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = FairLock()

    class Interrupted:
        def __init__(self) -> None:
            self.is_taken = False

        def acquire(self) -> None:
            if self.is_taken:
                raise KeyboardInterrupt
            self.is_taken = True

        def release(self) -> None:
            raise AssertionError("the lock was given to a thread that left")

    with lock:
        monkeypatch.setattr("threading.Lock", Interrupted)
        with pytest.raises(KeyboardInterrupt), lock:
            raise AssertionError("two threads have the lock")
        monkeypatch.undo()
    with lock:
        pass
