"""Answers as the API puts them on the wire: the JSON of an answer, its events, and how a reply is sent."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

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
