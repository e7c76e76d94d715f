"""Server and clients of ``llm.py``: a mock of the API in its own process, bare httpx and this package."""

from __future__ import annotations

import base64
import contextlib
import json
import multiprocessing
import os
import uuid
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import numpy as np
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from PIL import Image, ImageOps

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.testing import MockGLMServer, RawAnswer

_TEXT = "图里的人穿着什么颜色的裙子？"
# The mock repeats the question. Such a long answer is still being sent when its stream is abandoned.
_LONG_QUESTION = [ChatMessage(role="user", content=_TEXT * 150)]

_KEY = "benchmark.key"
_MODEL = "glm-4v-flash"
_PATH = "/chat/completions"
_SECONDS = 60.0
_PHOTO = Path(__file__).parents[1] / "tests" / "data" / "photos" / "dress_084.jpg"
_JPEG_BYTES = 200_000


@dataclass(frozen=True)
class MockServer:
    """A mock of the API in its own process, so that its work does not slow down the clients.

    Attributes:
        url: ``api_base`` for ``ZhipuMultiModal``.
        pipe: Answers None with the number of open connections. A number is the length of a line in the next answer.
    """

    url: str
    pipe: Connection

    def open_connections(self) -> int:
        """Return how many connections are open."""
        self.pipe.send(None)
        return int(self.pipe.recv())

    def send_long_line(self, length: int) -> None:
        """Answer the next request with a stream of a short line and a line of this many bytes."""
        self.pipe.send(length)
        self.pipe.recv()


# Each connection has a thread in the mock, with its own memory arena. glibc may or may not return its memory to the
# system after every image, which costs up to 3 ms a request on some connections.
_KEEPING_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


@contextlib.contextmanager
def mock_server(latency: float = 0.0) -> Iterator[MockServer]:
    """Run the mock server.

    Args:
        latency: Seconds before each answer.
    """
    spawning = multiprocessing.get_context("spawn")
    pipe, childs_end = spawning.Pipe()
    process = spawning.Process(target=_serve, args=(childs_end, latency), daemon=True)
    with _environment(_KEEPING_MEMORY):
        process.start()
    childs_end.close()
    try:
        yield MockServer(pipe.recv(), pipe)
    finally:
        pipe.close()
        process.join()


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _serve(pipe: Connection, latency: float) -> None:
    with MockGLMServer(latency=latency) as server, contextlib.suppress(EOFError):
        # Do not keep requests: thousands with an image would fill the memory.
        server.requests = deque(maxlen=0)  # type: ignore[assignment]
        pipe.send(server.url)
        while True:
            length = pipe.recv()
            if length is not None:
                server.script(_long_line(length))
            pipe.send(server.open_connections if length is None else None)


def _long_line(length: int) -> RawAnswer:
    choices = [
        {"index": 0, "delta": {"content": "短"}},
        {"index": 0, "delta": {"content": "长" * (length // 3)}, "finish_reason": "stop"},
    ]
    events = [json.dumps({"choices": [choice]}, ensure_ascii=False) for choice in choices]
    body = "".join(f"data: {event}\n\n" for event in (*events, "[DONE]"))
    return RawAnswer(body, content_type="text/event-stream")


@dataclass(frozen=True)
class Clients:
    """The clients."""

    llm: ZhipuMultiModal
    http: httpx.Client
    async_http: httpx.AsyncClient


@dataclass(frozen=True)
class Question:
    """A question as messages of a chat and as the body of the corresponding request."""

    chat: list[ChatMessage]
    body: bytes


Ask: TypeAlias = Callable[[Clients, Question], AsyncGenerator[object, None]]
"""Yields the pieces of an answer, or the whole answer if it is not streamed."""


Leave: TypeAlias = Callable[[ZhipuMultiModal], Awaitable[None]]
"""Starts a stream and abandons it after its first piece."""


@dataclass(frozen=True)
class Way:
    """A kind of call, with bare httpx and with this package."""

    name: str
    streams: bool
    bare: Ask
    ours: Ask


def new_llm(url: str, **settings: Any) -> ZhipuMultiModal:
    """Return a client of the mock server."""
    return ZhipuMultiModal(_MODEL, _KEY, api_base=url, **settings)


@contextlib.asynccontextmanager
async def clients(url: str, **settings: Any) -> AsyncIterator[Clients]:
    """Open clients of the mock server, and close them.

    Args:
        url: URL of the server.
        **settings: Settings of ``ZhipuMultiModal``.
    """
    headers = {"Authorization": f"Bearer {_KEY}", "Content-Type": "application/json"}
    llm = new_llm(url, **settings)
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=_SECONDS) as http:
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=_SECONDS) as async_http:
                yield Clients(llm, http, async_http)
    finally:
        llm.close()


def question(image: Path | None = None, *, streams: bool = False) -> Question:
    """Return a question.

    Args:
        image: Image that the question is about, if any.
        streams: Whether the body asks for a stream.
    """
    if image is None:
        return Question([ChatMessage(role="user", content=_TEXT)], _body(_TEXT, streams=streams))
    encoded = base64.b64encode(image.read_bytes()).decode()
    content = [{"type": "image_url", "image_url": {"url": encoded}}, {"type": "text", "text": _TEXT}]
    chat = [ChatMessage(role="user", blocks=[ImageBlock(path=image), TextBlock(text=_TEXT)])]
    return Question(chat, _body(content, streams=streams))


def _body(content: str | list[dict[str, Any]], *, streams: bool) -> bytes:
    body = {
        "model": _MODEL,
        **({"stream": True} if streams else {}),
        "messages": [{"role": "user", "content": content}],
        "request_id": uuid.uuid4().hex,
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def jpegs(file: Path, *, new: bool) -> Iterator[Path]:
    """Write a JPEG and yield its path repeatedly.

    Args:
        file: Path of the JPEG.
        new: Whether its content changes each time, by other bytes after its end.
    """
    photo = enlarged_photo((1024, 768), noise=7.75)
    sizes = [jpeg(photo, quality) for quality in range(70, 91)]
    data = min(sizes, key=lambda encoded: abs(len(encoded) - _JPEG_BYTES))
    file.write_bytes(data)
    while True:
        if new:
            file.write_bytes(data + uuid.uuid4().bytes)
        yield file


def enlarged_photo(size: tuple[int, int], noise: float) -> Image.Image:
    """Enlarge a photograph, and add noise in place of the detail of a large photograph."""
    with Image.open(_PHOTO) as photo:
        smooth = np.asarray(ImageOps.fit(photo.convert("RGB"), size, Image.Resampling.BICUBIC))
    grain = np.random.default_rng(0).normal(0, noise, (*smooth.shape[:2], 1))
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> bytes:
    """Encode an image with Pillow alone."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


# All are asynchronous, so that one function can time them. Nothing else runs in the loop that some of them block.


async def _bare_chat(clients: Clients, question: Question) -> AsyncGenerator[object, None]:
    yield clients.http.post(_PATH, content=question.body).raise_for_status()


async def _bare_achat(clients: Clients, question: Question) -> AsyncGenerator[object, None]:
    yield (await clients.async_http.post(_PATH, content=question.body)).raise_for_status()


async def _bare_stream_chat(clients: Clients, question: Question) -> AsyncGenerator[object, None]:
    with clients.http.stream("POST", _PATH, content=question.body) as response:
        for line in response.raise_for_status().iter_lines():
            yield line


async def _bare_astream_chat(clients: Clients, question: Question) -> AsyncGenerator[object, None]:
    async with clients.async_http.stream("POST", _PATH, content=question.body) as response:
        async for line in response.raise_for_status().aiter_lines():
            yield line


async def _our_chat(clients: Clients, question: Question) -> AsyncGenerator[object, None]:
    yield clients.llm.chat(question.chat)


async def _our_achat(clients: Clients, question: Question) -> AsyncGenerator[object, None]:
    yield await clients.llm.achat(question.chat)


async def _our_stream_chat(clients: Clients, question: Question) -> AsyncGenerator[object, None]:
    for piece in clients.llm.stream_chat(question.chat):
        yield piece


async def _our_astream_chat(clients: Clients, question: Question) -> AsyncGenerator[object, None]:
    async for piece in await clients.llm.astream_chat(question.chat):
        yield piece


ACHAT = Way("achat", False, _bare_achat, _our_achat)

ASTREAM_CHAT = Way("astream_chat", True, _bare_astream_chat, _our_astream_chat)

WAYS = (
    Way("chat", False, _bare_chat, _our_chat),
    ACHAT,
    Way("stream_chat", True, _bare_stream_chat, _our_stream_chat),
    ASTREAM_CHAT,
)


async def _break(llm: ZhipuMultiModal) -> None:
    for _ in llm.stream_chat(_LONG_QUESTION):
        break


async def _close(llm: ZhipuMultiModal) -> None:
    stream = llm.stream_chat(_LONG_QUESTION)
    next(stream)
    stream.close()


async def _leave_in_cycle(llm: ZhipuMultiModal) -> None:
    stream = llm.stream_chat(_LONG_QUESTION)
    next(stream)
    _make_cycle(stream)


async def _abreak(llm: ZhipuMultiModal) -> None:
    async for _ in await llm.astream_chat(_LONG_QUESTION):
        break


async def _aclose(llm: ZhipuMultiModal) -> None:
    stream = await llm.astream_chat(_LONG_QUESTION)
    await anext(stream)
    await stream.aclose()


async def _aleave_in_cycle(llm: ZhipuMultiModal) -> None:
    stream = await llm.astream_chat(_LONG_QUESTION)
    await anext(stream)
    _make_cycle(stream)


def _make_cycle(held: object) -> None:
    """Put an object into a reference cycle, which only the garbage collector frees."""
    cycle = [held]
    cycle.append(cycle)


LEAVES: dict[str, Sequence[Leave]] = {
    "stream_chat": (_break, _close, _leave_in_cycle),
    "astream_chat": (_abreak, _aclose, _aleave_in_cycle),
}
