"""Answers, whole or in pieces, become LlamaIndex's responses; malformed answers become errors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatResponse, TextBlock, ThinkingBlock, ToolCallBlock

from llama_index_mm_zhipu.llm import (
    GLMContentFilteredError,
    GLMContextTooLongError,
    GLMError,
    GLMProtocolError,
    GLMServerError,
)
from llama_index_mm_zhipu.llm.responses import Answer, MarkedText

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 0}}


def whole(message: Any, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": fields.pop("finish_reason", "stop"), "message": message}
    return {"choices": [choice], "usage": USAGE, **fields}


def piece(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "finish_reason": finish_reason, "delta": delta}]}


def streamed(*events: dict[str, Any]) -> list[ChatResponse]:
    answer = Answer()
    responses = [answer.add(event) for event in events]
    rest = answer.end()
    return [*responses, rest] if rest else responses


def test_a_whole_answer() -> None:
    body = whole({"role": "assistant", "content": "红色", "reasoning_content": "看颜色"})
    response = Answer().whole(body)
    assert response.message.blocks == [ThinkingBlock(content="看颜色"), TextBlock(text="红色")]
    assert response.message.content == "红色"
    assert response.raw == body
    assert response.additional_kwargs == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "finish_reason": "stop",
    }


def test_a_streamed_answer_grows() -> None:
    responses = streamed(
        piece(role="assistant", reasoning_content="看"),
        piece(reasoning_content="颜色"),
        piece(content="红"),
        piece(content="色"),
        {**piece("stop", content=""), "usage": USAGE},
    )
    assert [response.delta for response in responses] == ["", "", "红", "色", ""]
    assert [response.additional_kwargs.get("thinking_delta") for response in responses] == ["看", "颜色", *[None] * 3]
    assert responses[-1].message.blocks == [ThinkingBlock(content="看颜色"), TextBlock(text="红色")]
    assert responses[-1].additional_kwargs["total_tokens"] == 7


@pytest.mark.parametrize("content", ["红色", [{"type": "text", "text": "红"}, {"type": "text", "text": "色"}]])
def test_content_is_text_or_parts(content: Any) -> None:
    assert Answer().whole(whole({"content": content})).message.content == "红色"


def test_marks_are_removed_from_the_text() -> None:
    response = Answer().whole(whole({"content": "<think>想</think>是<|begin_of_box|>红色<|end_of_box|>"}))
    assert response.message.blocks == [ThinkingBlock(content="想"), TextBlock(text="是红色")]
    assert response.additional_kwargs["boxed"] == "红色"


def test_reasoning_may_end_without_an_opening_mark() -> None:
    response = Answer().whole(whole({"content": "看颜色</think>\n红色"}))
    assert response.message.blocks == [ThinkingBlock(content="看颜色"), TextBlock(text="红色")]
    responses = streamed(
        piece(content="看颜"), piece(content="色</thi"), piece(content="nk>\n红"), piece("stop", content="色")
    )
    assert [response.delta for response in responses] == ["看颜", "色", "红", "色"]
    assert [response.message.content for response in responses] == ["看颜", "看颜色", "红", "红色"]
    assert responses[2].additional_kwargs["thinking_delta"] == "看颜色"
    assert responses[-1].message.blocks == [ThinkingBlock(content="看颜色"), TextBlock(text="红色")]


def test_text_held_back_for_a_mark_is_returned_at_the_end() -> None:
    *_, last = streamed(piece(content="a <"))
    assert (last.delta, last.message.content) == ("<", "a <")


def test_usage_may_come_without_choices() -> None:
    *_, last = streamed(piece("stop", content="红"), {"choices": [], "usage": USAGE})
    assert last.additional_kwargs["total_tokens"] == 7
    assert last.message.content == "红"


def test_tool_calls_come_whole_or_in_pieces() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "price", "arguments": '{"name": "苹果"}'}}
    expected = ToolCallBlock(tool_call_id="c1", tool_name="price", tool_kwargs='{"name": "苹果"}')
    response = Answer().whole(whole({"content": None, "tool_calls": [call]}, finish_reason="tool_calls"))
    assert response.message.blocks[-1] == expected
    *_, last = streamed(
        piece(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "price", "arguments": '{"name": '}}]),
        piece(tool_calls=[{"index": 0, "function": {"arguments": '"苹果"}'}}]),
        piece("tool_calls", content=""),
    )
    assert last.message.blocks[-1] == expected


def test_tool_calls_without_an_index_are_distinguished_by_their_ids() -> None:
    *_, last = streamed(
        piece(tool_calls=[{"id": "c1", "function": {"name": "a", "arguments": '{"n": '}}]),
        piece(tool_calls=[{"function": {"arguments": "1}"}}]),
        piece(tool_calls=[{"id": "c2", "index": None, "function": {"name": "b", "arguments": "{}"}}]),
        piece("tool_calls", content=""),
    )
    calls = [block for block in last.message.blocks if isinstance(block, ToolCallBlock)]
    assert [(call.tool_call_id, call.tool_name, call.tool_kwargs) for call in calls] == [
        ("c1", "a", '{"n": 1}'),
        ("c2", "b", "{}"),
    ]


def test_arguments_may_continue_after_a_finish_reason() -> None:
    responses = streamed(
        piece("tool_calls", tool_calls=[{"index": 0, "id": "c1", "function": {"name": "a", "arguments": '{"n": '}}]),
        piece("tool_calls", tool_calls=[{"index": 0, "function": {"arguments": "1}"}}]),
    )
    calls = [[block for block in response.message.blocks if isinstance(block, ToolCallBlock)] for response in responses]
    assert [[call.tool_kwargs for call in each] for each in calls] == [[], ['{"n": 1}']]


def test_content_filter_is_kept() -> None:
    levels = [{"role": "user", "level": 3}]
    response = Answer().whole(whole({"content": "红"}, content_filter=levels))
    assert response.additional_kwargs["content_filter"] == levels


@pytest.mark.parametrize(
    ("reason", "error_type"),
    [
        ("sensitive", GLMContentFilteredError),
        ("network_error", GLMServerError),
        ("model_context_window_exceeded", GLMContextTooLongError),
    ],
)
def test_finish_reasons_of_failures_are_errors(reason: str, error_type: type[GLMError]) -> None:
    with pytest.raises(error_type, match=f"'{reason}' after 2 characters"):
        Answer().whole(whole({"content": "红色"}, finish_reason=reason))
    with pytest.raises(error_type):
        streamed(piece(content="红色"), piece(reason, content=""))


@pytest.mark.parametrize("reason", ["length", "stop", "tool_calls", None, "anything new"])
def test_other_finish_reasons_are_returned(reason: str | None) -> None:
    response = Answer().whole(whole({"content": "红色"}, finish_reason=reason))
    assert response.additional_kwargs["finish_reason"] == reason


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": None},
        {"choices": []},
        {"choices": "none"},
        {"choices": ["text"]},
        {"choices": {"a": 1}},
        {"choices": [None]},
        {"choices": [{}]},
        {"choices": [{"message": "text"}]},
        whole(None),
        whole({}),
        whole({"content": None}),
        whole({"content": None, "tool_calls": ["text"]}),
        whole({"content": "红色"}, usage="none"),
        whole({"content": "红色"}, usage=[1]),
    ],
)
def test_malformed_answers_are_errors(body: dict[str, Any]) -> None:
    with pytest.raises(GLMProtocolError):
        Answer().whole(body)


def test_a_stream_without_content_is_an_error() -> None:
    with pytest.raises(GLMProtocolError, match="without content"):
        streamed(piece(role="assistant"), piece("stop"))


@pytest.mark.parametrize("event", [{}, {"choices": []}, {"choices": None}, {"type": "ping"}])
def test_events_without_choices_add_nothing(event: dict[str, Any]) -> None:
    responses = streamed(event, piece("stop", content="红"), event)
    assert [response.delta for response in responses] == ["", "红", ""]
    assert responses[-1].message.content == "红"


def test_an_empty_answer_is_an_answer() -> None:
    assert Answer().whole(whole({"content": ""})).message.content == ""


def test_surrogate_pairs_are_joined_across_pieces_and_lone_halves_replaced() -> None:
    responses = streamed(
        piece(content="好\ud83d", reasoning_content="想\ud83d"),
        piece(content="\ude00坏\ud83d", reasoning_content="\ude00"),
        piece("stop", content="\ud83d"),
    )
    assert [response.delta for response in responses] == ["好", "😀坏", "��"]
    assert responses[-1].message.content == "好😀坏��"
    thoughts = [block.content for block in responses[-1].message.blocks if isinstance(block, ThinkingBlock)]
    assert thoughts == ["想😀"]
    assert streamed(piece(content="好\ud83d"))[-1].message.content == "好�"
    assert Answer().whole(whole({"content": "好\ude00😀"})).message.content == "好�😀"


# Marks of reasoning and boxes


CASES = [
    ("红色的飞机", "红色的飞机", "", ""),
    ("", "", "", ""),
    ("<think>先看颜色</think>\n\n红色", "红色", "先看颜色", ""),
    ("\n<think>\n先看颜色\n</think>红色", "红色", "先看颜色\n", ""),
    ("<think>还没想完", "", "还没想完", ""),
    ("<think></think>红色", "红色", "", ""),
    ("答案是<|begin_of_box|>红色<|end_of_box|>。", "答案是红色。", "", "红色"),
    ("<think>想</think><|begin_of_box|>红色<|end_of_box|>", "红色", "想", "红色"),
    ("<|begin_of_box|>一<|end_of_box|>或<|begin_of_box|>二<|end_of_box|>", "一或二", "", "二"),
    ("用 <think> 标签包住", "用 <think> 标签包住", "", ""),
    ("a < b，b <| c", "a < b，b <| c", "", ""),
    ("以 < 结尾 <", "以 < 结尾 <", "", ""),
    ("<thin", "<thin", "", ""),
    ("先看颜色</think>\n\n红色", "红色", "先看颜色", ""),
    ("\n先看颜色\n</think>红色", "红色", "先看颜色\n", ""),
    ("</think>红色", "红色", "", ""),
    ("先看颜色</think>", "", "先看颜色", ""),
    ("想<|begin_of_box|>蓝<|end_of_box|></think>是<|begin_of_box|>红<|end_of_box|>", "是红", "想蓝", "红"),
    ("想<|begin_of_box|>蓝</think>红", "红", "想蓝", ""),
    ("先</think>再</think>三", "再</think>三", "先", ""),
    ("<think>想</think>用 </think> 结尾", "用 </think> 结尾", "想", ""),
    ("写 <think> 和 </think>", "写 <think> 和 </think>", "", ""),
]


@pytest.mark.parametrize(("raw", "text", "reasoning", "boxed"), CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_marks_are_found_wherever_the_text_is_cut(raw: str, text: str, reasoning: str, boxed: str, size: int) -> None:
    pieces = [raw[start : start + size] for start in range(0, len(raw), size)] or [""]
    marked = MarkedText()

    deltas = [marked.add(piece, last=number == len(pieces)) for number, piece in enumerate(pieces, start=1)]

    assert (marked.text, marked.reasoning, marked.boxed) == (text, reasoning, boxed)
    # Text that was returned before a lone closing mark cannot be taken back.
    assert "".join(deltas).endswith(text)
    assert "".join(deltas) == text or "</think>" in raw


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<|begin_of_box|>", "<|end_of_box|>", "<", "字", " ", "\n"])).map(
        "".join
    ),
    st.randoms(use_true_random=False),
)
def test_cuts_do_not_change_the_result(raw: str, random: object) -> None:
    whole = MarkedText()
    whole.add(raw, last=True)

    cut = MarkedText()
    rest = raw
    while rest:
        length = random.randint(1, 9)  # type: ignore[attr-defined]
        cut.add(rest[:length], last=False)
        rest = rest[length:]
    cut.add("", last=True)

    assert (cut.text, cut.reasoning, cut.boxed) == (whole.text, whole.reasoning, whole.boxed)


def test_text_that_cannot_begin_a_mark_is_not_held_back() -> None:
    marked = MarkedText()
    assert marked.add("红", last=False) == "红"
    assert marked.add("色 <", last=False) == "色 "
    assert marked.add("3", last=False) == "<3"


def test_text_before_a_lone_closing_mark_becomes_reasoning() -> None:
    marked = MarkedText()
    assert marked.add("先看颜色", last=False) == "先看颜色"
    assert (marked.text, marked.reasoning) == ("先看颜色", "")
    assert marked.add("</think>红", last=False) == "红"
    assert (marked.text, marked.reasoning) == ("红", "先看颜色")
    assert marked.add("色", last=True) == "色"
    assert (marked.text, marked.reasoning) == ("红色", "先看颜色")
