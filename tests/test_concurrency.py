"""Calls run on one loop in the background, from threads, event loops, forgotten streams and forked children."""

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
from waiting import PATIENCE

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.concurrency import aiterate, arun, iterate, run, run_in_new_loop
from llama_index_mm_zhipu.llm import GLMTimeoutError
from llama_index_mm_zhipu.llm.client import Turns


class Stream:
    """A call that yields numbers and notes when it is closed."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.closed = threading.Event()

    async def numbers(self, count: int = 1000, pause: float = 0.0) -> AsyncGenerator[int, None]:
        """Yield so many numbers."""
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


@pytest.mark.parametrize("call", ["run", "arun"])
def test_calls_return_and_raise(call: str) -> None:
    make: Callable[[Any], Any] = run if call == "run" else (lambda coroutine: asyncio.run(arun(coroutine)))
    assert make(_double(21)) == 42
    with pytest.raises(KeyError, match="gone"):
        make(_fail())


async def test_streams_yield_everything_and_are_closed() -> None:
    stream = Stream()
    assert list(iterate(stream.numbers(5))) == [0, 1, 2, 3, 4]
    assert stream.closed.is_set()
    stream = Stream()
    assert [number async for number in aiterate(stream.numbers(5))] == [0, 1, 2, 3, 4]
    assert stream.closed.is_set()


def test_calls_run_side_by_side() -> None:
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
def test_a_stream_that_is_left_is_closed(way: str) -> None:
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


async def test_an_async_stream_that_is_left_is_closed() -> None:
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
def test_a_forked_child_has_a_loop_of_its_own() -> None:
    stream = Stream()
    numbers = iterate(stream.numbers())
    assert next(numbers) == 0
    child = os.fork()
    if child == 0:
        # What is open belongs to the parent, and closing it here must not wait for the parent's loop.
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


# Coroutines in a loop of their own


SEEN: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


async def answer() -> str:
    await asyncio.sleep(0)
    return SEEN.get()


async def fail() -> None:
    raise RuntimeError("what was wrong")


def test_results_and_errors_are_what_they_are() -> None:
    assert run_in_new_loop(answer()) == "nothing"
    with pytest.raises(RuntimeError, match="what was wrong"):
        run_in_new_loop(fail())


async def test_it_runs_beside_a_running_loop_in_the_caller_s_context() -> None:
    token = SEEN.set("a span")
    assert run_in_new_loop(answer()) == "a span"
    SEEN.reset(token)


# Limiter


async def take(turns: Turns, seconds: float, order: list[int], number: int) -> None:
    async with turns.turn(is_stream=False):
        order.append(number)
        await asyncio.sleep(seconds)


async def test_turns_come_in_the_order_of_asking() -> None:
    turns, order = Turns(2, patience=PATIENCE), []
    await asyncio.gather(*(take(turns, 0.01, order, number) for number in range(20)))
    assert order == list(range(20))


@pytest.fixture
async def held() -> AsyncIterator[Turns]:
    """One turn, which somebody has."""
    turns = Turns(1, patience=0.1)
    async with turns.turn(is_stream=True):
        yield turns


async def test_waiting_ends_when_nothing_else_does(held: Turns) -> None:
    with pytest.raises(GLMTimeoutError, match=r"none of the 1 calls of max_concurrency ended within 0\.1 s"):
        await take(held, 0, [], 0)


@pytest.mark.parametrize("pause", [0, 1, 2, 3])
async def test_a_cancelled_wait_gives_its_turn_back(pause: int) -> None:
    """However many steps of the loop lie between the turn and the cancellation."""
    turns = Turns(1, patience=PATIENCE)
    first = asyncio.create_task(take(turns, 0.01, [], 0))
    await asyncio.sleep(0)
    second = asyncio.create_task(take(turns, PATIENCE, [], 1))
    await first
    for _ in range(pause):
        await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await asyncio.wait_for(take(turns, 0, [], 2), PATIENCE)
