"""The effect of each fault of gateways and self-hosted models on a client, in whole answers and in streams."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from raw_client import TOOL_MODEL, Client, choices_of, lines_of, tool
from waiting import wait_until

from llama_index_mm_zhipu.testing import (
    Compressed,
    Endless,
    ErrorAnswer,
    ErrorEvent,
    Fault,
    GatewayError,
    NoFinishReason,
    OddEvents,
    ToolCalls,
)
from llama_index_mm_zhipu.testing.gateway_faults import ODD_EVENTS

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
ERROR = {"code": 500, "msg": "404 NOT_FOUND", "success": False}
TWO = [("price", '{"name": "苹果"}'), ("price", '{"name": "梨"}{')]


@STREAM
def test_a_gateway_error_has_status_200(client: Client, stream: bool) -> None:
    response = client.faulty(GatewayError(500, "404 NOT_FOUND"), stream=stream)
    assert (response.status_code, response.json()) == (200, ERROR)


def test_a_gateway_error_may_be_an_event(client: Client) -> None:
    lines = lines_of(client.faulty(GatewayError(500, "404 NOT_FOUND", after=2)))
    assert (len(lines), json.loads(lines[-1])) == (3, ERROR)
    assert client.faulty(GatewayError(500, "404 NOT_FOUND", after=2), stream=False).json() == ERROR


def test_error_codes_may_be_numbers(client: Client) -> None:
    assert client.faulty(ErrorAnswer(401, 401, "x")).json()["error"]["code"] == 401
    assert json.loads(lines_of(client.faulty(ErrorEvent(401, "x")))[-1])["error"]["code"] == 401


@pytest.mark.parametrize("after", [None, 0, 2])
def test_a_finish_reason_may_be_missing(client: Client, after: int | None) -> None:
    count = len(lines_of(client.post(stream=True)))
    response = client.faulty(NoFinishReason(after))
    choices = choices_of(response)
    assert len(choices) == (count - 2 if after is None else after)
    assert not any("finish_reason" in choice for choice in choices)
    assert lines_of(response)[-1] == "[DONE]"


@pytest.mark.parametrize("after", [0, 2])
def test_odd_events_are_inserted_among_the_others(client: Client, after: int) -> None:
    normal = client.post(stream=True).text.split("\n\n")
    odd = client.faulty(OddEvents(after=after)).text.split("\n\n")
    assert odd[after : after + len(ODD_EVENTS)] == list(ODD_EVENTS)
    assert len(odd) == len(normal) + len(ODD_EVENTS)


@STREAM
@pytest.mark.parametrize("padding", [0, 3_000_000])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate"])
def test_compressed_answers_can_be_decoded(client: Client, encoding: Any, padding: int, stream: bool) -> None:
    response = client.faulty(Compressed(encoding, padding=padding), stream=stream)
    assert response.headers["Content-Encoding"] == encoding.removeprefix("raw ")
    assert response.num_bytes_downloaded < 10_000
    assert len(response.text) > padding
    if stream:
        assert response.text.endswith("data: [DONE]\n\n")
    else:
        assert response.json()["choices"][0]["message"] == client.message()


@pytest.mark.parametrize("fault", [NoFinishReason(), OddEvents()])
def test_faults_of_streams_leave_whole_answers_unchanged(client: Client, fault: Fault) -> None:
    assert client.faulty(fault, stream=False).json()["choices"][0]["message"] == client.message()


@STREAM
@pytest.mark.parametrize("repeated", ["abc", "\n: ping\n"])
def test_an_endless_answer_lasts_until_the_client_closes_the_connection(
    client: Client, repeated: str, stream: bool
) -> None:
    client.server.script(Endless(repeated))
    body = {"model": "glm-4v-flash", "messages": [{"role": "user", "content": "你好"}], "stream": stream}
    text = ""
    with client.http.stream("POST", "/chat/completions", json=body) as response:
        for part in response.iter_text():
            text += part
            if text.count(repeated) > 1000:
                break
    assert text.startswith("data: ") == stream
    assert wait_until(lambda: client.server.open_connections == 0)
    assert client.message()


def fragments(response: httpx.Response) -> list[dict[str, Any]]:
    deltas = [choice["delta"] for choice in choices_of(response)]
    return [call for delta in deltas for call in delta.get("tool_calls", ())]


@pytest.mark.parametrize(
    ("style", "indexes", "ids"),
    [
        ("index", {0, 1}, {"call_0", "call_1"}),
        ("one index", {0}, {"call_0", "call_1"}),
        ("no index", {None}, {"call_0", "call_1"}),
        ("new ids", {0, 1}, None),
        ("no ids", {0}, set()),
    ],
)
def test_tools_are_called_with_any_arguments(
    client: Client, style: Any, indexes: set[Any], ids: set[str] | None
) -> None:
    fault = ToolCalls(TWO, style, finish_reason="length")
    whole = client.faulty(fault, stream=False, model=TOOL_MODEL, tools=[tool()]).json()["choices"][0]
    functions = [call["function"] for call in whole["message"]["tool_calls"]]
    assert [(function["name"], function["arguments"]) for function in functions] == TWO
    assert whole["finish_reason"] == "length"

    parts = fragments(client.faulty(fault, model=TOOL_MODEL, tools=[tool()]))
    assert {part.get("index") for part in parts} == indexes
    assert sum("name" in part["function"] for part in parts) == 2
    assert "".join(part["function"]["arguments"] for part in parts) == "".join(arguments for _, arguments in TWO)
    found = {part["id"] for part in parts if "id" in part}
    assert len(found) == len(parts) if ids is None else found == ids
