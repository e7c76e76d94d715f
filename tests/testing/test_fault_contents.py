"""Faults that change what is said: early endings, reasoning, marks around the content, nothing at all."""

from __future__ import annotations

import json

import httpx
import pytest
from raw_client import TOOL_MODEL, Client, choices_of, lines_of, tool

from llama_index_mm_zhipu.testing import EmptyChoices, Ending, NullContent, Reasoning, Wrapped


def contents_of(response: httpx.Response) -> list[str]:
    return [choice["delta"]["content"] for choice in choices_of(response) if "content" in choice["delta"]]


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("reason", ["length", "network_error", "model_context_window_exceeded"])
def test_an_ending_comes_after_so_many_events(client: Client, reason: str, after: int) -> None:
    response = client.faulty(Ending(reason, after=after))
    choices = choices_of(response)
    assert len(choices) == after + 1
    assert choices[-1] == {"index": 0, "finish_reason": reason, "delta": {"role": "assistant", "content": ""}}
    assert lines_of(response)[-1] == "[DONE]"
    assert "content_filter" not in response.text

    whole = client.faulty(Ending(reason, after=after), stream=False).json()["choices"][0]
    assert whole["finish_reason"] == reason
    assert whole["message"]["content"] == "".join(contents_of(response)) == client.message()["content"][: 8 * after]


def test_a_sensitive_ending_is_told_as_the_api_tells_it(client: Client) -> None:
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


def test_an_ending_cuts_the_arguments_of_a_call(client: Client) -> None:
    response = client.faulty(Ending("network_error"), stream=False, model=TOOL_MODEL, tools=[tool()])
    (call,) = response.json()["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "price", "arguments": "{"}


def test_reasoning_comes_before_the_content(client: Client) -> None:
    thoughts = "先看图，再想一想，然后回答。"
    message = client.faulty(Reasoning(thoughts), stream=False).json()["choices"][0]["message"]
    assert message == {"role": "assistant", "reasoning_content": thoughts, "content": client.message()["content"]}

    deltas = [choice["delta"] for choice in choices_of(client.faulty(Reasoning(thoughts)))]
    kinds = ["reasoning_content" if "reasoning_content" in delta else "content" for delta in deltas]
    assert kinds == sorted(kinds, reverse=True)
    assert kinds.count("reasoning_content") > 1
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == thoughts
    assert "".join(delta.get("content", "") for delta in deltas) == client.message()["content"]


def test_wrapped_contents_come_in_pieces_of_three_characters(client: Client) -> None:
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
