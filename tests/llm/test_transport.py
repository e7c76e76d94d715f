"""Long lines and bodies are read up to a limit, within the timeout, and without delaying other calls."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from waiting import PATIENCE, wait_until
from ways import WAYS, Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMConnectionError, GLMError, GLMProtocolError, GLMTimeoutError, sse
from llama_index_mm_zhipu.llm.sse import parse_json
from llama_index_mm_zhipu.llm.transport import slices
from llama_index_mm_zhipu.testing import Compressed, Endless, MockGLMServer, RawAnswer

Connect = Callable[..., ZhipuMultiModal]

TEXT = "很长" * 3_000_000
MORE_THAN_ALLOWED = 70 << 20


async def test_a_long_answer_is_read_whole(way: Way, connect: Connect, server: MockGLMServer) -> None:
    choice = {("delta" if way.streams else "message"): {"content": TEXT}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice]}, ensure_ascii=False)
    if way.streams:
        server.script(RawAnswer(f"data: {body}\n\ndata: [DONE]\n\n", content_type="text/event-stream"))
    else:
        server.script(RawAnswer(body, content_type="application/json"))
    assert (await way.ask(connect(deadline=PATIENCE))).message.content == TEXT


@pytest.mark.parametrize("fault", [Endless(after=0), Compressed(padding=MORE_THAN_ALLOWED)], ids=["endless", "gzip"])
async def test_a_line_or_body_ends_at_the_limit(
    fault: Endless | Compressed, way: Way, connect: Connect, server: MockGLMServer
) -> None:
    server.script(fault)
    what = "a line" if way.streams else "an answer"
    with pytest.raises(GLMProtocolError, match=f"{what} of more than 67108864 bytes"):
        await way.ask(connect(timeout=PATIENCE, deadline=PATIENCE))
    assert len(server.requests) == 1
    assert await asyncio.to_thread(wait_until, lambda: server.open_connections == 0)


@pytest.mark.parametrize(
    "repeated", ["x", "\n: keep-alive\n", '\ndata: {"type": "ping"}\n'], ids=["line", "comment", "ping"]
)
async def test_a_stream_without_events_ends_in_a_timeout(
    repeated: str, connect: Connect, server: MockGLMServer
) -> None:
    """The deadline ends with the first token, and every byte restarts the timeout of httpx."""

    async def ask(way: Way) -> None:
        with pytest.raises(GLMTimeoutError):
            await way.ask(connect(timeout=0.5 if way.streams else PATIENCE, deadline=0.5, max_retries=0))

    server.script(*[Endless(repeated, pause=0.01, after=2)] * len(WAYS))
    await asyncio.gather(*map(ask, WAYS))
    assert await asyncio.to_thread(wait_until, lambda: server.open_connections == 0)


async def test_an_endless_line_does_not_block_other_calls(way: Way, connect: Connect, server: MockGLMServer) -> None:
    llm = connect(timeout=PATIENCE, deadline=PATIENCE)
    server.script(Endless("x" * 1000, pause=0.01))
    endless = asyncio.create_task(way.ask(llm))
    assert await asyncio.to_thread(wait_until, lambda: len(server.requests) == 1)
    for _ in range(20):
        assert (await way.ask(llm)).message.content
    assert not endless.done()
    await llm.aclose()
    with pytest.raises(GLMError):
        await endless


# Slices


class Body(httpx.AsyncByteStream):
    """A body that is sent in one piece."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data


async def sliced(data: bytes, encoding: str = "") -> list[bytes]:
    headers = {"Content-Encoding": encoding} if encoding else {}
    return [part async for part in slices(httpx.Response(200, headers=headers, stream=Body(data)))]


@pytest.mark.parametrize(
    ("encoding", "bits"), [("", 0), ("identity", 0), ("GZip", 31), ("x-gzip", 31), ("deflate", 15)]
)
async def test_a_body_is_decompressed_in_small_slices(encoding: str, bits: int) -> None:
    data = b"0123456789" * 500_000
    compressor = zlib.compressobj(wbits=bits) if bits else None
    parts = await sliced(compressor.compress(data) + compressor.flush() if compressor else data, encoding)
    assert b"".join(parts) == data
    assert max(map(len, parts)) <= 16_384


async def test_deflate_without_a_zlib_header_is_decompressed() -> None:
    compressor = zlib.compressobj(wbits=-15)
    assert await sliced(compressor.compress(b"hello") + compressor.flush(), "deflate") == [b"hello"]


async def test_damaged_data_is_an_error() -> None:
    whole = zlib.compress(b"0123456789" * 100_000, 0)
    with pytest.raises(GLMConnectionError, match="compressed data that is damaged"):
        await sliced(whole[:40_000] + b"\xff" * 200_000, "deflate")
    with pytest.raises(GLMConnectionError, match="compressed data that is damaged"):
        await sliced(b"<html>", "gzip")


# JSON


@pytest.mark.parametrize("value", ["1,", "{},", "[", '"",'])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_json_with_too_many_values_is_not_parsed(value: str, as_bytes: bool) -> None:
    text = "[" + value * (sse.MAX_VALUES + 1) + "1" + "]" * value.count("[")
    assert parse_json(text.encode() if as_bytes else text) is None
    assert parse_json(f'["{"x" * 3_000_000}"]') == ["x" * 3_000_000]
