"""Answers as the API puts them on the wire: the JSON of an answer, its events, and how a reply is sent."""

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


class Refusal(Exception):  # noqa: N818  # it is an answer, not a fault of this server
    """An error answer: HTTP status, business code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def reply(self) -> Reply:
        """Return how it is sent."""
        return json_reply(self.status, error_body(self.code, self.message))


def used_request_id(request_id: str) -> Refusal:
    """Return the refusal of a ``request_id`` that an earlier request had."""
    return Refusal(400, "1231", f"您已有请求：{request_id}")


def bad_parameter() -> Refusal:
    """Return the refusal of a parameter that the API does not name."""
    return Refusal(400, "1210", "API 调用参数有误，请检查文档。")


CHARACTERS_PER_EVENT = 8

JSON = "application/json; charset=utf-8"
EVENT_STREAM = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"

Delta = dict[str, Any]


class Finish(Enum):
    """What happens to the connection when all pieces of a reply are out."""

    KEEP = auto()
    """It stays open for the next request."""
    CLOSE = auto()
    """The reply is complete, then the connection is closed."""
    CUT = auto()
    """It is closed, whatever was announced."""
    RESET = auto()
    """It is reset, whatever was announced."""
    STALL = auto()
    """Nothing more comes, but it stays open until the client leaves."""


@dataclass(frozen=True)
class Reply:
    """What is sent back for one request.

    Attributes:
        status: HTTP status.
        content_type: Of the body.
        pieces: The body, in the pieces it is sent in: events of a stream, or one piece.
        length: Length that the headers announce; None for a body of unknown length, which is sent in chunks.
        retry_after: The header of this name.
        delay: Seconds before the status line.
        pause: Seconds between pieces.
        begins: Whether there is anything at all, a status line to begin with.
        finish: What happens at the end.
        content_encoding: How the pieces are compressed, for the header of this name.
        endless: Sent again and again after the pieces, until the client leaves.
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
        """Whether the pieces are events."""
        return self.length is None


@dataclass(frozen=True)
class Answer:
    """An answer, in the pieces that a stream of it has; whole answers are these pieces joined.

    Attributes:
        model: Which model answers.
        deltas: What is said, piece by piece.
        finish_reason: Why nothing more is said.
        usage: Token counts.
        request_id: Of the request, or made up.
        content_filter: What the API says of unsafe content; left out if None.
        has_choices: Whether ``choices`` is filled.
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
        choice = {"index": 0, "finish_reason": self.finish_reason, "message": joined(self.deltas)}
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
        """Return the events of a stream; the last has the finish reason and the usage."""
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
        """Return how the answer is sent."""
        if stream:
            return Reply(200, EVENT_STREAM, (*map(event, self.events()), DONE), length=None)
        return json_reply(200, self.whole())

    def _filter(self) -> dict[str, Any]:
        return {} if self.content_filter is None else {"content_filter": list(self.content_filter)}


def joined(deltas: Sequence[Delta]) -> dict[str, Any]:
    """Join the deltas of a stream to the message of a whole answer."""
    message: dict[str, Any] = {"role": "assistant"}
    for key in ("reasoning_content", "reasoning"):
        if any(key in delta for delta in deltas):
            message[key] = "".join(delta.get(key, "") for delta in deltas)
    texts = [delta["content"] for delta in deltas if "content" in delta]
    message["content"] = None if None in texts else "".join(texts)
    calls: list[dict[str, Any]] = []
    for part in (call for delta in deltas for call in delta.get("tool_calls", ())):
        if "name" in part["function"]:
            calls.append({**part, "function": dict(part["function"])})
        else:
            known = [call for call in calls if call.get("index") == part.get("index")]
            known[-1]["function"]["arguments"] += part["function"]["arguments"]
    if calls:
        message["tool_calls"] = calls
    return message


def text_deltas(text: str, key: str = "content", size: int = CHARACTERS_PER_EVENT) -> tuple[Delta, ...]:
    """Cut a text into deltas."""
    return tuple({key: text[start : start + size]} for start in range(0, len(text), size))


def event(data: Mapping[str, Any]) -> bytes:
    """Return a server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode("utf-8", "replace")


def json_reply(status: int, body: Mapping[str, Any], retry_after: float | str | None = None) -> Reply:
    """Return a reply whose body is JSON."""
    return whole_reply(status, JSON, json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"), retry_after)


def whole_reply(status: int, content_type: str, body: bytes, retry_after: float | str | None = None) -> Reply:
    """Return a reply whose body is sent in one piece."""
    return Reply(status, content_type, (body,), len(body), retry_after)


def error_body(code: str | int, message: str) -> dict[str, Any]:
    """Return the body of an error answer."""
    return {"error": {"code": code, "message": message}}


OBSERVATION = "Observation:"
"""How LlamaIndex's ReAct agent begins what a tool gave, in a message of the user."""

_QUESTION_LABELS = ("问题：", "Query:", "Question:")


def parts_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the content of a message as parts, whatever its form."""
    content = message.get("content") or ""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def text_of(message: dict[str, Any]) -> str:
    """Return all text of a message."""
    return "\n".join(part["text"] for part in parts_of(message) if part["type"] == "text")


def last_question(messages: list[dict[str, Any]]) -> str:
    """Return what the user asked last; observations of an agent are not asked."""
    for message in reversed(messages):
        if message["role"] == "user" and not text_of(message).startswith(OBSERVATION):
            return question_in(text_after_images(message))
    return ""


def text_after_images(message: dict[str, Any]) -> str:
    """Return the last text of a message, if no image follows it: others are captions."""
    last = (parts_of(message) or [{"type": "text", "text": ""}])[-1]
    return str(last["text"]) if last["type"] == "text" else ""


def question_in(text: str) -> str:
    """Find the question in a prompt: its last line, less what prompts write around it ("Query: …", "Answer:")."""
    lines = [line for line in text.splitlines() if not line.strip().endswith((":", "："))]
    line = last_line("\n".join(lines))
    for label in _QUESTION_LABELS:
        line = line.removeprefix(label).strip()
    return line


def last_line(text: str) -> str:
    """Return the last line that is not blank."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


_TILE_SIDE = 28
_MIN_TOKENS, _MAX_TOKENS = 1_000, 1_600


def is_address(url: str) -> bool:
    """Tell whether an image lies on the web; it is not fetched."""
    return url.startswith(("http://", "https://"))


def decode_image(encoded: str) -> Image.Image:
    """Decode an image to its last pixel.

    Raises:
        ValueError: The API would not take it.
    """
    if len(encoded) > MAX_ENCODED_BYTES:
        raise ValueError(f"more than {MAX_ENCODED_BYTES} bytes of base64")
    try:
        image = Image.open(BytesIO(base64.b64decode(encoded, validate=True)), formats=("JPEG", "PNG"))
        if max(image.size) > MAX_SIDE:
            raise ValueError(f"more than {MAX_SIDE} pixels on a side")
        image.load()
    # Pillow raises all of these for files that are broken in one way or another.
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("not a JPEG or PNG") from error
    return image


def count_tokens(url: str) -> int:
    """Return the tokens that an image counts as: one for each 28 × 28 pixels, from 1,000 to 1,600.

    It has been checked; one that is given by address is not fetched and counts the least.
    """
    if is_address(url):
        return _MIN_TOKENS
    width, height = Image.open(BytesIO(base64.b64decode(url))).size
    tiles = math.ceil(width / _TILE_SIDE) * math.ceil(height / _TILE_SIDE)
    return min(max(tiles, _MIN_TOKENS), _MAX_TOKENS)


def describe_image(url: str) -> str:
    """Describe an image that has been checked: format, size and mean colour, or the address."""
    if is_address(url):
        return f"网址 {url}"
    image = decode_image(url)
    red, green, blue = image.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[misc]
    return f"{image.format} {image.width}×{image.height}，平均颜色 #{red:02x}{green:02x}{blue:02x}"
