"""Coroutines run from synchronous code, beside whatever loop there is."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from llama_index_mm_zhipu.concurrency import run_on_own_loop

SEEN: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


async def answer() -> str:
    await asyncio.sleep(0)
    return SEEN.get()


async def fail() -> None:
    raise RuntimeError("what was wrong")


def test_results_and_errors_are_what_they_are() -> None:
    assert run_on_own_loop(answer()) == "nothing"
    with pytest.raises(RuntimeError, match="what was wrong"):
        run_on_own_loop(fail())


async def test_it_runs_beside_a_running_loop_in_the_caller_s_context() -> None:
    token = SEEN.set("a span")
    assert run_on_own_loop(answer()) == "a span"
    SEEN.reset(token)
