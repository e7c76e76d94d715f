"""Calls respect the concurrency limit, learn limits of models, never block event loops and release connections."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from gates import Held, Together
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.rate_limiter import BaseRateLimiter, TokenBucketRateLimiter
from waiting import PATIENCE, wait_until
from ways import CHAT, WAYS, Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.concurrency import ConcurrencyLimiter
from llama_index_mm_zhipu.llm import (
    GLMConnectionError,
    GLMError,
    GLMInvalidRequestError,
    GLMTimeoutError,
    client,
    transport,
)
from llama_index_mm_zhipu.testing import ErrorAnswer, MockGLMServer, Stall, Trickle

Connect = Callable[..., ZhipuMultiModal]


def images(photos: list[Path], count: int) -> list[ChatMessage]:
    blocks = [*(ImageBlock(path=photo) for photo in photos[:count]), TextBlock(text="哪张是帽子？")]
    return [ChatMessage(role="user", blocks=blocks)]


class CountingLimiter(BaseRateLimiter):
    """Allows and counts every request."""

    acquired: int = 0

    def acquire(self, num_tokens: int = 0) -> None:
        self.acquired += 1

    async def async_acquire(self, num_tokens: int = 0) -> None:
        self.acquired += 1


def sent_images(request: dict[str, Any]) -> int:
    return sum(part["type"] == "image_url" for part in request["messages"][-1]["content"])


# Learned limits


async def test_the_range_of_max_tokens_is_learned_once(way: Way, key: str) -> None:
    with MockGLMServer(max_tokens=512) as server:
        llm = ZhipuMultiModal(api_key=key, api_base=server.url, max_tokens=1000)
        for _ in range(3):
            assert (await way.ask(llm)).message.content
        assert [request["max_tokens"] for request in server.requests] == [1000, 512, 512, 512]
        assert ZhipuMultiModal(api_key=key, api_base=server.url).metadata.num_output == 512


async def test_the_number_of_images_is_learned_once(way: Way, key: str, photos: list[Path]) -> None:
    with MockGLMServer(max_images=1) as server:
        llm = ZhipuMultiModal(api_key=key, api_base=server.url)
        for _ in range(2):
            answer = (await way.ask(llm, images(photos, 3))).message.content or ""
            assert "收到 1 张图片" in answer
        assert [sent_images(request) for request in server.requests] == [3, 1, 1]
        texts = [part.get("text", "") for part in server.requests[-1]["messages"][-1]["content"]]
        assert any("拼图" in text for text in texts)


async def test_refusals_that_name_no_new_limit_are_raised(way: Way, connect: Connect, server: MockGLMServer) -> None:
    server.fail_next(400, "1210", "输入图片数量超过限制")
    with pytest.raises(GLMInvalidRequestError, match="输入图片数量超过限制"):
        await way.ask(connect())
    assert len(server.requests) == 1


# Ids of requests


@pytest.mark.usefixtures("no_backoff")
async def test_every_attempt_has_its_own_id(way: Way, connect: Connect, server: MockGLMServer) -> None:
    busy = ErrorAnswer(429, "1302", "慢")
    server.script(busy, busy)
    await way.ask(connect(), request_id="r" * 64)
    assert [request["request_id"] for request in server.requests] == ["r" * 64, "r" * 62 + "-2", "r" * 62 + "-3"]
    await way.ask(connect())
    assert len(server.requests[-1]["request_id"]) == 32


async def test_a_request_that_is_built_again_has_a_new_id(way: Way, key: str) -> None:
    with MockGLMServer(max_tokens=512) as server:
        llm = ZhipuMultiModal(api_key=key, api_base=server.url)
        llm.rate_limiter = limiter = CountingLimiter()
        await way.ask(llm, max_tokens=1000, request_id="my-request")
        assert [request["request_id"] for request in server.requests] == ["my-request", "my-request-2"]
        assert limiter.acquired == 2


async def test_an_id_that_is_set_for_all_requests_gets_a_suffix(
    way: Way, connect: Connect, server: MockGLMServer
) -> None:
    llm = connect(request_id="my-request")
    for _ in range(2):
        await way.ask(llm)
    names = {request["request_id"] for request in server.requests}
    assert len(names) == 2
    assert all(name.startswith("my-request-") for name in names)


@pytest.mark.parametrize(("max_tokens", "sent"), [(5000.0, [1024, 100]), ("5000", ["5000"])])
def test_unusual_values_do_not_cause_endless_requests(connect: Connect, max_tokens: Any, sent: list[Any]) -> None:
    with MockGLMServer(max_tokens=100) as server:
        with suppress(GLMInvalidRequestError):
            connect(api_base=server.url).complete("你好", additional_kwargs={"max_tokens": max_tokens})
        assert [request["max_tokens"] for request in server.requests] == sent


# Secrets


@pytest.mark.usefixtures("no_backoff")
async def test_secrets_that_the_api_quotes_are_masked_in_errors_and_logs(
    way: Way, connect: Connect, server: MockGLMServer, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = f"busy: Bearer {key}, url: {'/9j/4AAQ' * 40}"
    server.fail_next(429, "1302", echo, times=2)
    with pytest.raises(GLMError, match="busy: Bearer …, url: …") as caught:
        await way.ask(connect(max_retries=1))
    shown = caplog.text + repr(caught.value) + str(vars(caught.value))
    assert "trying again" in caplog.text
    assert not any(secret in shown for secret in (*key.split("."), "/9j/4AAQ"))


# Concurrency limit


def connections_of_20_calls(server: MockGLMServer, ask: Callable[[], Any]) -> int:
    """Return how many connections 20 concurrent calls of a thread pool open."""
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: ask(), range(20)))
    return server.connections


def test_calls_wait_for_a_slot(connect: Connect, server: MockGLMServer) -> None:
    server.script(*[Together(threading.Barrier(3))] * 3)
    llm = connect(max_concurrency=3)
    assert connections_of_20_calls(server, lambda: llm.chat(CHAT)) == 3


def test_sync_and_async_calls_share_the_slots(connect: Connect, server: MockGLMServer) -> None:
    server.script(*[Together(threading.Barrier(2))] * 2)
    llm = connect(max_concurrency=2)
    numbers = iter(range(20))

    def ask() -> None:
        if next(numbers) % 2:
            llm.chat(CHAT)
        else:
            asyncio.run(llm.achat(CHAT))

    assert connections_of_20_calls(server, ask) == 2


def test_without_a_limit_all_calls_run_at_once(connect: Connect, server: MockGLMServer) -> None:
    server.script(*[Together(threading.Barrier(20))] * 20)
    llm = connect(max_concurrency=None)
    assert connections_of_20_calls(server, lambda: llm.chat(CHAT)) == 20


def test_an_open_stream_keeps_its_slot_until_it_ends(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ConcurrencyLimiter", lambda limit, patience: ConcurrencyLimiter(limit, 0.3))
    llm = connect(max_concurrency=1)
    stream = llm.stream_chat(CHAT)
    next(stream)
    with pytest.raises(GLMTimeoutError, match=r"none of the 1 calls .* read streams to their end, or close them"):
        llm.chat(CHAT)
    stream.close()
    assert llm.chat(CHAT).message.content


def test_streams_in_reference_cycles_free_their_slots_when_they_are_collected(connect: Connect) -> None:
    """Only the garbage collector of Python finds a stream in a reference cycle that nobody closes."""
    llm = connect(max_concurrency=2, deadline=PATIENCE)
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            stream = llm.stream_chat(CHAT)
            next(stream)
            cycle: list[Any] = [stream]
            cycle.append(cycle)
        del stream, cycle
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(llm.chat, CHAT)
            gc.collect()
            assert waiting.result().message.content
    finally:
        gc.enable()


@pytest.mark.usefixtures("no_backoff")
async def test_the_rate_limiter_counts_every_attempt(way: Way, connect: Connect, server: MockGLMServer) -> None:
    limiter = CountingLimiter()
    llm = connect(rate_limiter=limiter)
    server.script(ErrorAnswer(429, "1302", "慢"), None)
    await way.ask(llm)
    assert limiter.acquired == 2


def test_the_rate_limiter_slows_sync_and_async_calls_together(connect: Connect) -> None:
    limiter = TokenBucketRateLimiter(requests_per_minute=120)
    limiter._request_tokens = 1.0
    llm = connect(rate_limiter=limiter)
    begun = time.monotonic()
    llm.chat(CHAT)
    asyncio.run(llm.achat(CHAT))
    assert time.monotonic() - begun > 0.4


# Event loops, threads


async def test_the_event_loop_is_never_blocked(connect: Connect, server: MockGLMServer, photos: list[Path]) -> None:
    goes_on = threading.Event()
    server.script(*[Held(goes_on)] * 8)
    llm = connect()
    calls = asyncio.gather(*(llm.achat(images(photos, 5)) for _ in range(4)), *(_read(llm) for _ in range(4)))
    # If a call blocked the loop, it would wait for its answer, which is held until the loop has run.
    while len(server.requests) < 8:
        await asyncio.sleep(0.001)
    for _ in range(20):
        await asyncio.sleep(0.001)
    goes_on.set()
    assert len(await calls) == 8


async def _read(llm: ZhipuMultiModal) -> list[Any]:
    return [piece async for piece in await llm.astream_chat(CHAT)]


def test_one_client_serves_threads_and_event_loops(connect: Connect, server: MockGLMServer) -> None:
    llm = connect(max_concurrency=4)

    def ask(number: int) -> str:
        if number % 2:
            return llm.complete(f"第{number}问").text
        return asyncio.run(llm.acomplete(f"第{number}问")).text

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(40)))
    assert all(f"第{number}问" in answer for number, answer in enumerate(answers))
    assert server.connections <= 4


# Connections


async def test_connections_are_reused(
    way: Way, llm: ZhipuMultiModal, server: MockGLMServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_DRAIN_SECONDS", PATIENCE)
    for _ in range(5):
        await way.ask(llm)
    assert server.connections == 1


@pytest.mark.parametrize("way", [way for way in WAYS if way.is_async], ids=["whole", "stream"])
@pytest.mark.parametrize("stall", [Stall(), Stall(after=0), Stall(after=2)])
async def test_cancelling_closes_the_connection(
    way: Way, llm: ZhipuMultiModal, server: MockGLMServer, stall: Any
) -> None:
    server.script(stall)
    call = asyncio.create_task(way.ask(llm))
    assert await asyncio.to_thread(wait_until, lambda: len(server.requests) == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(wait_until, lambda: server.open_connections == 0)
    assert (await way.ask(llm)).message.content


def test_closed_clients_open_new_connections(llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    llm.chat(CHAT)
    llm.close()
    assert wait_until(lambda: server.open_connections == 0)
    llm.close()
    assert llm.chat(CHAT).message.content
    asyncio.run(llm.aclose())
    assert wait_until(lambda: server.open_connections == 0)


async def test_closing_the_client_ends_running_calls_with_an_error(
    way: Way, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    server.script(Stall())
    call = asyncio.create_task(way.ask(llm))
    assert await asyncio.to_thread(wait_until, lambda: len(server.requests) == 1)
    await llm.aclose()
    with pytest.raises(GLMConnectionError):
        await asyncio.wait_for(call, PATIENCE)
    assert (await way.ask(llm)).message.content


def test_connections_close_when_the_llm_is_collected(key: str, server: MockGLMServer) -> None:
    llm = ZhipuMultiModal(api_key=key, api_base=server.url)
    llm.chat(CHAT)
    assert server.open_connections == 1
    del llm
    gc.collect()
    assert wait_until(lambda: server.open_connections == 0)


def test_changed_settings_apply_from_the_next_call(llm: ZhipuMultiModal, server: MockGLMServer, key: str) -> None:
    llm.chat(CHAT)
    with MockGLMServer() as other:
        llm.api_base = other.url
        llm.chat(CHAT)
        assert (len(server.requests), len(other.requests)) == (1, 1)
    llm.api_base = server.url
    llm.timeout = 0.2
    llm.max_retries = 0
    server.script(Stall())
    with pytest.raises(GLMTimeoutError):
        llm.chat(CHAT)


def leave(llm: ZhipuMultiModal, number: int) -> None:
    """Start a stream and abandon it in one of four ways."""
    stream = llm.stream_chat(CHAT)
    next(stream)
    if number % 4 == 0:
        stream.close()
    elif number % 4 == 1:
        cycle: list[Any] = [stream]
        cycle.append(cycle)
    elif number % 4 == 2:
        with pytest.raises(ZeroDivisionError):
            stream.throw(ZeroDivisionError())


@pytest.mark.parametrize("streams", [200, pytest.param(1000, marks=pytest.mark.integration)])
def test_abandoned_streams_leave_no_connection_open(connect: Connect, server: MockGLMServer, streams: int) -> None:
    llm = connect()
    for number in range(streams):
        leave(llm, number)
        if number % 20 == 0:
            # Streams in reference cycles keep their slots until they are collected, and there are ten slots.
            gc.collect()
    gc.collect()
    assert len(server.requests) == streams
    assert wait_until(lambda: server.open_connections == 0)
    assert llm.chat(CHAT).message.content


def test_streams_are_collected_while_other_calls_run(connect: Connect, server: MockGLMServer) -> None:
    """The garbage collector runs very often and closes streams in several threads that are busy with other calls."""
    llm = connect()
    thresholds = gc.get_threshold()
    gc.set_threshold(20, 2, 2)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: leave(llm, 4 * number + 1), range(200)))
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert wait_until(lambda: server.open_connections == 0)


async def test_abandoned_async_streams_leave_no_connection_open(llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    server.script(*[Trickle(0.01)] * 100)
    for number in range(100):
        pieces = await llm.astream_chat(CHAT)
        async for _ in pieces:
            break
        if number % 2:
            await pieces.aclose()
    del pieces
    gc.collect()
    assert await asyncio.to_thread(wait_until, lambda: server.open_connections == 0)
    assert len(server.requests) == 100
