"""LlamaIndex's chat messages to the API's JSON: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index_mm_zhipu.llm.messages import Receiver, content_of
from llama_index_mm_zhipu.llm.errors import GLMInvalidRequestError, new_error
from llama_index_mm_zhipu.llm.numbered_picture import language_of_chat
from llama_index_mm_zhipu.llm.tools_old import calls_in_history
from llama_index_mm_zhipu.prompts.wording import Wording, wording_of

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

_WHEN_EMPTY = "give it a text or an image, or leave it out"


def api_messages(messages: Sequence[ChatMessage], receiver: Receiver) -> list[dict[str, Any]]:
    """Turn a chat into the ``messages`` of a request; the given messages stay as they are.

    A message of images alone, which the API refuses, gets a text in the language of the chat's other texts, in Chinese
    if there are none. Calls of tools are read from blocks, else from ``tool_calls`` or ``function_call`` of
    ``additional_kwargs``, where histories of other LLMs have them.

    Args:
        messages: The whole history, oldest first, as ``plain_messages`` returns it.
        receiver: What the request is made for.

    Raises:
        GLMInvalidRequestError: A message of the user is empty, or there are no messages.
        ValueError: A message holds something that the model does not take.
    """
    wording = wording_of(language_of_chat(messages))
    converted: list[dict[str, Any]] = []
    for message in messages:
        converted.append(_api_message(message, converted, receiver, wording))
    _check_filled(converted)
    # LlamaIndex's chat engines send an empty system prompt where none was set, and keep an answer that was empty.
    # What a tool returned may be nothing, and the call that it answers must have an answer.
    filled = [
        message for message in converted if message["content"] or message.get("tool_calls") or message["role"] == "tool"
    ]
    if not filled:
        raise _empty("the chat has no message that says anything", "give it one with a text or an image")
    return filled


def _check_filled(messages: list[dict[str, Any]]) -> None:
    """Refuse empty messages of users: the API would refuse the request, and not say which one it means."""
    for place, message in enumerate(messages):
        content = message["content"]
        is_empty = not content.strip() if isinstance(content, str) else not content
        if is_empty and message["role"] == "user":
            raise _empty(f"messages[{place}] (role 'user') is empty", _WHEN_EMPTY)


def _empty(what: str, advice: str) -> GLMInvalidRequestError:
    return new_error(GLMInvalidRequestError, f"{what}, and the API refuses that with code 1214", advice=advice)


def _api_message(
    message: ChatMessage, before: Sequence[dict[str, Any]], receiver: Receiver, wording: Wording
) -> dict[str, Any]:
    api: dict[str, Any] = {"role": _ROLES[message.role], "content": content_of(message, receiver, wording)}
    if api["role"] == "assistant" and (calls := calls_in_history(message, f"call_{len(before)}")):
        api["tool_calls"] = calls
    if api["role"] == "tool":
        api["tool_call_id"] = _answered_call(message, before)
    return api


def _answered_call(message: ChatMessage, before: Sequence[dict[str, Any]]) -> Any:
    """Return the id of the call that a tool's message answers; results of a ``function_call`` have only its name."""
    given = message.additional_kwargs.get("tool_call_id")
    if given is not None:
        return given
    name = message.additional_kwargs.get("name")
    answered = {earlier.get("tool_call_id") for earlier in before}
    calls = [call for earlier in before for call in earlier.get("tool_calls", ()) if call["id"] not in answered]
    return next((call["id"] for call in calls if name in (None, call["function"]["name"])), None)
