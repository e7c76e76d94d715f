"""Messages as the API takes them: an empty one is named before it is sent, or left out where LlamaIndex made it."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from ways import CHAT, Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMInvalidRequestError
from llama_index_mm_zhipu.testing import GLMStandIn

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
        (
            [ChatMessage(role="system", content=""), *CHAT, CALLED, tool(None)],
            r"messages\[3\] \(role 'tool'\) is empty",
        ),
        ([*CHAT, CALLED, tool("")], r"messages\[2\] \(role 'tool'\) is empty, .*; give it what the tool returned, or"),
    ],
)
async def test_an_empty_message_is_named_before_anything_is_sent(
    chat: list[ChatMessage], message: str, way: Way, llm: ZhipuMultiModal, server: GLMStandIn
) -> None:
    with pytest.raises(GLMInvalidRequestError, match=message) as caught:
        await way.ask(llm, chat)
    assert not caught.value.retryable
    assert server.requests == []


def test_an_empty_prompt_is_named(llm: ZhipuMultiModal) -> None:
    with pytest.raises(GLMInvalidRequestError, match=r"messages\[0\] \(role 'user'\) is empty"):
        llm.complete("")


async def test_empty_messages_of_llama_index_are_left_out(way: Way, llm: ZhipuMultiModal, server: GLMStandIn) -> None:
    empty: list[Any] = [ChatMessage(role=role, content="") for role in ("system", "assistant")]
    await way.ask(llm, [*empty, *CHAT])
    assert [message["role"] for message in server.requests[0]["messages"]] == ["user"]


def test_an_image_alone_is_not_empty(llm: ZhipuMultiModal) -> None:
    blocks = [ImageBlock(url="https://example.org/a.jpg"), TextBlock(text=" ")]
    assert "收到 1 张图片" in str(llm.chat([ChatMessage(role="user", blocks=blocks)]))
