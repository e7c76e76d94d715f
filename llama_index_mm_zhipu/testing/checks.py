"""Checks that refuse what a server would refuse, in its words: key, model, parameters, messages, images.

``check_key`` and ``check_request`` follow Zhipu's API, ``check_openai_request`` follows vLLM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from llama_index_mm_zhipu.llm.models import MODELS, ModelLimits, takes_files, takes_video
from llama_index_mm_zhipu.testing.wire import (
    Message,
    OpenAIRefusal,
    Refusal,
    bad_parameter,
    base64_of,
    decode_image,
    invalid_field,
    is_url,
    parts_of,
    text_of,
)

# The mock server has no tokenizer. A token of Chinese text rarely has more than two characters.
_CHARACTERS_PER_TOKEN = 2
_MAX_STOPS = 4
_EFFORTS = ("low", "high", "max")
_ROLES = ("system", "user", "assistant", "tool")


def check_key(authorization: str | None) -> None:
    """Check the ``Authorization`` header.

    Raises:
        Refusal: The header is missing, or has neither an API key (two parts) nor a JWT made from one (three parts).
    """
    if authorization is None:
        raise Refusal(401, "1001", "Header中未收到Authorization参数，无法进行身份验证。")
    scheme, _, token = authorization.partition(" ")
    if scheme != "Bearer" or token.count(".") not in (1, 2) or not all(token.split(".")):
        raise Refusal(401, "1002", "Authorization Token非法，请确认Authorization Token正确传递。")


def check_request(request: dict[str, Any], *, max_images: int | None = None, max_tokens: int | None = None) -> None:
    """Check the body of a request. Unknown fields are accepted, as by the API.

    Args:
        request: The body.
        max_images: Limit for all models; None takes the limit of each model.
        max_tokens: Limit for all models; None takes the limit of each model.

    Raises:
        Refusal: The API would refuse the request.
    """
    limits = _limits(request.get("model"), max_images, max_tokens)
    _check_max_tokens(request.get("max_tokens"), limits.max_tokens or limits.context_window)
    for name, is_valid in _PARAMETERS.items():
        value = request.get(name)
        # Clients send null for a parameter that is not set.
        if value is not None and not is_valid(value):
            raise bad_parameter()
    if (request.get("tools") and not limits.tools) or (request.get("thinking") and not limits.thinking):
        raise bad_parameter()
    if limits.always_thinks:
        _check_effort(request)
    _check_messages(request.get("messages"), limits.images, request["model"])
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


# Parameters


def _check_max_tokens(value: Any, maximum: int) -> None:
    if value is not None and not (type(value) is int and 1 <= value <= maximum):
        raise Refusal(400, "1210", f"max_tokens参数非法：限制数值范围[1,{maximum}]")


def _check_effort(request: dict[str, Any]) -> None:
    is_disabled = (request.get("thinking") or {}).get("type") == "disabled"
    if is_disabled or request.get("reasoning_effort") not in (None, *_EFFORTS):
        raise Refusal(
            400,
            "1210",
            "This model always engages in thinking and cannot be disabled; please use low, high, or max",
        )


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


# Messages


def _check_messages(messages: Any, max_images: int, model: str) -> None:
    if messages is None:
        raise Refusal(400, "1213", "未正常接收到messages参数。")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise invalid_field("messages")
    called: list[str] = []
    for message in messages:
        _check_role(message, called)
        _check_content(message, _part_types(message["role"], model))
        called += _call_ids(message)
    images = [part["image_url"]["url"] for message in messages for part in parts_of(message) if "image_url" in part]
    if len(images) > max_images:
        raise Refusal(400, "1210", "输入图片数量超过限制")
    for image in images:
        _check_image(image)


def _check_role(message: Message, called: list[str]) -> None:
    if message.get("role") not in _ROLES:
        raise Refusal(400, "1214", f"messages.role 参数非法，取值范围 {list(_ROLES)}")
    if message["role"] == "tool" and message.get("tool_call_id") not in called:
        raise invalid_field("messages.tool_call_id")


def _part_types(role: str, model: str) -> list[str]:
    if role == "tool":
        return ["text"]
    videos = ["video_url"] if takes_video(model) else []
    files = ["file_url"] if takes_files(model) else []
    return ["image_url", "text", *videos, *files]


def _check_content(message: Message, types: list[str]) -> None:
    content = message.get("content")
    if not content:
        # A message with tool calls needs no content, and the result of a tool may be an empty string.
        if (message["role"] == "tool" and content is not None) or message.get("tool_calls"):
            return
        raise (
            Refusal(400, "1213", "未正常接收到messages.content参数。")
            if content is None
            else invalid_field("messages.content")
        )
    if not isinstance(content, (str, list)):
        raise invalid_field("messages.content")
    for part in parts_of(message):
        _check_part(part, types)
    _check_mixture([part["type"] for part in parts_of(message)])
    if not text_of(message):
        raise bad_parameter()


def _check_part(part: Any, types: list[str]) -> None:
    part_type = part.get("type") if isinstance(part, dict) else None
    if part_type not in types or set(part) != {"type", part_type} or not _is_filled(part[part_type], part_type):
        raise Refusal(400, "1210", f"messages.content.type 参数非法，取值范围 {types}")


def _check_mixture(types: list[str]) -> None:
    """Check that a message has one type of media besides text, and that a video is the first part."""
    media = set(types) - {"text"}
    if len(media) > 1 or ("video_url" in media and types[0] != "video_url"):
        raise bad_parameter()


def _is_filled(value: Any, part_type: str) -> bool:
    if part_type == "text":
        return isinstance(value, str)
    return isinstance(value, dict) and set(value) == {"url"} and isinstance(value["url"], str)


def _check_image(image: str) -> None:
    try:
        if not is_url(image):
            decode_image(image)
    except ValueError:
        raise Refusal(400, "1210", "图片输入格式/解析错误") from None


def _call_ids(message: Message) -> list[str]:
    """Return the ids of the tool calls in an assistant's message."""
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list) or not all(_is_call(call) for call in calls):
        raise invalid_field("messages.tool_calls")
    return [call["id"] for call in calls] if message["role"] == "assistant" else []


def _is_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return (
        isinstance(function, dict)
        and call.get("type") == "function"
        and all(isinstance(value, str) for value in (call.get("id"), function.get("name"), function.get("arguments")))
    )


def _check_length(messages: list[Message], context_window: int) -> None:
    length = sum(len(part.get("text", "")) for message in messages for part in parts_of(message))
    if length > context_window * _CHARACTERS_PER_TOKEN:
        raise Refusal(400, "1261", "Prompt 超长")


# OpenAI-style servers

_OPENAI_FIELDS = {
    "chat_template_kwargs",
    "frequency_penalty",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "reasoning_effort",
    "repetition_penalty",
    "response_format",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
    "user",
}
_OPENAI_PART_TYPES = ("text", "image_url", "video_url")
_DATA_URIS = tuple(f"data:image/{subtype};base64," for subtype in ("jpeg", "png"))


def check_openai_request(request: dict[str, Any], *, flat_errors: bool) -> None:
    """Check the body of a request to an OpenAI-style server, which accepts no unknown fields.

    Args:
        request: The body.
        flat_errors: Whether refusals have the form of vLLM before 0.10.

    Raises:
        OpenAIRefusal: The server would refuse the request.
    """
    for problem in _openai_problems(request):
        raise OpenAIRefusal(400, problem, flat=flat_errors)


def _openai_problems(request: dict[str, Any]) -> Iterator[str]:
    for name in sorted(set(request) - _OPENAI_FIELDS):
        yield f"[{{'type': 'extra_forbidden', 'loc': ('body', '{name}'), 'msg': 'Extra inputs are not permitted'}}]"
    if request.get("stream_options") and not request.get("stream"):
        yield "Stream options can only be defined when `stream=True`."
    if not isinstance(request.get("model"), str) or not request.get("messages"):
        yield "[{'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required'}]"
    for index, message in enumerate(request["messages"]):
        if message.get("role") == "tool" and any(part["type"] != "text" for part in parts_of(message)):
            # The words of OpenAI's own service. Some servers ignore the image instead.
            yield (
                f"Invalid 'messages[{index}]'. Image URLs are only allowed for messages with role 'user', but this "
                "message with role 'tool' contains an image URL."
            )
    for part in (part for message in request["messages"] for part in parts_of(message)):
        if part["type"] not in _OPENAI_PART_TYPES:
            yield f"Unknown part type: {part['type']}"
        if part["type"] == "image_url":
            yield from _openai_image_problems(part["image_url"]["url"])


def _openai_image_problems(image: str) -> Iterator[str]:
    if is_url(image):
        return
    if not image.startswith(_DATA_URIS):
        yield "The URL must be either a HTTP, data or file URL."
    try:
        decode_image(base64_of(image))
    except ValueError:
        yield "cannot identify image file"
