"""Messages as the API takes them: empty ones are named or left out, and calls are read where others leave them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel
from ways import CHAT, Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMInvalidRequestError
from llama_index_mm_zhipu.testing import MockGLMServer

Connect = Callable[..., ZhipuMultiModal]

CALLS = [{"id": "c1", "type": "function", "function": {"name": "price", "arguments": "{}"}}]
CALLED = ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": CALLS})


def user(content: str | None) -> ChatMessage:
    return ChatMessage(role="user", content=content)


def tool(content: str | None) -> ChatMessage:
    return ChatMessage(role="tool", content=content, additional_kwargs={"tool_call_id": "c1"})


@pytest.mark.parametrize(
    ("chat", "message"),
    [
        ([], "the chat has no message that says anything, .* 1214; give it one with a text or an image"),
        ([ChatMessage(role="system", content="")], "the chat has no message that says anything"),
        ([user("")], r"messages\[0\] \(role 'user'\) is empty, .* 1214; give it a text or an image, or leave it out"),
        ([user(None)], r"messages\[0\] \(role 'user'\) is empty"),
        ([*CHAT, ChatMessage(role="assistant", content=""), user(" \n")], r"messages\[2\] \(role 'user'\) is empty"),
    ],
)
async def test_an_empty_message_is_named_before_anything_is_sent(
    chat: list[ChatMessage], message: str, way: Way, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    with pytest.raises(GLMInvalidRequestError, match=message) as caught:
        await way.ask(llm, chat)
    assert not caught.value.retryable
    assert server.requests == []


def test_an_empty_prompt_is_named(llm: ZhipuMultiModal) -> None:
    with pytest.raises(GLMInvalidRequestError, match=r"messages\[0\] \(role 'user'\) is empty"):
        llm.complete("")


async def test_empty_messages_of_llama_index_are_left_out(
    way: Way, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    empty: list[Any] = [ChatMessage(role=role, content="") for role in ("system", "assistant")]
    await way.ask(llm, [*empty, *CHAT])
    assert [message["role"] for message in server.requests[0]["messages"]] == ["user"]


@pytest.mark.parametrize("content", ["", None])
async def test_a_tool_may_return_nothing(
    content: str | None, way: Way, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    await way.ask(llm, [*CHAT, CALLED, tool(content)])
    assert [message["role"] for message in server.requests[0]["messages"]] == ["user", "assistant", "tool"]


def test_an_image_alone_is_not_empty(llm: ZhipuMultiModal) -> None:
    blocks = [ImageBlock(url="https://example.org/a.jpg"), TextBlock(text=" ")]
    assert "收到 1 张图片" in str(llm.chat([ChatMessage(role="user", blocks=blocks)]))


# Histories of other LLMs


class Function(BaseModel):
    """As OpenAI's SDK has it."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """As OpenAI's SDK has it, in streams with an index."""

    id: str
    function: Function
    index: int = 0
    type: str = "function"


SENT = {"id": "c1", "type": "function", "function": {"name": "price", "arguments": '{"name": "苹果"}'}}
OBJECT = ToolCall(id="c1", function=Function(name="price", arguments='{"name": "苹果"}'))


@pytest.mark.parametrize(
    "call",
    [
        SENT,
        {**SENT, "index": 0},
        {"id": "c1", "function": {"name": "price", "arguments": {"name": "苹果"}}},
        OBJECT,
        {"id": "c1", "type": "function", "function": OBJECT.function},
    ],
    ids=["dict", "with index", "arguments as a dict", "object", "object in a dict"],
)
async def test_tool_calls_of_other_llms_are_read(call: Any, way: Way, connect: Connect, server: MockGLMServer) -> None:
    answer = ChatMessage(role="assistant", content=None, additional_kwargs={"tool_calls": [call]})
    await way.ask(connect(model="glm-4.6v"), [*CHAT, answer, tool("5")])
    _, called, result = server.requests[0]["messages"]
    assert called == {"role": "assistant", "content": "", "tool_calls": [SENT]}
    assert result == {"role": "tool", "content": "5", "tool_call_id": "c1"}


@pytest.mark.parametrize("function", [SENT["function"], OBJECT.function], ids=["dict", "object"])
async def test_a_function_call_and_its_result_get_an_id(
    function: Any, way: Way, connect: Connect, server: MockGLMServer
) -> None:
    answer = ChatMessage(role="assistant", content="", additional_kwargs={"function_call": function})
    result = ChatMessage(role="function", content="5", additional_kwargs={"name": "price"})
    await way.ask(connect(model="glm-4.6v"), [*CHAT, answer, result, *CHAT, answer, result])
    messages = server.requests[0]["messages"]
    assert [message.get("tool_call_id") for message in messages] == [None, None, "call_1", None, None, "call_4"]
    assert [call["id"] for message in messages for call in message.get("tool_calls", [])] == ["call_1", "call_4"]
    assert messages[1]["tool_calls"][0]["function"] == SENT["function"]


def test_results_without_an_id_answer_the_call_of_their_name(connect: Connect, server: MockGLMServer) -> None:
    blocks = [ToolCallBlock(tool_call_id=f"c-{name}", tool_name=name, tool_kwargs={}) for name in ("a", "b")]
    results = [ChatMessage(role="function", content=name, additional_kwargs={"name": name}) for name in ("b", "a")]
    connect(model="glm-4.6v").chat([*CHAT, ChatMessage(role="assistant", blocks=blocks), *results])
    assert [message["tool_call_id"] for message in server.requests[0]["messages"][2:]] == ["c-b", "c-a"]


def test_blocks_win_over_listed_calls(connect: Connect, server: MockGLMServer) -> None:
    block = ToolCallBlock(tool_call_id="c1", tool_name="price", tool_kwargs={"name": "苹果"})
    answer = ChatMessage(role="assistant", blocks=[block], additional_kwargs={"tool_calls": [{"id": "other"}]})
    connect(model="glm-4.6v").chat([*CHAT, answer, tool("5")])
    assert server.requests[0]["messages"][1]["tool_calls"] == [SENT]


def test_what_is_no_call_is_refused(llm: ZhipuMultiModal) -> None:
    answer = ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": ["price()"]})
    with pytest.raises(ValueError, match="the tool calls of a message hold a str; give them as ToolCallBlock"):
        llm.chat([*CHAT, answer])
