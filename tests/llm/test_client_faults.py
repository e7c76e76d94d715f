"""After any fault, each way to ask ends in time with the right error or answer and leaves no connection open."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pytest
from waiting import PATIENCE, wait_until
from ways import CHAT, WAYS, Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import (
    GLMAuthenticationError,
    GLMConnectionError,
    GLMContentFilteredError,
    GLMContextTooLongError,
    GLMError,
    GLMInvalidRequestError,
    GLMProtocolError,
    GLMQuotaError,
    GLMRateLimitError,
    GLMServerError,
    GLMTimeoutError,
    GLMToolCallError,
)
from llama_index_mm_zhipu.testing import (
    Compressed,
    Cut,
    Delay,
    EmptyChoices,
    Ending,
    ErrorAnswer,
    ErrorEvent,
    Fault,
    GarbageEvent,
    GatewayError,
    MissingDone,
    MockGLMServer,
    NoFinalNewline,
    NoFinishReason,
    NullContent,
    OddEvents,
    RawAnswer,
    Reasoning,
    Stall,
    ToolCalls,
    Trickle,
    Wrapped,
)

SSE = "text/event-stream; charset=utf-8"
JSON = "application/json; charset=utf-8"
SILENCE_SECONDS = 2.0
BUSY = ErrorAnswer(429, "1302", "您的账户已达到速率限制，请您控制请求频率")
HTML = "<html>proxy</html>"
ANSWER_TEXT = "（本地模拟服务，不是模型）问题：图里的飞机是什么颜色？\n收到 0 张图片。"


@dataclass(frozen=True)
class End:
    """How a call ends.

    Attributes:
        error: Type of the error; None for an answer.
        attempts: Number of requests.
        text: Whether the error has some text of the answer.
    """

    error: type[GLMError] | None = None
    attempts: int = 1
    text: bool = False


ANSWER = End()
SECOND_ATTEMPT = End(attempts=2)


@dataclass(frozen=True)
class Script:
    """Faults of the requests of a call, and how the call ends with two retries, whole or streamed."""

    name: str
    faults: list[Fault]
    whole: End
    streamed: End


def script(name: str, *faults: Fault, whole: End, streamed: End | None = None) -> Script:
    return Script(name, list(faults), whole, streamed or whole)


def cut_short(name: str, fault: Fault, error: type[GLMError], whole: End = SECOND_ATTEMPT) -> Script:
    """Return a script whose stream fails after some of its text."""
    return script(name, fault, whole=whole, streamed=End(error, text=True))


def code(status: int, number: str, end: End) -> Script:
    return script(f"code {number}", ErrorAnswer(status, number, "请检查"), whole=end)


SCRIPTS = [
    # Errors of the API, by code
    *(code(401, number, End(GLMAuthenticationError)) for number in ("1000", "1001", "1002", "1003", "1004", "1005")),
    *(code(400, number, End(GLMAuthenticationError)) for number in ("1110", "1111", "1112", "1121")),
    *(code(429, number, End(GLMQuotaError)) for number in ("1113", "1304", "1308", "1309", "1310", "1311")),
    *(code(429, str(number), End(GLMQuotaError)) for number in range(1313, 1322)),
    *(code(429, number, SECOND_ATTEMPT) for number in ("1302", "1303", "1305", "1312")),
    *(code(500, number, SECOND_ATTEMPT) for number in ("1120", "1200", "1230", "1234")),
    *(
        code(400, number, End(GLMInvalidRequestError))
        for number in ("1210", "1211", "1212", "1213", "1214", "1215", "1221", "1222", "1231")
    ),
    code(400, "1261", End(GLMContextTooLongError)),
    code(400, "1301", End(GLMContentFilteredError)),
    code(200, "1301", End(GLMContentFilteredError)),
    code(403, "1220", End(GLMInvalidRequestError)),
    # Retries
    script("busy twice", BUSY, BUSY, whole=End(attempts=3)),
    script("busy for too long", BUSY, BUSY, BUSY, whole=End(GLMRateLimitError, attempts=3)),
    script("busy, then cut", BUSY, Cut(), whole=End(attempts=3)),
    script("busy, then no balance", BUSY, ErrorAnswer(429, "1113", "欠费"), whole=End(GLMQuotaError, attempts=2)),
    script("busy for a moment", ErrorAnswer(429, "1302", "慢", retry_after=0), whole=SECOND_ATTEMPT),
    script("busy beyond the deadline", ErrorAnswer(429, "1302", "慢", retry_after=3600), whole=End(GLMRateLimitError)),
    # Errors of proxies
    script("503 of a proxy", RawAnswer(HTML, status=503), whole=SECOND_ATTEMPT),
    script("429 of a proxy", RawAnswer(HTML, status=429), whole=SECOND_ATTEMPT),
    script("403 of a proxy", RawAnswer(HTML, status=403), whole=End(GLMAuthenticationError)),
    script("404 of a proxy", RawAnswer(HTML, status=404), whole=End(GLMInvalidRequestError)),
    script("434", RawAnswer("", status=434), whole=End(GLMInvalidRequestError)),
    script("a redirection", RawAnswer("", status=302), whole=End(GLMProtocolError)),
    # Answers without the form of an answer
    script("HTML", RawAnswer(HTML), whole=End(GLMProtocolError)),
    script("nothing", RawAnswer("", content_type=JSON), whole=End(GLMProtocolError)),
    script("bad JSON", RawAnswer('{"choices": [', content_type=JSON), whole=End(GLMProtocolError)),
    script("a JSON list", RawAnswer("[1]", content_type=JSON), whole=End(GLMProtocolError)),
    script("no text at all", RawAnswer(b"\xff\xfe\x00", content_type=JSON), whole=End(GLMProtocolError)),
    script("choices of another form", RawAnswer('{"choices": "a"}', content_type=JSON), whole=End(GLMProtocolError)),
    script("JSON nested without end", RawAnswer("[" * 200_000, content_type=JSON), whole=End(GLMProtocolError)),
    script("an odd charset", RawAnswer("[", content_type="application/json; charset=hex"), whole=End(GLMProtocolError)),
    script("empty choices", EmptyChoices(), whole=End(GLMProtocolError)),
    script("null content", NullContent(), whole=End(GLMProtocolError)),
    script(
        "arguments that are cut off", ToolCalls([("f", '{"a')], finish_reason="length"), whole=End(GLMToolCallError)
    ),
    # Gateways
    script("a wrong path", GatewayError(500, "404 NOT_FOUND"), whole=End(GLMInvalidRequestError)),
    script("a wrong key", GatewayError(401, "令牌已过期或验证不正确"), whole=End(GLMAuthenticationError)),
    script("a failure", GatewayError(500, "系统异常"), whole=SECOND_ATTEMPT),
    script("a wrong key as an event", GatewayError(401, "令牌错", after=0), whole=End(GLMAuthenticationError)),
    cut_short(
        "a wrong key in the middle",
        GatewayError(401, "令牌错", after=3),
        GLMAuthenticationError,
        End(GLMAuthenticationError),
    ),
    script("a number as code", ErrorAnswer(200, 1302, "慢"), whole=SECOND_ATTEMPT),
    script("a status as code", ErrorAnswer(200, 401, "令牌错"), whole=End(GLMAuthenticationError)),
    script("a number as code of an event", ErrorEvent(401, "令牌错", after=0), whole=End(GLMAuthenticationError)),
    # Bodies
    script("gzip", Compressed(), whole=ANSWER),
    script("deflate", Compressed("deflate"), whole=ANSWER),
    script("deflate without a header", Compressed("raw deflate"), whole=ANSWER),
    script("a long body in gzip", Compressed(padding=1 << 20), whole=ANSWER),
    script("an encoding that nobody asked for", Compressed(header="br"), whole=End(GLMProtocolError)),
    script("two encodings", Compressed(header="gzip, gzip"), whole=End(GLMProtocolError)),
    script("no gzip at all", Compressed("raw deflate", header="gzip"), whole=ANSWER),
    # Connections
    script("cut before the answer", Cut(), whole=SECOND_ATTEMPT),
    script("reset before the answer", Cut(reset=True), whole=SECOND_ATTEMPT),
    script("cut every time", Cut(), Cut(), Cut(), whole=End(GLMConnectionError, attempts=3)),
    script("cut before the first token", Cut(after=0), whole=SECOND_ATTEMPT),
    cut_short("cut in the middle", Cut(after=3), GLMConnectionError),
    script(
        "reset in the middle",
        Cut(after=3, reset=True),
        whole=SECOND_ATTEMPT,
        streamed=End(GLMConnectionError, text=True),
    ),
    script("a late answer", Delay(0.1), whole=ANSWER),
    script("a slow answer", Trickle(0.02), whole=ANSWER),
    # Streams; calls that are not streamed end differently
    script("no [DONE]", MissingDone(), whole=ANSWER),
    cut_short("[DONE] after a cut answer", NoFinishReason(after=2), GLMConnectionError, whole=ANSWER),
    cut_short("no finish_reason", NoFinishReason(), GLMConnectionError, whole=ANSWER),
    cut_short("no [DONE] and no finish_reason", Cut(after=3), GLMConnectionError),
    script("odd events at the beginning", OddEvents(), whole=ANSWER),
    script("odd events in the middle", OddEvents(after=3), whole=ANSWER),
    script("odd events at the end", OddEvents(after=-1), whole=ANSWER),
    script("no newline at the end", NoFinalNewline(), whole=ANSWER),
    script("[DONE] alone", RawAnswer("data: [DONE]\n\n", content_type=SSE), whole=End(GLMProtocolError)),
    script(
        "an error under the content type of a stream",
        RawAnswer('{"error": {"code": "1113", "message": "欠费"}}', content_type=SSE),
        whole=End(GLMQuotaError),
    ),
    cut_short("garbage in the middle", GarbageEvent(3), GLMProtocolError, whole=End(GLMProtocolError)),
    script("busy before the first token", ErrorEvent("1305", "忙", after=0), whole=SECOND_ATTEMPT),
    script(
        "busy in the middle",
        ErrorEvent("1305", "忙", after=3),
        whole=SECOND_ATTEMPT,
        streamed=End(GLMRateLimitError, text=True),
    ),
    cut_short(
        "filtered in the middle",
        ErrorEvent("1301", "敏感", after=3),
        GLMContentFilteredError,
        whole=End(GLMContentFilteredError),
    ),
    script("sensitive question", Ending("sensitive", after=0), whole=End(GLMContentFilteredError)),
    script("sensitive answer", Ending("sensitive", after=3), whole=End(GLMContentFilteredError, text=True)),
    script("network error at once", Ending("network_error", after=0), whole=SECOND_ATTEMPT),
    script(
        "network error later",
        Ending("network_error", after=3),
        whole=SECOND_ATTEMPT,
        streamed=End(GLMServerError, text=True),
    ),
    script(
        "context full", Ending("model_context_window_exceeded", after=3), whole=End(GLMContextTooLongError, text=True)
    ),
    script("reasoning", Reasoning("先看颜色"), whole=ANSWER),
    script("reasoning in the text", Wrapped("<think>先看颜色</think>\n"), whole=ANSWER),
    script("reasoning that ends without having begun", Wrapped("先看颜色</think>\n"), whole=ANSWER),
    script("an answer in a box", Wrapped("<|begin_of_box|>", "<|end_of_box|>"), whole=ANSWER),
]

# All at once, because each lasts as long as the timeout, which must be long enough for other answers on a busy machine.
SILENCES = [
    script("silence before the answer", Stall(), whole=SECOND_ATTEMPT),
    script("silence every time", Stall(), Stall(), Stall(), whole=End(GLMTimeoutError, attempts=3)),
    script("silence before the first token", Stall(after=0), whole=SECOND_ATTEMPT),
    cut_short("silence in the middle", Stall(after=3), GLMTimeoutError),
]


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
async def test_calls_end_as_expected_and_leave_no_connection_open(
    script: Script, way: Way, connect: Callable[..., ZhipuMultiModal], server: MockGLMServer
) -> None:
    await require_end(script, way, connect(deadline=PATIENCE, max_retries=2), server)


@pytest.mark.integration
@pytest.mark.usefixtures("no_backoff")
async def test_silence_ends_in_a_timeout_and_leaves_no_connection_open(key: str) -> None:
    async def ask(script: Script, way: Way) -> None:
        with MockGLMServer() as server:
            llm = ZhipuMultiModal(
                api_key=key, api_base=server.url, timeout=SILENCE_SECONDS, deadline=PATIENCE, max_retries=2
            )
            await require_end(script, way, llm, server)

    calls = [ask(script, way) for script in SILENCES for way in WAYS]
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(len(calls)))
    await asyncio.gather(*calls)


async def require_end(script: Script, way: Way, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    """Make a call with the faults of a script; check how it ends and that no connection stays open."""
    server.script(*script.faults)
    end = script.streamed if way.streams else script.whole

    if end.error is None:
        response = await way.ask(llm)
        assert response.message.content == ANSWER_TEXT
        assert response.additional_kwargs["total_tokens"] > 0
    else:
        with pytest.raises(GLMError) as caught:
            await way.ask(llm)
        assert type(caught.value) is end.error
        assert ANSWER_TEXT.startswith(caught.value.partial_text)
        assert bool(caught.value.partial_text) == end.text
        assert caught.value.request_id == server.requests[-1]["request_id"]

    assert len(server.requests) == end.attempts
    assert len({request["request_id"] for request in server.requests}) == end.attempts
    await llm.aclose()
    assert await asyncio.to_thread(wait_until, lambda: server.open_connections == 0)


@pytest.mark.parametrize("way", [way for way in WAYS if not way.streams], ids=["sync", "async"])
async def test_a_slow_answer_ends_at_the_deadline(
    way: Way, connect: Callable[..., ZhipuMultiModal], server: MockGLMServer
) -> None:
    server.script(Trickle(3600))
    with pytest.raises(GLMTimeoutError, match=r"within the deadline of 0\.5 s"):
        await way.ask(connect(deadline=0.5))


async def test_the_deadline_of_a_stream_applies_to_its_first_token(key: str) -> None:
    async def ask(way: Way) -> None:
        with MockGLMServer() as server:
            server.script(Trickle(0.5))
            llm = ZhipuMultiModal(api_key=key, api_base=server.url, deadline=SILENCE_SECONDS)
            begun = time.monotonic()
            assert (await way.ask(llm)).message.content
            assert time.monotonic() - begun > SILENCE_SECONDS
            await llm.aclose()

    await asyncio.gather(*(ask(way) for way in WAYS if way.streams))


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
async def test_unicode_line_separators_do_not_end_lines(
    start: str, line_end: str, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    text = "一\u2028二\u2029三\x85四"
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": "stop"}
    event = json.dumps({"choices": [choice]}, ensure_ascii=False)
    body = start + line_end.join([f"data: {event}", "", "data: [DONE]", "", ""])
    server.script(RawAnswer(body, content_type="Text/Event-Stream; charset=GBK"))
    *_, last = llm.stream_chat(CHAT)
    assert last.message.content == text


def test_partial_text_of_the_error_includes_text_that_was_held_back(
    llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    event = json.dumps({"choices": [{"index": 0, "delta": {"content": "价格 3 <|begin_of"}}]})
    server.script(RawAnswer(f"data: {event}\n\n", content_type=SSE))
    with pytest.raises(GLMConnectionError) as caught:
        list(llm.stream_chat(CHAT))
    assert caught.value.partial_text == "价格 3 <|begin_of"


@pytest.mark.parametrize("fault", [Cut(after=-1), Cut(after=-1, reset=True), Stall(after=-1)], ids=repr)
async def test_a_finished_answer_is_kept_if_the_end_of_its_stream_is_broken(
    fault: Fault, connect: Callable[..., ZhipuMultiModal], server: MockGLMServer
) -> None:
    async def ask(way: Way) -> None:
        silence = {"timeout": SILENCE_SECONDS} if isinstance(fault, Stall) else {}
        response = await way.ask(connect(max_retries=0, **silence))
        assert response.message.content == ANSWER_TEXT
        assert response.additional_kwargs["total_tokens"] > 0

    streams = [way for way in WAYS if way.streams]
    server.script(*[fault] * len(streams))
    await asyncio.gather(*map(ask, streams))


def test_comments_do_not_extend_the_timeout(key: str) -> None:
    """A gateway that only keeps the connection alive runs into the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_send_comments, args=(server,), daemon=True)
        thread.start()
        llm = ZhipuMultiModal(
            api_key=key,
            api_base=f"http://127.0.0.1:{server.getsockname()[1]}",
            timeout=SILENCE_SECONDS,
            max_retries=0,
        )
        with pytest.raises(GLMTimeoutError, match=f"no event for {SILENCE_SECONDS:g} s"):
            list(llm.stream_chat(CHAT))
        llm.close()
        thread.join()


def _send_comments(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection, suppress(OSError):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while True:
            connection.sendall(b": keep-alive\n\n")
            time.sleep(0.02)


@pytest.mark.usefixtures("no_backoff")
async def test_retry_after_is_respected(key: str) -> None:
    async def ask(way: Way) -> None:
        with MockGLMServer() as server:
            server.script(ErrorAnswer(429, "1302", "慢", retry_after=1))
            llm = ZhipuMultiModal(api_key=key, api_base=server.url)
            begun = time.monotonic()
            await way.ask(llm)
            assert time.monotonic() - begun >= 1.0
            await llm.aclose()

    await asyncio.gather(*map(ask, WAYS))


async def test_a_server_that_does_not_run_is_a_connection_error(way: Way, key: str) -> None:
    with MockGLMServer() as gone:
        url = gone.url
    llm = ZhipuMultiModal(api_key=key, api_base=url, max_retries=0)
    with pytest.raises(GLMConnectionError, match=r"no connection to the GLM API .*check the network and api_base"):
        await way.ask(llm)
