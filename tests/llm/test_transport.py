"""Failures that may pass are tried again, others at once raised; streams never end short in silence."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from llama_index.core.base.llms.types import ChatMessage
from tenacity import wait_none

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import (
    GLMConnectionError,
    GLMContentFilteredError,
    GLMError,
    GLMInvalidRequestError,
    GLMProtocolError,
    GLMQuotaError,
    GLMRateLimitError,
    GLMServerError,
    GLMTimeoutError,
    retries,
)
from llama_index_mm_zhipu.testing import GLMStandIn

Ask = Callable[[ZhipuMultiModal], object]
CHAT = [ChatMessage(role="user", content="你好")]


async def _achat(llm: ZhipuMultiModal) -> object:
    return await llm.achat(CHAT)


async def _astream(llm: ZhipuMultiModal) -> object:
    return [piece async for piece in await llm.astream_chat(CHAT)]


@pytest.fixture(params=["sync", "async", "stream", "async stream"])
async def ask(request: pytest.FixtureRequest) -> Callable[[ZhipuMultiModal], object]:
    """Asks something, in each of the four ways; to be awaited."""

    async def call(llm: ZhipuMultiModal) -> object:
        if request.param == "sync":
            return llm.chat(CHAT)
        if request.param == "stream":
            return list(llm.stream_chat(CHAT))
        return await (_achat(llm) if request.param == "async" else _astream(llm))

    return call


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "BACKOFF", wait_none())


async def test_what_may_pass_is_tried_again(ask: Ask, llm: ZhipuMultiModal, server: GLMStandIn) -> None:
    server.fail_next(429, "1302", "您的账户已达到速率限制，请您控制请求频率", times=2)
    server.fail_next(500, "1234", "网络错误")
    assert await ask(llm)  # type: ignore[misc]
    assert len(server.requests) == 4


async def test_tries_come_to_an_end(ask: Ask, connect: Callable[..., ZhipuMultiModal], server: GLMStandIn) -> None:
    server.fail_next(429, "1305", "当前API请求过多，请稍后重试。", times=9)
    with pytest.raises(GLMRateLimitError, match="当前API请求过多"):
        await ask(connect(max_retries=2))  # type: ignore[misc]
    assert len(server.requests) == 3


async def test_what_will_not_pass_is_raised_at_once(ask: Ask, llm: ZhipuMultiModal, server: GLMStandIn) -> None:
    server.fail_next(429, "1113", "您的账户已欠费，请充值后重试。")
    with pytest.raises(GLMQuotaError, match="您的账户已欠费"):
        await ask(llm)  # type: ignore[misc]
    assert len(server.requests) == 1


async def test_the_api_s_own_refusals_arrive(ask: Ask, connect: Callable[..., ZhipuMultiModal]) -> None:
    with pytest.raises(GLMInvalidRequestError, match="code 1211: 模型不存在"):
        await ask(connect(model="glm-9v"))  # type: ignore[misc]


async def test_a_server_that_is_not_there_is_named(key: str, ask: Ask) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    llm = ZhipuMultiModal(api_key=key, api_base=f"http://127.0.0.1:{port}", max_retries=1)
    with pytest.raises(GLMConnectionError, match=r"no connection to the GLM API .*check the network and api_base"):
        await ask(llm)  # type: ignore[misc]


@contextmanager
def server_that_sends(
    status: int, content_type: str, body: bytes, length: int | None = None, delay: float = 0
) -> Iterator[str]:
    """An API that sends the same bytes to everybody; ``length`` more than there are cuts the connection."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(delay)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(length or len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def _event(**choice: object) -> bytes:
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


HELLO = _event(delta={"content": "你好"})


@pytest.mark.parametrize(
    ("status", "content_type", "body", "kind"),
    [
        (200, "text/html", b"<html>proxy</html>", GLMProtocolError),
        (200, "application/json", b"[1, 2]", GLMProtocolError),
        (200, "application/json", b'{"choices": []}', GLMProtocolError),
        (200, "application/json", b'{"error": {"code": "1301", "message": "x"}}', GLMContentFilteredError),
        (502, "text/html", b"<html>bad gateway</html>", GLMServerError),
    ],
)
async def test_answers_that_make_no_sense_are_errors(
    key: str, ask: Ask, status: int, content_type: str, body: bytes, kind: type[GLMError]
) -> None:
    with server_that_sends(status, content_type, body) as url:
        llm = ZhipuMultiModal(api_key=key, api_base=url, max_retries=0)
        with pytest.raises(kind):
            await ask(llm)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("body", "length", "kind"),
    [
        (HELLO, None, GLMConnectionError),
        (HELLO, 9999, GLMConnectionError),
        (HELLO + b"data: {broken\n\n", None, GLMProtocolError),
        (HELLO + b'data: {"error": {"code": "1305", "message": "x"}}\n\n', None, GLMRateLimitError),
        (HELLO + _event(delta={"content": ""}, finish_reason="network_error"), None, GLMServerError),
        (HELLO + _event(delta={"content": ""}, finish_reason="sensitive"), None, GLMContentFilteredError),
    ],
)
def test_a_stream_that_ends_short_is_an_error_after_its_pieces(
    key: str, body: bytes, length: int | None, kind: type[GLMError]
) -> None:
    with server_that_sends(200, "text/event-stream", body, length) as url:
        llm = ZhipuMultiModal(api_key=key, api_base=url, max_retries=3)
        pieces = llm.stream_chat(CHAT)
        assert next(pieces).message.content == "你好"
        with pytest.raises(kind):
            next(pieces)


def test_a_silent_server_is_a_timeout(key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        llm = ZhipuMultiModal(api_key=key, api_base=url, timeout=0.2, max_retries=0)
        with pytest.raises(GLMTimeoutError, match="did not answer in time"):
            llm.chat(CHAT)


async def test_async_calls_leave_the_event_loop_free(key: str) -> None:
    answer = json.dumps({"choices": [{"message": {"content": "你好"}}]}).encode()
    with server_that_sends(200, "application/json", answer, delay=0.3) as url:
        llm = ZhipuMultiModal(api_key=key, api_base=url)
        calls = asyncio.gather(*(llm.achat(CHAT) for _ in range(10)))
        ticks = 0
        while not calls.done():
            await asyncio.sleep(0.005)
            ticks += 1
        assert len(await calls) == 10
    # Blocking calls would let a tick or two in between them.
    assert ticks > 20
