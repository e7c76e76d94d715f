"""The effect of each fault on a client, in whole answers and in streams."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from raw_client import TOOL_MODEL, Client, body_of, choices_of, lines_of, tool
from waiting import PATIENCE, wait_until

from llama_index_mm_zhipu.testing import (
    Cut,
    Delay,
    EmptyChoices,
    Ending,
    ErrorAnswer,
    ErrorEvent,
    Fault,
    GarbageEvent,
    MissingDone,
    NoFinalNewline,
    NullContent,
    RawAnswer,
    Reasoning,
    Stall,
    Trickle,
    Wrapped,
)

IMPATIENT = httpx.Timeout(PATIENCE, read=0.1)
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def broken_stream(client: Client, fault: Fault) -> tuple[list[str], httpx.TransportError | None]:
    """Return the lines of a stream until it breaks, and the error."""
    client.server.script(fault)
    lines = []
    with client.http.stream("POST", "/chat/completions", json=body_of(stream=True)) as response:
        try:
            for line in response.iter_lines():
                if line:
                    lines.append(line)
        except httpx.TransportError as error:
            return lines, error
    return lines, None


@contextmanager
def connected(client: Client, *, stream: bool) -> Iterator[socket.socket]:
    """Open a connection and send a request that asks the server to close the connection after its answer."""
    address = urlsplit(client.server.url)
    body = json.dumps(body_of(stream=stream)).encode()
    head = (
        "POST /api/paas/v4/chat/completions HTTP/1.1\r\nAuthorization: Bearer id.secret\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:  # type: ignore[arg-type]
        connection.sendall(head.encode() + body)
        yield connection


def raw_answer(client: Client, fault: Fault, *, stream: bool) -> bytes:
    """Return all bytes of a response until the connection is closed."""
    client.server.script(fault)
    data = b""
    with connected(client, stream=stream) as connection:
        while piece := connection.recv(65536):
            data += piece
    return data


def test_the_base_class_changes_nothing(client: Client) -> None:
    assert (
        client.faulty(Fault(), stream=False).json()["choices"][0]["message"]["content"] == client.message()["content"]
    )


@STREAM
@pytest.mark.parametrize(
    "fault",
    [
        Fault(),
        ErrorAnswer(500, "1234", "网络错误"),
        RawAnswer(""),
        Cut(),
        Cut(after=1),
        Cut(after=1, reset=True),
        Delay(0.01),
        Ending("length"),
        ErrorEvent("1305", "过载"),
        GarbageEvent(),
        MissingDone(),
        NoFinalNewline(),
        Trickle(0.001),
        Reasoning("想"),
        Wrapped("<think>", "</think>"),
        NullContent(),
        EmptyChoices(),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_the_next_request_is_answered_normally(client: Client, fault: Fault, stream: bool) -> None:
    client.server.script(fault)
    try:
        client.post(stream=stream)
    except httpx.TransportError:
        assert isinstance(fault, Cut)
    assert choices_of(client.post(stream=True))[-1]["finish_reason"] == "stop"
    assert wait_until(lambda: client.server.open_connections == 1)
    client.http.close()
    assert wait_until(lambda: client.server.open_connections == 0)


# Errors and malformed replies


@STREAM
def test_an_error_answer_is_json_even_for_a_stream(client: Client, stream: bool) -> None:
    fault = ErrorAnswer(400, "1301", "敏感", retry_after=2, content_filter=[{"level": 1, "role": "user"}])
    response = client.faulty(fault, stream=stream, model="gpt")
    assert response.status_code == 400
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.headers["Retry-After"] == "2"
    assert response.json() == {
        "error": {"code": "1301", "message": "敏感"},
        "contentFilter": [{"level": 1, "role": "user"}],
    }


def test_an_error_answer_may_come_with_status_200(client: Client) -> None:
    response = client.faulty(ErrorAnswer(200, "1301", "敏感"))
    assert (response.status_code, response.json()) == (200, {"error": {"code": "1301", "message": "敏感"}})
    assert "Retry-After" not in response.headers


@STREAM
@pytest.mark.parametrize(
    "body",
    ["<html>坏网关</html>", "{broken", "", b"\xff\xfe", '{"choices": []}', "data: {}\r\n\r\n: ping\n\ndata:[DONE]"],
)
def test_a_raw_answer_is_sent_unchanged(client: Client, body: str | bytes, stream: bool) -> None:
    response = client.faulty(RawAnswer(body), stream=stream)
    assert response.content == (body.encode() if isinstance(body, str) else body)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


def test_a_raw_answer_has_any_status_and_type(client: Client) -> None:
    response = client.faulty(RawAnswer("busy", status=503, content_type="text/plain", retry_after="soon"))
    assert (response.status_code, response.headers["Content-Type"]) == (503, "text/plain")
    assert response.headers["Retry-After"] == "soon"


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_error_event_ends_the_stream(client: Client, after: int) -> None:
    response = client.faulty(ErrorEvent("1305", "过载", after=after))
    lines = lines_of(response)
    assert len(lines) == after + 1
    assert json.loads(lines[-1]) == {"error": {"code": "1305", "message": "过载"}}
    assert response.headers["Connection"] == "close"


def test_an_error_event_becomes_the_body_of_a_whole_answer(client: Client) -> None:
    response = client.faulty(ErrorEvent("1305", "过载"), stream=False)
    assert (response.status_code, response.json()) == (200, {"error": {"code": "1305", "message": "过载"}})


@pytest.mark.parametrize("after", [0, 2])
def test_a_garbage_event_is_inserted_among_the_others(client: Client, after: int) -> None:
    lines = lines_of(client.faulty(GarbageEvent(after=after)))
    with pytest.raises(ValueError, match="Unterminated string"):
        json.loads(lines.pop(after))
    assert lines[-1] == "[DONE]"
    assert [json.loads(line)["choices"][0]["index"] for line in lines[:-1]] == [0] * (len(lines) - 1)


def test_a_garbage_event_becomes_the_body_of_a_whole_answer(client: Client) -> None:
    response = client.faulty(GarbageEvent(), stream=False)
    assert response.headers["Content-Type"].startswith("application/json")
    with pytest.raises(ValueError, match="Unterminated string"):
        response.json()


# Connections


@STREAM
def test_a_cut_before_the_status_line_sends_nothing(client: Client, stream: bool) -> None:
    assert raw_answer(client, Cut(), stream=stream) == b""
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        client.faulty(Cut(), stream=stream)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_cut_stream_has_the_given_number_of_events_and_no_end(client: Client, after: int) -> None:
    data = raw_answer(client, Cut(after=after), stream=True)
    assert data.count(b"data: ") == after
    assert b"Transfer-Encoding: chunked" in data
    assert b"[DONE]" not in data
    assert not data.endswith(b"\r\n0\r\n\r\n")
    lines, error = broken_stream(client, Cut(after=after))
    assert len(lines) == after
    assert "incomplete chunked read" in str(error)


@pytest.mark.parametrize("after", [0, 1, 99])
def test_a_whole_answer_is_cut_in_the_middle_of_its_body(client: Client, after: int) -> None:
    head, body = raw_answer(client, Cut(after=after), stream=False).split(b"\r\n\r\n")
    length = int(head.rpartition(b"Content-Length: ")[2].split()[0])
    assert len(body) == length // 2
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        client.faulty(Cut(after=after), stream=False)


@STREAM
@pytest.mark.parametrize("after", [None, 1])
def test_a_reset_raises_a_connection_error(client: Client, after: int | None, stream: bool) -> None:
    with pytest.raises(ConnectionResetError):
        raw_answer(client, Cut(after=after, reset=True), stream=stream)
    with pytest.raises(httpx.ReadError):
        client.faulty(Cut(after=after, reset=True), stream=stream)


def test_events_before_a_reset_arrive(client: Client) -> None:
    lines, error = broken_stream(client, Cut(after=2, reset=True))
    assert (len(lines), type(error)) == (2, httpx.ReadError)


@STREAM
@pytest.mark.parametrize("after", [None, 1])
def test_a_stall_lasts_until_the_client_closes_the_connection(client: Client, after: int | None, stream: bool) -> None:
    client.server.script(Stall(after=after))
    with pytest.raises(httpx.ReadTimeout):
        client.http.post("/chat/completions", json=body_of(stream=stream), timeout=IMPATIENT)
    assert wait_until(lambda: client.server.open_connections == 0)
    assert client.message()


def test_events_before_a_stall_arrive(client: Client) -> None:
    client.server.script(Stall(after=3))
    with connected(client, stream=True) as connection:
        data = b""
        while data.count(b"data: ") < 3 and (piece := connection.recv(65536)):
            data += piece
        assert data.count(b"data: ") == 3
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(65536)


@STREAM
def test_a_delayed_answer_is_normal(client: Client, stream: bool) -> None:
    start = time.monotonic()
    assert client.faulty(Delay(0.1), stream=stream).status_code == 200
    assert time.monotonic() - start >= 0.1


def test_the_server_notices_at_once_that_a_client_did_not_wait(client: Client) -> None:
    client.server.script(Delay(3600.0))
    with pytest.raises(httpx.ReadTimeout):
        client.http.post("/chat/completions", json=body_of(), timeout=IMPATIENT)
    assert wait_until(lambda: client.server.open_connections == 0)


def test_a_trickle_pauses_between_events(client: Client) -> None:
    count = len(lines_of(client.post(stream=True)))
    start = time.monotonic()
    lines, error = broken_stream(client, Trickle(0.02))
    assert (len(lines), error) == (count, None)
    assert time.monotonic() - start >= 0.02 * (count - 1)


def test_a_trickle_sends_a_whole_answer_in_four_pieces(client: Client) -> None:
    start = time.monotonic()
    response = client.faulty(Trickle(0.04), stream=False)
    assert response.json()["choices"][0]["message"]["content"] == client.message()["content"]
    assert time.monotonic() - start >= 0.12


def test_connection_faults_apply_to_refusals_too(client: Client) -> None:
    client.server.script(Cut())
    with pytest.raises(httpx.RemoteProtocolError):
        client.post(model="gpt")


# Ends of streams


def test_a_stream_without_done_is_complete_otherwise(client: Client) -> None:
    lines = lines_of(client.faulty(MissingDone()))
    assert json.loads(lines[-1])["choices"][0]["finish_reason"] == "stop"
    assert client.server.connections == 1


def test_the_last_line_lacks_its_line_end(client: Client) -> None:
    assert client.faulty(NoFinalNewline()).text.endswith("}\n\ndata: [DONE]")


@pytest.mark.parametrize("fault", [MissingDone(), NoFinalNewline()])
def test_faults_of_the_end_of_a_stream_leave_whole_answers_unchanged(client: Client, fault: Fault) -> None:
    assert client.faulty(fault, stream=False).json()["choices"][0]["message"]["content"] == client.message()["content"]


# Contents


def contents_of(response: httpx.Response) -> list[str]:
    return [choice["delta"]["content"] for choice in choices_of(response) if "content" in choice["delta"]]


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("reason", ["length", "network_error", "model_context_window_exceeded"])
def test_an_ending_comes_after_the_given_number_of_events(client: Client, reason: str, after: int) -> None:
    response = client.faulty(Ending(reason, after=after))
    choices = choices_of(response)
    assert len(choices) == after + 1
    assert choices[-1] == {"index": 0, "finish_reason": reason, "delta": {"role": "assistant", "content": ""}}
    assert lines_of(response)[-1] == "[DONE]"
    assert "content_filter" not in response.text

    whole = client.faulty(Ending(reason, after=after), stream=False).json()["choices"][0]
    assert whole["finish_reason"] == reason
    assert whole["message"]["content"] == "".join(contents_of(response)) == client.message()["content"][: 8 * after]


def test_a_sensitive_ending_has_the_form_of_the_api(client: Client) -> None:
    response = client.faulty(Ending("sensitive"))
    last = json.loads(lines_of(response)[-2])
    assert last["choices"] == [
        {"index": 0, "finish_reason": "sensitive", "delta": {"role": "user", "content": ""}},
    ]
    assert last["content_filter"] == [{"role": "assistant", "level": 1}]
    assert client.faulty(Ending("sensitive"), stream=False).json()["content_filter"] == last["content_filter"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_content_filter_can_be_given(client: Client, stream: bool) -> None:
    response = client.faulty(Ending("stop", content_filter=[{"role": "user", "level": 3}]), stream=stream)
    body = json.loads(lines_of(response)[-2]) if stream else response.json()
    assert body["content_filter"] == [{"role": "user", "level": 3}]


def test_an_ending_truncates_the_arguments_of_a_call(client: Client) -> None:
    response = client.faulty(Ending("network_error"), stream=False, model=TOOL_MODEL, tools=[tool()])
    (call,) = response.json()["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "price", "arguments": "{"}


def test_reasoning_comes_before_the_content(client: Client) -> None:
    thoughts = "先看图，再想一想，然后回答。"
    message = client.faulty(Reasoning(thoughts), stream=False).json()["choices"][0]["message"]
    assert message == {"role": "assistant", "reasoning_content": thoughts, "content": client.message()["content"]}

    deltas = [choice["delta"] for choice in choices_of(client.faulty(Reasoning(thoughts)))]
    keys = ["reasoning_content" if "reasoning_content" in delta else "content" for delta in deltas]
    assert keys == sorted(keys, reverse=True)
    assert keys.count("reasoning_content") > 1
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == thoughts
    assert "".join(delta.get("content", "") for delta in deltas) == client.message()["content"]


def test_wrapped_content_is_streamed_three_characters_at_a_time(client: Client) -> None:
    fault = Wrapped("<think>想</think><|begin_of_box|>", "<|end_of_box|>")
    expected = f"{fault.prefix}{client.message()['content']}{fault.suffix}"
    assert client.faulty(fault, stream=False).json()["choices"][0]["message"]["content"] == expected

    *pieces, last, empty = contents_of(client.faulty(fault))
    assert "".join([*pieces, last]) == expected
    assert {len(piece) for piece in pieces} == {3}
    assert empty == ""


def test_null_content_is_null(client: Client) -> None:
    message = client.faulty(NullContent(), stream=False).json()["choices"][0]["message"]
    assert message == {"role": "assistant", "content": None}
    assert contents_of(client.faulty(NullContent())) == [None, ""]


def test_empty_choices_are_empty(client: Client) -> None:
    body = client.faulty(EmptyChoices(), stream=False).json()
    assert body["choices"] == []
    assert body["usage"]["total_tokens"] > 0
    event, done = lines_of(client.faulty(EmptyChoices()))
    assert json.loads(event)["choices"] == []
    assert done == "[DONE]"
