"""Refuses messages that the API refuses: roles, contents, pictures, results of tools that nobody called."""

from __future__ import annotations

from typing import Any

from llama_index_mm_zhipu.llm.models import takes_files, takes_video
from llama_index_mm_zhipu.testing.message_texts import parts_of, text_of
from llama_index_mm_zhipu.testing.pictures import decode_picture, is_address
from llama_index_mm_zhipu.testing.refusal import Refusal, bad_parameter

_ROLES = ("system", "user", "assistant", "tool")


def check_messages(messages: Any, max_pictures: int, model: str) -> None:
    """Check the messages of a request.

    Args:
        messages: What stands in the field of this name.
        max_pictures: Pictures in all messages together.
        model: Name of the model, which says what parts a message may have.

    Raises:
        Refusal: The API would not take them.
    """
    if messages is None:
        raise Refusal(400, "1213", "未正常接收到messages参数。")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise _invalid("messages")
    called: list[str] = []
    for message in messages:
        _check_role(message, called)
        _check_content(message, _part_types(model))
        called += _announced_calls(message)
    urls = [part["image_url"]["url"] for message in messages for part in parts_of(message) if "image_url" in part]
    if len(urls) > max_pictures:
        raise Refusal(400, "1210", "输入图片数量超过限制")
    for url in urls:
        _check_picture(url)


def _check_role(message: dict[str, Any], called: list[str]) -> None:
    if message.get("role") not in _ROLES:
        raise Refusal(400, "1214", f"messages.role 参数非法，取值范围 {list(_ROLES)}")
    if message["role"] == "tool" and message.get("tool_call_id") not in called:
        raise _invalid("messages.tool_call_id")


def _part_types(model: str) -> list[str]:
    videos = ["video_url"] if takes_video(model) else []
    files = ["file_url"] if takes_files(model) else []
    return ["image_url", "text", *videos, *files]


def _check_content(message: dict[str, Any], types: list[str]) -> None:
    content = message.get("content")
    if not content:
        # Calls need no words, and tools may give nothing.
        if (message["role"] == "tool" and content is not None) or message.get("tool_calls"):
            return
        raise (
            Refusal(400, "1213", "未正常接收到messages.content参数。")
            if content is None
            else _invalid("messages.content")
        )
    if not isinstance(content, (str, list)):
        raise _invalid("messages.content")
    for part in parts_of(message):
        _check_part(part, types)
    _check_mixture([part["type"] for part in parts_of(message)])
    if not text_of(message):
        raise bad_parameter()


def _check_part(part: Any, types: list[str]) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in types or set(part) != {"type", kind} or not _is_filled(part[kind], kind):
        raise Refusal(400, "1210", f"messages.content.type 参数非法，取值范围 {types}")


def _check_mixture(types: list[str]) -> None:
    """A video comes first, and neither videos nor files stand beside anything but text."""
    media = set(types) - {"text"}
    if len(media) > 1 or ("video_url" in media and types[0] != "video_url"):
        raise bad_parameter()


def _is_filled(value: Any, kind: str) -> bool:
    if kind == "text":
        return isinstance(value, str)
    return isinstance(value, dict) and set(value) == {"url"} and isinstance(value["url"], str)


def _check_picture(url: str) -> None:
    try:
        if not is_address(url):
            decode_picture(url)
    except ValueError:
        raise Refusal(400, "1210", "图片输入格式/解析错误") from None


def _announced_calls(message: dict[str, Any]) -> list[str]:
    """Return the ids of the tools that an assistant's message calls."""
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list) or not all(_is_call(call) for call in calls):
        raise _invalid("messages.tool_calls")
    return [call["id"] for call in calls] if message["role"] == "assistant" else []


def _is_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return (
        isinstance(function, dict)
        and call.get("type") == "function"
        and all(isinstance(value, str) for value in (call.get("id"), function.get("name"), function.get("arguments")))
    )


def _invalid(field: str) -> Refusal:
    return Refusal(400, "1214", f"{field} 参数非法。请检查文档。")
