"""The mock server keeps and counts connections, records requests, follows its script, and closes completely."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from gates import Together
from PIL import Image
from raw_client import KEY, Client, body_of, choices_of, encoded, image, lines_of, text, tool, user
from waiting import PATIENCE, wait_until

from llama_index_mm_zhipu.testing import Delay, ErrorAnswer, MockGLMServer, Stall, Trickle


def connect(server: MockGLMServer) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=PATIENCE)  # type: ignore[arg-type]


def send(connection: socket.socket, **fields: object) -> None:
    body = json.dumps(body_of(**fields)).encode()
    head = (
        "POST /api/paas/v4/chat/completions HTTP/1.1\r\n"
        f"Authorization: Bearer id.secret\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)


# Answers


def test_answers_describe_what_was_sent(client: Client, red: str) -> None:
    body = client.post([text("图1：红旗"), image(red), text("资料如上\n问题：什么颜色？")]).json()

    assert body["choices"][0]["message"]["content"].splitlines() == [
        "（本地模拟服务，不是模型）问题：什么颜色？",
        "收到 1 张图片。",
        "第1张图片：PNG 30×20，平均颜色 #ff0000；说明：图1：红旗",
    ]
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert client.server.requests[0]["messages"][0]["content"][1] == image(red)


@pytest.mark.parametrize(
    ("size", "tokens"), [((30, 20), 1_000), ((1120, 840), 1_200), ((1120, 1120), 1_600), ((5000, 4000), 1_600)]
)
def test_an_image_is_as_many_tokens_as_its_pixels_make_it(client: Client, size: tuple[int, int], tokens: int) -> None:
    def prompt_tokens(*parts: dict[str, Any]) -> int:
        return client.post([*parts, text("?")]).json()["usage"]["prompt_tokens"]

    alone = prompt_tokens()
    assert prompt_tokens(image(encoded(Image.new("RGB", size), "JPEG"))) == alone + tokens
    assert prompt_tokens(image("https://example.com/a.jpg")) == alone + 1_000


def test_images_given_by_url_are_not_fetched(client: Client) -> None:
    content = client.message([image("https://example.com/a.jpg"), text("?")])["content"]
    assert "网址 https://example.com/a.jpg" in content


def test_a_stream_has_the_same_content_and_ends_with_the_usage(client: Client) -> None:
    streamed = client.post("讲一个故事", stream=True)
    lines = lines_of(streamed)
    assert lines[-1] == "[DONE]"
    assert '"usage"' in lines[-2]
    assert not any('"usage"' in line for line in lines[:-2])
    choices = choices_of(streamed)
    assert [choice.get("finish_reason") for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert "".join(choice["delta"]["content"] for choice in choices) == client.message("讲一个故事")["content"]


# Records and scripts


def test_requests_are_recorded_in_order_with_all_fields(client: Client) -> None:
    client.post("一", seed=7)
    client.post("二", model="gpt")
    client.server.script(ErrorAnswer(500, "1234", "网络错误"))
    client.post("三")
    assert client.server.requests == [body_of("一", seed=7), body_of("二", model="gpt"), body_of("三")]


def test_a_script_applies_once(client: Client) -> None:
    client.server.script(ErrorAnswer(500, "1234", "网络错误"), None)
    client.server.fail_next(429, "1302", "您的账户已达到速率限制，请您控制请求频率", times=2)
    client.server.script(None, ErrorAnswer(400, "1261", "Prompt 超长"))
    assert [client.post().status_code for _ in range(7)] == [500, 200, 429, 429, 200, 400, 200]


def test_a_refused_request_uses_up_its_fault(client: Client) -> None:
    client.server.script(Delay(0.0))
    client.server.fail_next(500, "1234", "网络错误")
    assert [client.post(model="gpt").status_code, client.post().status_code] == [400, 500]


def test_a_request_id_is_accepted_once(client: Client) -> None:
    client.server.fail_next(500, "1234", "网络错误")
    assert client.post(request_id="first-1").status_code == 500
    assert client.error(request_id="first-1") == (400, "1231", "您已有请求：first-1")
    assert client.post(request_id="second-2").json()["request_id"] == "second-2"
    with MockGLMServer() as another, Client(another).http as http:
        assert http.post("/chat/completions", json=body_of(request_id="second-2")).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[1, 2]", b'"text"', b"\xff\xfe\xfd"])
def test_a_body_that_is_not_an_object_is_refused_and_not_recorded(client: Client, body: bytes) -> None:
    response = client.http.post("/chat/completions", content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "1210")
    assert client.server.requests == []


# Connections


def test_one_connection_serves_answers_streams_and_errors(client: Client) -> None:
    client.server.script(None, None, ErrorAnswer(500, "1234", "网络错误"))
    for stream in (False, True, False, True, True):
        client.post(stream=stream)
    client.post(model="gpt")
    assert client.http.get("/chat/completions").status_code == 404
    assert client.http.post("/embeddings", json=body_of()).status_code == 404
    client.post()
    assert (client.server.connections, client.server.open_connections) == (1, 1)


def test_the_server_closes_the_connection_of_a_stream_that_a_client_leaves(client: Client) -> None:
    client.server.script(Trickle(5.0))
    with client.http.stream("POST", "/chat/completions", json=body_of(stream=True)) as response:
        pieces = response.iter_raw()
        next(pieces)
        assert client.server.open_connections == 1
    assert wait_until(lambda: client.server.open_connections == 0)


def test_connections_are_counted(server: MockGLMServer) -> None:
    connections = [connect(server) for _ in range(5)]
    assert wait_until(lambda: server.open_connections == 5)
    for connection in connections:
        connection.close()
    assert wait_until(lambda: server.open_connections == 0)
    assert server.connections == 5


async def test_two_hundred_simultaneous_requests_are_answered() -> None:
    questions = [f"第{number}问" for number in range(200)]
    with MockGLMServer() as server:
        server.script(*[Together(threading.Barrier(200))] * 200)
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(headers=KEY, limits=limits, timeout=PATIENCE, trust_env=False) as http:
            url = f"{server.url}/chat/completions"
            answers = await asyncio.gather(*(http.post(url, json=body_of(question)) for question in questions))
        for question, answer in zip(questions, answers, strict=True):
            assert answer.json()["choices"][0]["message"]["content"].startswith(
                f"（本地模拟服务，不是模型）问题：{question}\n"
            )
        assert len(server.requests) == 200
        assert wait_until(lambda: server.open_connections == 0)


def test_two_hundred_connections_can_be_open_at_once(server: MockGLMServer) -> None:
    connections = [connect(server) for _ in range(200)]
    assert wait_until(lambda: server.open_connections == 200)
    for connection in connections:
        send(connection, stream=True)
    for connection in connections:
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        connection.close()
    assert wait_until(lambda: server.open_connections == 0)


# Settings


@pytest.mark.parametrize("status", [200, 400])
def test_latency_delays_every_answer(status: int) -> None:
    with MockGLMServer(latency=0.1) as server, Client(server).http as http:
        start = time.monotonic()
        model = "glm-4v-flash" if status == 200 else "gpt"
        assert http.post("/chat/completions", json=body_of(model=model)).status_code == status
        assert time.monotonic() - start >= 0.1


def test_limits_can_be_set_for_all_models(red: str) -> None:
    with MockGLMServer(max_images=1, max_tokens=10) as server:
        client = Client(server)
        with client.http:
            for model in ("glm-4v-flash", "glm-4.6v"):
                assert client.post([image(red), text("?")], model=model, max_tokens=10).status_code == 200
                assert client.error([image(red), image(red), text("?")], model=model) == (
                    400,
                    "1210",
                    "输入图片数量超过限制",
                )
                assert client.error(model=model, max_tokens=11)[2] == "max_tokens参数非法：限制数值范围[1,10]"


# Closing


_WAYS_TO_WAIT = {
    "stalled before": Stall(),
    "stalled within": Stall(after=1),
    "delayed": Delay(3600.0),
    "trickling": Trickle(3600.0),
}


@contextmanager
def busy(server: MockGLMServer, how: str) -> Iterator[socket.socket]:
    """Open a connection that makes its thread in the server wait."""
    with closing(connect(server)) as connection:
        if how == "half a request":
            connection.sendall(b"POST /api/paas/v4/chat/completions HTTP/1.1\r\nContent-Length: 99\r\n\r\n{")
        elif how != "idle":
            server.script(_WAYS_TO_WAIT.get(how))
            # An answer that is larger than the socket buffers.
            content = "长" * 200_000 if how == "unread" else "你好"
            send(connection, model="glm-4.6v", content=content, stream=True)
            assert wait_until(lambda: len(server.requests) == 1)
            assert how in ("delayed", "stalled before") or connection.recv(1) == b"H"
        assert wait_until(lambda: server.open_connections == 1)
        yield connection


@pytest.mark.parametrize("how", ["idle", "half a request", *_WAYS_TO_WAIT, "unread"])
def test_closing_waits_for_no_client_and_ends_all_threads(how: str) -> None:
    threads = set(threading.enumerate())
    server = MockGLMServer()
    server.__enter__()
    with busy(server, how) as connection:
        # The faults last an hour: the test would time out if closing waited for them.
        server.__exit__(None, None, None)
        assert server.open_connections == 0
        assert set(threading.enumerate()) <= threads
        while connection.recv(65536):
            pass


def test_closing_ends_idle_connections() -> None:
    with MockGLMServer() as server:
        client = Client(server)
        client.post(stream=True)
        assert server.open_connections == 1
    assert server.open_connections == 0
    with pytest.raises(httpx.ConnectError):
        client.post()
    client.http.close()


# OpenAI-style servers: requests, refusals and answers have the form of vLLM


RAW = encoded(Image.new("RGB", (4, 4)))


@pytest.fixture(params=[False, True], ids=["error", "object error"])
def openai_client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of an OpenAI-style server, with both forms of errors."""
    with MockGLMServer(api_style="openai", flat_errors=request.param) as server:
        yield Client(server)


def refusal(client: Client, content: Any = "你好", **fields: Any) -> str:
    """Return the message of a refusal."""
    response = client.post(content, **fields)
    assert response.status_code == 400
    body = response.json()
    error = body if body.get("object") == "error" else body["error"]
    assert error["code"] == 400
    return str(error["message"])


@pytest.mark.parametrize("field", ["request_id", "do_sample", "user_id", "thinking"])
def test_openai_fields_only_are_accepted(openai_client: Client, field: str) -> None:
    message = refusal(openai_client, **{field: "value"})
    assert f"('body', '{field}')" in message
    assert "Extra inputs are not permitted" in message


def test_openai_images_are_data_uris_or_urls(openai_client: Client) -> None:
    assert "must be either a HTTP, data or file URL" in refusal(openai_client, [image(RAW), text("?")])
    assert "cannot identify image file" in refusal(openai_client, [image("data:image/png;base64,AAAA"), text("?")])
    for url in (f"data:image/png;base64,{RAW}", "https://example.org/a.png"):
        assert "收到 1 张图片" in openai_client.message([image(url), text("?")])["content"]


def test_other_errors_are_refused_as_by_vllm(openai_client: Client) -> None:
    assert "only be defined when `stream=True`" in refusal(openai_client, stream_options={"include_usage": True})
    assert "Field required" in refusal(openai_client, messages=[])
    assert "Unknown part type: file_url" in refusal(openai_client, [{"type": "file_url", "file_url": {"url": "x"}}])


def test_images_of_openai_tools_are_refused_as_by_openai(openai_client: Client) -> None:
    result = {"role": "tool", "tool_call_id": "c1", "content": [image("https://example.com/a.jpg")]}
    refused = refusal(openai_client, messages=[user("x"), result])
    assert refused.startswith("Invalid 'messages[1]'. Image URLs are only allowed for messages with role 'user', but")


def test_the_content_of_an_openai_call_is_null(openai_client: Client) -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "string"}}}
    message = openai_client.message("苹果", tools=[tool(parameters=parameters)])
    (call,) = message["tool_calls"]
    assert (message["content"], set(call)) == (None, {"id", "type", "function"})


def test_an_openai_stream_has_usage_only_on_request(openai_client: Client) -> None:
    plain = choices_of(openai_client.post(stream=True))
    assert [choice["finish_reason"] for choice in plain] == [None] * (len(plain) - 1) + ["stop"]
    *_, last, done = lines_of(openai_client.post(stream=True, stream_options={"include_usage": True}))
    assert done == "[DONE]"
    assert json.loads(last)["choices"] == []
    assert json.loads(last)["usage"]["total_tokens"] > 0
