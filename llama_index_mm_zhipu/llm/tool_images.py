"""Moves the images of tool results into a user message: the API takes only text from tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock

from llama_index_mm_zhipu.llm.images import language_of_chat
from llama_index_mm_zhipu.prompts.wording import Wording, in_one_line, wording_of

_TOOL_ROLES = (MessageRole.TOOL, MessageRole.FUNCTION)

_MAX_LABEL = 400
"""Characters of the line before an image that are repeated: a label with a caption, not a whole JSON document."""


def with_images_after_tools(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return messages in which the images of tool results are in a user message after the last of these results.

    A result keeps its text, and says under which heading its images follow. In the user's message, the last line before
    an image in the result, which may be its label, stands before the image again. The given messages are not changed.

    Args:
        messages: The whole history, oldest first, as ``plain_messages`` returns it.
    """
    if not any(_is_result(message) and _count_images(message) for message in messages):
        return list(messages)
    wording = wording_of(language_of_chat(messages))
    moved: list[ChatMessage] = []
    for are_results, group in groupby(messages, key=_is_result):
        run = list(group)
        moved += _with_images_after(run, wording) if are_results else run
    return moved


def _with_images_after(results: Sequence[ChatMessage], wording: Wording) -> list[ChatMessage]:
    """Return consecutive tool results without images, followed by a message with their images, if they have any."""
    images: list[Any] = []
    for number, result in enumerate(results, 1):
        if _count_images(result):
            images += [TextBlock(text=wording.images_of_result.format(number=number)), *_labelled_images(result)]
    texts = [_without_images(result, number, wording) for number, result in enumerate(results, 1)]
    if not images:
        return texts
    blocks = [TextBlock(text=wording.images_of_tools), *images]
    return [*texts, ChatMessage(role=MessageRole.USER, blocks=blocks)]


def _without_images(result: ChatMessage, number: int, wording: Wording) -> ChatMessage:
    count = _count_images(result)
    if not count:
        return result
    texts = [block for block in result.blocks if not isinstance(block, ImageBlock)]
    note = TextBlock(text=wording.images_follow.format(count=count, number=number))
    return result.model_copy(update={"blocks": [*texts, note]})


def _labelled_images(result: ChatMessage) -> Iterator[Any]:
    """Yield the images of a result, each after the last line of the text right before it."""
    before: Any = None
    for block in result.blocks:
        if isinstance(block, ImageBlock):
            if isinstance(before, TextBlock) and (label := _last_line(before.text)):
                yield TextBlock(text=label)
            yield block
        before = block


def _last_line(text: str) -> str:
    # A text of a tool must not pass for several lines of the user.
    lines = [line for line in map(in_one_line, text.splitlines()) if line]
    return lines[-1][:_MAX_LABEL] if lines else ""


def _is_result(message: ChatMessage) -> bool:
    return message.role in _TOOL_ROLES


def _count_images(message: ChatMessage) -> int:
    return sum(isinstance(block, ImageBlock) for block in message.blocks)
