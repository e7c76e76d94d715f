"""Refuses what the API refuses, in its words: the key, the model, the parameters, the prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from llama_index_mm_zhipu.llm.models import MODELS, ModelLimits, takes_files, takes_video
from llama_index_mm_zhipu.testing.wire import Refusal, bad_parameter, decode_image, is_address, parts_of, text_of

_ROLES = ("system", "user", "assistant", "tool")


def check_messages(messages: Any, max_images: int, model: str) -> None:
    """Check the messages of a request.

    Args:
        messages: What stands in the field of this name.
        max_images: Images in all messages together.
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
    if len(urls) > max_images:
        raise Refusal(400, "1210", "输入图片数量超过限制")
    for url in urls:
        _check_image(url)


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


def _check_image(url: str) -> None:
    try:
        if not is_address(url):
            decode_image(url)
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


# No tokenizer is at hand; a token of Chinese text is rarely more than two characters.
_CHARACTERS_PER_TOKEN = 2
_MAX_STOPS = 4
_EFFORTS = ("low", "high", "max")


def check_key(authorization: str | None) -> None:
    """Check the header ``Authorization``.

    Raises:
        Refusal: There is none, or it does not hold an API key (two parts) or a JWT made of one (three parts).
    """
    if authorization is None:
        raise Refusal(401, "1001", "Header中未收到Authorization参数，无法进行身份验证。")
    scheme, _, token = authorization.partition(" ")
    if scheme != "Bearer" or token.count(".") not in (1, 2) or not all(token.split(".")):
        raise Refusal(401, "1002", "Authorization Token非法，请确认Authorization Token正确传递。")


def check_request(request: dict[str, Any], *, max_images: int | None = None, max_tokens: int | None = None) -> None:
    """Check the body of a request; fields that the API does not know are let through.

    Args:
        request: The body.
        max_images: Limit for all models, instead of each model's own.
        max_tokens: Likewise.

    Raises:
        Refusal: The API would not take it.
    """
    limits = _limits(request.get("model"), max_images, max_tokens)
    _check_max_tokens(request.get("max_tokens"), limits.max_tokens or limits.context_window)
    for name, is_valid in _PARAMETERS.items():
        value = request.get(name)
        # Clients send null for what is not set.
        if value is not None and not is_valid(value):
            raise bad_parameter()
    if (request.get("tools") and not limits.tools) or (request.get("thinking") and not limits.thinking):
        raise bad_parameter()
    if limits.always_thinks:
        _check_effort(request)
    check_messages(request.get("messages"), limits.images, request["model"])
    _check_length(request["messages"], limits.context_window)


def _limits(model: Any, max_images: int | None, max_tokens: int | None) -> ModelLimits:
    limits = MODELS.get(model) if isinstance(model, str) else None
    if limits is None:
        raise Refusal(400, "1211", "模型不存在，请检查模型代码。")
    return replace(
        limits,
        images=limits.images if max_images is None else max_images,
        max_tokens=limits.max_tokens if max_tokens is None else max_tokens,
    )


def _check_max_tokens(value: Any, most: int) -> None:
    if value is not None and not (type(value) is int and 1 <= value <= most):
        raise Refusal(400, "1210", f"max_tokens参数非法：限制数值范围[1,{most}]")


def _check_effort(request: dict[str, Any]) -> None:
    is_disabled = (request.get("thinking") or {}).get("type") == "disabled"
    if is_disabled or request.get("reasoning_effort") not in (None, *_EFFORTS):
        raise Refusal(
            400,
            "1210",
            "This model always engages in thinking and cannot be disabled; please use low, high, or max",
        )


def _check_length(messages: list[dict[str, Any]], context_window: int) -> None:
    length = sum(len(part.get("text", "")) for message in messages for part in parts_of(message))
    if length > context_window * _CHARACTERS_PER_TOKEN:
        raise Refusal(400, "1261", "Prompt 超长")


def _is_number_in(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and low <= value <= high


def _is_string_of(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and low <= len(value) <= high


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_stop(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) <= _MAX_STOPS and all(isinstance(stop, str) and stop for stop in value)
    )


def _is_thinking(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") in ("enabled", "disabled")


def _is_tools(value: Any) -> bool:
    return isinstance(value, list) and all(_is_tool(tool) for tool in value)


def _is_tool(tool: Any) -> bool:
    function = tool.get("function") if isinstance(tool, dict) else None
    return (
        isinstance(function, dict)
        and tool.get("type") == "function"
        and isinstance(function.get("name"), str)
        and isinstance(function.get("description") or "", str)
        and isinstance(function.get("parameters") or {}, dict)
        and set(function) <= {"name", "description", "parameters"}
    )


_PARAMETERS: dict[str, Callable[[Any], bool]] = {
    "temperature": _is_number_in(0, 1),
    "top_p": _is_number_in(0.01, 1),
    "stop": _is_stop,
    "request_id": _is_string_of(6, 64),
    "user_id": _is_string_of(6, 128),
    "do_sample": _is_bool,
    "stream": _is_bool,
    "thinking": _is_thinking,
    "tools": _is_tools,
    "tool_choice": lambda value: value == "auto",
}
