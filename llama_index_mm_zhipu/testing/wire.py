"""The formats that the mock server speaks: replies, refusals, answers, and the texts and images of requests.

Answers and refusals exist in the form of Zhipu's API and in the form of OpenAI's, which servers such as vLLM use.
"""

from __future__ import annotations

import base64
import json
import math
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from io import BytesIO
from typing import Any

from PIL import Image

from llama_index_mm_zhipu.llm.images import MAX_ENCODED_BYTES, MAX_SIDE
from llama_index_mm_zhipu.prompts.wording import WORDING

Delta = dict[str, Any]
Message = dict[str, Any]

JSON = "application/json; charset=utf-8"
EVENT_STREAM = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"

CHARACTERS_PER_EVENT = 8


# Replies


class Finish(Enum):
    """What happens to the connection after all pieces of a reply have been sent."""

    KEEP = auto()
    """It stays open for the next request."""
    CLOSE = auto()
    """The reply is completed, then the connection is closed."""
    CUT = auto()
    """It is closed, whether or not the reply is complete."""
    RESET = auto()
    """It is reset, whether or not the reply is complete."""
    STALL = auto()
    """It stays open without further data until the client closes it."""


@dataclass(frozen=True)
class Reply:
    """The HTTP response to one request.

    Attributes:
        status: HTTP status.
        content_type: Content type of the body.
        pieces: The body: the events of a stream, or one piece.
        length: Value of ``Content-Length``; None sends the pieces as chunks.
        retry_after: Value of ``Retry-After``.
        delay: Seconds before the status line.
        pause: Seconds between two pieces.
        begins: Whether the status line and the headers are sent at all.
        finish: What happens to the connection at the end.
        content_encoding: Value of ``Content-Encoding``.
        endless: Sent again and again after the pieces, until the client closes the connection.
    """

    status: int
    content_type: str
    pieces: tuple[bytes, ...]
    length: int | None
    retry_after: float | str | None = None
    delay: float = 0.0
    pause: float = 0.0
    begins: bool = True
    finish: Finish = Finish.KEEP
    content_encoding: str | None = None
    endless: bytes = b""

    @property
    def is_stream(self) -> bool:
        """Whether the pieces are the events of a stream."""
        return self.length is None


def event(data: Mapping[str, Any]) -> bytes:
    """Return a server-sent event with JSON data."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode("utf-8", "replace")


def json_reply(status: int, body: Mapping[str, Any], retry_after: float | str | None = None) -> Reply:
    """Return a reply with a JSON body."""
    return whole_reply(status, JSON, json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"), retry_after)


def whole_reply(status: int, content_type: str, body: bytes, retry_after: float | str | None = None) -> Reply:
    """Return a reply whose body is sent in one piece."""
    return Reply(status, content_type, (body,), len(body), retry_after)


# Refusals


def error_body(code: str | int, message: str) -> dict[str, Any]:
    """Return the body of an error in the form of Zhipu's API."""
    return {"error": {"code": code, "message": message}}


class Refusal(Exception):  # noqa: N818  # an expected reply, not an error of the server
    """An error reply.

    Args:
        status: HTTP status.
        code: Business code of Zhipu's API.
        message: Message of the API.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def reply(self) -> Reply:
        """Return the refusal as a reply."""
        return json_reply(self.status, error_body(self.code, self.message))


def used_request_id(request_id: str) -> Refusal:
    """Return the refusal of a ``request_id`` that was used before."""
    return Refusal(400, "1231", f"您已有请求：{request_id}")


def bad_parameter() -> Refusal:
    """Return the refusal of a bad parameter, which does not say which parameter is meant."""
    return Refusal(400, "1210", "API 调用参数有误，请检查文档。")


def invalid_field(field: str) -> Refusal:
    """Return the refusal of a field whose value has another form than the API expects."""
    return Refusal(400, "1214", f"{field} 参数非法。请检查文档。")


class OpenAIRefusal(Refusal):
    """An error reply of an OpenAI-style server.

    Args:
        status: HTTP status, which is the code as well.
        message: What is wrong.
        flat: Whether the body has the form of vLLM before 0.10, ``{"object": "error", …}``.
    """

    def __init__(self, status: int, message: str, *, flat: bool) -> None:
        super().__init__(status, str(status), message)
        self._flat = flat

    def reply(self) -> Reply:
        """Return the refusal as a reply."""
        error = {"message": self.message, "type": "BadRequestError", "param": None, "code": self.status}
        return json_reply(self.status, {"object": "error", **error} if self._flat else {"error": error})


# Answers


@dataclass(frozen=True)
class Answer:
    """An answer of the model as the deltas of a stream; a whole answer joins them.

    Attributes:
        model: Name of the model.
        deltas: The deltas of the message.
        finish_reason: Value of ``finish_reason``.
        usage: Token counts.
        request_id: The ``request_id`` of the request, or a generated one.
        content_filter: Value of ``content_filter``; None leaves the field out.
        has_choices: Whether ``choices`` has an element.
        id: Id of the answer.
        created: Unix time in seconds.
    """

    model: str
    deltas: tuple[Delta, ...]
    finish_reason: str
    usage: Mapping[str, Any]
    request_id: str
    content_filter: Sequence[Mapping[str, Any]] | None = None
    has_choices: bool = True
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        choice = {"index": 0, "finish_reason": self.finish_reason, "message": join_deltas(self.deltas)}
        return {
            "id": self.id,
            "request_id": self.request_id,
            "created": self.created,
            "model": self.model,
            "choices": [choice] if self.has_choices else [],
            "usage": self.usage,
            **self._filter(),
        }

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream; the last one has the finish reason and the usage."""
        head = {"id": self.id, "created": self.created, "model": self.model}
        if not self.has_choices:
            yield {**head, "choices": [], "usage": self.usage}
            return
        for delta in self.deltas:
            yield {**head, "choices": [{"index": 0, "delta": {"role": "assistant", **delta}}]}
        role = "user" if self.finish_reason == "sensitive" else "assistant"
        last = {"index": 0, "finish_reason": self.finish_reason, "delta": {"role": role, "content": ""}}
        yield {**head, "choices": [last], "usage": self.usage, **self._filter()}

    def reply(self, *, stream: bool) -> Reply:
        """Return the answer as a reply."""
        if stream:
            return Reply(200, EVENT_STREAM, (*map(event, self.events()), DONE), length=None)
        return json_reply(200, self.whole())

    def _filter(self) -> dict[str, Any]:
        return {} if self.content_filter is None else {"content_filter": list(self.content_filter)}


@dataclass(frozen=True)
class OpenAIAnswer(Answer):
    """An answer of an OpenAI-style server.

    Attributes:
        include_usage: Whether a stream ends with an event that has the usage and no choices.
    """

    include_usage: bool = False

    def whole(self) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        message = {"reasoning_content": None, "tool_calls": [], **join_deltas(self.deltas)}
        calls = [{key: call[key] for key in ("id", "type", "function")} for call in message["tool_calls"]]
        message |= {"content": message["content"] or None if calls else message["content"], "tool_calls": calls}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        return {
            **self._head("chat.completion"),
            "choices": [choice] if self.has_choices else [],
            "usage": self.usage,
        }

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream."""
        head = self._head("chat.completion.chunk")
        if self.has_choices:
            deltas = ({"role": "assistant", "content": ""}, *self.deltas)
            for delta in deltas:
                yield {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]}
            last = {"index": 0, "delta": {"content": None}, "finish_reason": self.finish_reason, "stop_reason": None}
            yield {**head, "choices": [last]}
        if self.include_usage:
            yield {**head, "choices": [], "usage": self.usage}

    def _head(self, object_type: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.id}", "object": object_type, "created": self.created, "model": self.model}


def join_deltas(deltas: Sequence[Delta]) -> Message:
    """Return the message that the deltas of a stream make up."""
    message: Message = {"role": "assistant"}
    for key in ("reasoning_content", "reasoning"):
        if any(key in delta for delta in deltas):
            message[key] = "".join(delta.get(key, "") for delta in deltas)
    texts = [delta["content"] for delta in deltas if "content" in delta]
    message["content"] = None if None in texts else "".join(texts)
    if calls := _joined_calls([call for delta in deltas for call in delta.get("tool_calls", ())]):
        message["tool_calls"] = calls
    return message


def _joined_calls(fragments: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the fragments of tool calls: one with a name begins a call, the others continue the call of their index."""
    calls: list[dict[str, Any]] = []
    for fragment in fragments:
        if "name" in fragment["function"]:
            calls.append({**fragment, "function": dict(fragment["function"])})
        else:
            same_index = [call for call in calls if call.get("index") == fragment.get("index")]
            same_index[-1]["function"]["arguments"] += fragment["function"]["arguments"]
    return calls


def text_deltas(text: str, key: str = "content", size: int = CHARACTERS_PER_EVENT) -> tuple[Delta, ...]:
    """Split a text into deltas of at most ``size`` characters."""
    return tuple({key: text[start : start + size]} for start in range(0, len(text), size))


# Texts of requests

OBSERVATION = "Observation:"
"""Prefix of a user message in which LlamaIndex's ReAct agent sends the result of a tool."""

_QUESTION_LABELS = ("问题：", "Query:", "Question:")

# How the LLM of this package begins the message that has the images of tool results.
_TOOL_IMAGES = tuple(wording.images_of_tools for wording in WORDING.values())


def parts_of(message: Message) -> list[dict[str, Any]]:
    """Return the content of a message as a list of parts; a string becomes one text part."""
    content = message.get("content") or ""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def text_of(message: Message) -> str:
    """Return all text of a message."""
    return "\n".join(part["text"] for part in parts_of(message) if part["type"] == "text")


def holds_tool_images(message: Message) -> bool:
    """Return whether a message has the images of tool results, which the results themselves may not have."""
    return message["role"] == "user" and text_of(message).startswith(_TOOL_IMAGES)


def last_question(messages: list[Message]) -> str:
    """Return the last question of the user; results of tools and their images are skipped."""
    for message in reversed(messages):
        if message["role"] == "user" and not text_of(message).startswith((OBSERVATION, *_TOOL_IMAGES)):
            return question_in(_final_text(message))
    return ""


def _final_text(message: Message) -> str:
    """Return the last part of a message if it is text: texts before images are captions."""
    last = (parts_of(message) or [{"type": "text", "text": ""}])[-1]
    return str(last["text"]) if last["type"] == "text" else ""


def question_in(text: str) -> str:
    """Return the question in a prompt: its last line without labels such as "Query: " and without "Answer:" below."""
    lines = [line for line in text.splitlines() if not line.strip().endswith((":", "："))]
    line = last_line("\n".join(lines))
    for label in _QUESTION_LABELS:
        line = line.removeprefix(label).strip()
    return line


def last_line(text: str) -> str:
    """Return the last line that is not blank."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


# Images of requests

_TILE_SIDE = 28
_MIN_TOKENS, _MAX_TOKENS = 1_000, 1_600


def is_url(image: str) -> bool:
    """Whether an image is given by URL. The mock server fetches no images."""
    return image.startswith(("http://", "https://"))


def base64_of(image: str) -> str:
    """Return an image without the prefix of a data URI, as Zhipu's API expects it."""
    return image.partition(",")[2] if image.startswith("data:") else image


def decode_image(encoded: str) -> Image.Image:
    """Decode a base64 image completely.

    Raises:
        ValueError: The API would refuse the image.
    """
    if len(encoded) > MAX_ENCODED_BYTES:
        raise ValueError(f"more than {MAX_ENCODED_BYTES} bytes of base64")
    try:
        image = Image.open(BytesIO(base64.b64decode(encoded, validate=True)), formats=("JPEG", "PNG"))
        if max(image.size) > MAX_SIDE:
            raise ValueError(f"more than {MAX_SIDE} pixels on a side")
        image.load()
    # Pillow raises any of these for damaged files.
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("not a JPEG or PNG") from error
    return image


def count_tokens(image: str) -> int:
    """Return the tokens of an image that has been checked: one per 28 × 28 pixels, from 1,000 to 1,600.

    An image that is given by URL counts 1,000 tokens.
    """
    if is_url(image):
        return _MIN_TOKENS
    width, height = Image.open(BytesIO(base64.b64decode(image))).size
    tiles = math.ceil(width / _TILE_SIDE) * math.ceil(height / _TILE_SIDE)
    return min(max(tiles, _MIN_TOKENS), _MAX_TOKENS)


def describe_image(image: str) -> str:
    """Describe an image that has been checked: format, size and mean colour, or its URL."""
    if is_url(image):
        return f"网址 {image}"
    decoded = decode_image(image)
    red, green, blue = decoded.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[misc]
    return f"{decoded.format} {decoded.width}×{decoded.height}，平均颜色 #{red:02x}{green:02x}{blue:02x}"
