"""LlamaIndex's chat messages to the API's JSON: pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from llama_index_mm_zhipu.llm.errors import GLMInvalidRequestError, new_error
from llama_index_mm_zhipu.llm.numbered_picture import language_of_chat
from llama_index_mm_zhipu.llm.tools import api_tool_call
from llama_index_mm_zhipu.text import with_whole_characters
from llama_index_mm_zhipu.wording import wording_of

_ROLES = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.TOOL: "tool",
    MessageRole.FUNCTION: "tool",
}

# What to do about an empty message; empty ones of other roles are left out.
_WHEN_EMPTY = {
    "user": "give it a text or an image, or leave it out",
    "tool": "give it what the tool returned, or words such as 'no result'",
}


def api_messages(messages: Sequence[ChatMessage], encode: Callable[[ImageBlock], str]) -> list[dict[str, Any]]:
    """Turn a chat into the ``messages`` of a request; the given messages stay as they are.

    A message of images alone, which the API refuses, gets a text in the language of the chat's other texts, in Chinese
    if there are none.

    Args:
        messages: The whole history, oldest first.
        encode: Returns the ``url`` of a picture.

    Raises:
        GLMInvalidRequestError: A message of the user or of a tool is empty, or there are no messages.
        ValueError: A message holds something other than text, pictures and tool calls.
    """
    look = wording_of(language_of_chat(messages)).look
    converted = [_api_message(message, encode, look) for message in messages]
    _check_filled(converted)
    # LlamaIndex's chat engines send an empty system prompt where none was set, and keep an answer that was empty.
    filled = [message for message in converted if message["content"] or message.get("tool_calls")]
    if not filled:
        raise _empty("the chat has no message that says anything", "give it one with a text or an image")
    return filled


def _check_filled(messages: list[dict[str, Any]]) -> None:
    """Refuse empty messages of users and tools: the API would refuse the request, and not say which one it means."""
    for place, message in enumerate(messages):
        content = message["content"]
        is_empty = not content.strip() if isinstance(content, str) else not content
        if is_empty and message["role"] in _WHEN_EMPTY:
            raise _empty(f"messages[{place}] (role {message['role']!r}) is empty", _WHEN_EMPTY[message["role"]])


def _empty(what: str, advice: str) -> GLMInvalidRequestError:
    return new_error(GLMInvalidRequestError, f"{what}, and the API refuses that with code 1214", advice=advice)


def _api_message(message: ChatMessage, encode: Callable[[ImageBlock], str], look: str) -> dict[str, Any]:
    api: dict[str, Any] = {"role": _ROLES[message.role], "content": _content(message, encode, look)}
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    # Histories of other LLMs have calls only here, in the API's own form.
    calls = [api_tool_call(block) for block in blocks] or message.additional_kwargs.get("tool_calls")
    if calls and api["role"] == "assistant":
        api["tool_calls"] = calls
    if api["role"] == "tool":
        api["tool_call_id"] = message.additional_kwargs.get("tool_call_id")
    return api


def _content(message: ChatMessage, encode: Callable[[ImageBlock], str], look: str) -> str | list[dict[str, Any]]:
    """Text alone goes as a string, which every model takes; with pictures, parts in the order of the blocks."""
    parts: list[dict[str, Any]] = []
    for block in message.blocks:
        if isinstance(block, TextBlock):
            text = with_whole_characters(block.text)
            if parts and parts[-1]["type"] == "text":
                parts[-1]["text"] += f"\n{text}"
            else:
                parts.append({"type": "text", "text": text})
        elif isinstance(block, ImageBlock):
            parts.append({"type": "image_url", "image_url": {"url": encode(block)}})
        elif not isinstance(block, (ToolCallBlock, ThinkingBlock)):
            raise ValueError(f"ZhipuMultiModal takes text and pictures, not a {type(block).__name__}; leave it out")
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if len(texts) == len(parts):
        return texts[0] if texts else ""
    if not any(text.strip() for text in texts):
        return [*(part for part in parts if part["type"] != "text"), {"type": "text", "text": look}]
    return parts
