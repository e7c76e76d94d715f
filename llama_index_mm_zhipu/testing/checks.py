"""Refuses what the API refuses, in its words: the key, the model, the parameters, the prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from llama_index_mm_zhipu.llm.models import MODELS, ModelLimits
from llama_index_mm_zhipu.testing.message_checks import check_messages
from llama_index_mm_zhipu.testing.message_texts import parts_of
from llama_index_mm_zhipu.testing.refusal import Refusal, bad_parameter

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


def check_request(request: dict[str, Any], *, max_pictures: int | None = None, max_tokens: int | None = None) -> None:
    """Check the body of a request; fields that the API does not know are let through.

    Args:
        request: The body.
        max_pictures: Limit for all models, instead of each model's own.
        max_tokens: Likewise.

    Raises:
        Refusal: The API would not take it.
    """
    limits = _limits(request.get("model"), max_pictures, max_tokens)
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
    check_messages(request.get("messages"), limits.pictures, request["model"])
    _check_length(request["messages"], limits.context_window)


def _limits(model: Any, max_pictures: int | None, max_tokens: int | None) -> ModelLimits:
    limits = MODELS.get(model) if isinstance(model, str) else None
    if limits is None:
        raise Refusal(400, "1211", "模型不存在，请检查模型代码。")
    return replace(
        limits,
        pictures=limits.pictures if max_pictures is None else max_pictures,
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
