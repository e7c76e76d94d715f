"""Turns come in the order of asking, are never lost, and end a wait that leads nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from waiting import PATIENCE

from llama_index_mm_zhipu.llm import GLMTimeoutError
from llama_index_mm_zhipu.llm.client import Turns


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
