"""LlamaIndex's chat messages to the API's JSON: pure functions."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from llama_index_mm_zhipu.llm.pictures import picture_url

logger = logging.getLogger(__name__)

PICTURE_PLACEHOLDER = "[图片略]"
"""Stands where a picture was that the model would not take."""

PICTURE_ONLY_TEXT = "请看图片。"
"""Added to a message of pictures alone, which the API refuses."""

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


def api_messages(messages: Sequence[ChatMessage], max_pictures: int) -> list[dict[str, Any]]:
    """Turn a chat into the ``messages`` of a request; the given messages stay as they are.

    Args:
        messages: The whole history, oldest first.
        max_pictures: What the model takes over the whole history.

    Raises:
        ImageError: A picture cannot be read.
        ValueError: A message holds something other than text, pictures and tool calls.
    """
    converted = [_api_message(message) for message in _within_budget(messages, max_pictures)]
    # LlamaIndex's chat engines send an empty system prompt where none was set; the API refuses empty messages.
    return [message for message in converted if message["content"] or message["role"] != "system"]


def _within_budget(messages: Sequence[ChatMessage], max_pictures: int) -> list[ChatMessage]:
    """Keep the newest pictures, in one message the first ones, and put placeholders for the others."""
    left = max_pictures
    total = 0
    kept_messages = []
    for message in reversed(messages):
        blocks: list[Any] = []
        for block in message.blocks:
            if isinstance(block, ImageBlock):
                total += 1
                left -= 1
                block = block if left >= 0 else TextBlock(text=PICTURE_PLACEHOLDER)
            blocks.append(block)
        kept_messages.append(message.model_copy(update={"blocks": blocks}))
    if total > max_pictures:
        logger.warning("sending %d of %d pictures: the model takes no more in one request", max_pictures, total)
    return kept_messages[::-1]


def _api_message(message: ChatMessage) -> dict[str, Any]:
    api: dict[str, Any] = {"role": _ROLES[message.role], "content": _content(message)}
    calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if calls:
        api["tool_calls"] = [_api_tool_call(call) for call in calls]
    if api["role"] == "tool":
        api["tool_call_id"] = message.additional_kwargs.get("tool_call_id")
    return api


def _content(message: ChatMessage) -> str | list[dict[str, Any]]:
    """Text alone goes as a string, which every model takes; with pictures, parts in the order of the blocks."""
    parts: list[dict[str, Any]] = []
    for block in message.blocks:
        if isinstance(block, TextBlock):
            if parts and parts[-1]["type"] == "text":
                parts[-1]["text"] += f"\n{block.text}"
            else:
                parts.append({"type": "text", "text": block.text})
        elif isinstance(block, ImageBlock):
            parts.append({"type": "image_url", "image_url": {"url": picture_url(block)}})
        elif not isinstance(block, (ToolCallBlock, ThinkingBlock)):
            raise ValueError(f"ZhipuMultiModal takes text and pictures, not a {type(block).__name__}; leave it out")
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if len(texts) == len(parts):
        return texts[0] if texts else ""
    if not any(text.strip() for text in texts):
        return [*(part for part in parts if part["type"] != "text"), {"type": "text", "text": PICTURE_ONLY_TEXT}]
    return parts


def _api_tool_call(call: ToolCallBlock) -> dict[str, Any]:
    arguments = call.tool_kwargs
    return {
        "id": call.tool_call_id,
        "type": "function",
        "function": {
            "name": call.tool_name,
            "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False),
        },
    }
