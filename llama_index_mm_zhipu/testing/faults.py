"""What a scripted stand-in does to an answer: errors, nonsense, broken and slow connections, odd contents.

``after`` is always the number of events of a stream that are out before it happens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from llama_index_mm_zhipu.testing.wire import (
    DONE,
    JSON,
    Answer,
    Finish,
    Reply,
    error_body,
    event,
    json_reply,
    text_deltas,
    whole_reply,
)

_GARBAGE = '{"choices": [{"index": 0, "del'
_TRICKLED_PIECES = 4
_WRAPPED_CHARACTERS_PER_EVENT = 3


@dataclass(frozen=True)
class Fault:
    """What happens to one answer; this one, the base of the others, changes nothing."""

    def instead(self) -> Reply | None:
        """Return what is sent whatever was asked, if anything."""
        return None

    def alter_answer(self, answer: Answer) -> Answer:
        """Change what is said."""
        return answer

    def alter_reply(self, reply: Reply) -> Reply:
        """Change how it is sent."""
        return reply


# Errors and nonsense


@dataclass(frozen=True)
class ErrorAnswer(Fault):
    """An error of the API, whatever was asked: a JSON body, also where a stream was asked for.

    Attributes:
        status: HTTP status; 200 also occurs.
        code: Business code; gateways write it as a number.
        message: The API's message.
        retry_after: Header ``Retry-After``.
        content_filter: What stands in ``contentFilter`` beside the error: ``[{"level": 1, "role": "user"}]``.
    """

    status: int
    code: str | int
    message: str
    _: KW_ONLY
    retry_after: float | str | None = None
    content_filter: Sequence[Mapping[str, Any]] | None = None

    def instead(self) -> Reply:
        """Return the error."""
        body = error_body(self.code, self.message)
        if self.content_filter is not None:
            body["contentFilter"] = list(self.content_filter)
        return json_reply(self.status, body, self.retry_after)


@dataclass(frozen=True)
class RawAnswer(Fault):
    """Any body, whatever was asked: a proxy's HTML, broken JSON, nothing, odd server-sent events.

    Attributes:
        body: What is sent.
        status: HTTP status.
        content_type: What the body claims to be.
        retry_after: Header ``Retry-After``.
    """

    body: str | bytes
    _: KW_ONLY
    status: int = 200
    content_type: str = "text/html; charset=utf-8"
    retry_after: float | str | None = None

    def instead(self) -> Reply:
        """Return the body."""
        body = self.body.encode() if isinstance(self.body, str) else self.body
        return whole_reply(self.status, self.content_type, body, self.retry_after)


@dataclass(frozen=True)
class ErrorEvent(Fault):
    """An error in mid-stream, then the end; HTTP 200 with the error as its body where no stream was asked for."""

    code: str | int
    message: str
    after: int = 1

    def alter_reply(self, reply: Reply) -> Reply:
        """Break off with the error."""
        body = error_body(self.code, self.message)
        if not reply.is_stream:
            return json_reply(200, body)
        return replace(reply, pieces=(*reply.pieces[: self.after], event(body)), finish=Finish.CLOSE)


@dataclass(frozen=True)
class GarbageEvent(Fault):
    """An event that is no JSON, among the others; a body that is no JSON where no stream was asked for."""

    after: int = 1

    def alter_reply(self, reply: Reply) -> Reply:
        """Put the garbage in."""
        if not reply.is_stream:
            return whole_reply(200, JSON, _GARBAGE.encode())
        garbage = f"data: {_GARBAGE}\n\n".encode()
        return replace(reply, pieces=(*reply.pieces[: self.after], garbage, *reply.pieces[self.after :]))


# Connections


@dataclass(frozen=True)
class Cut(Fault):
    """The connection is closed.

    Attributes:
        after: None for before the status line; else after so many events, or, where no stream was asked for, in the
            middle of the body.
        reset: Whether the client sees a reset instead of an end.
    """

    after: int | None = None
    _: KW_ONLY
    reset: bool = False

    def alter_reply(self, reply: Reply) -> Reply:
        """Send a part."""
        return _part(reply, self.after, Finish.RESET if self.reset else Finish.CUT)


@dataclass(frozen=True)
class Stall(Fault):
    """Nothing more is sent, but the connection stays open until the client leaves or the stand-in is closed.

    Attributes:
        after: As for ``Cut``.
    """

    after: int | None = None

    def alter_reply(self, reply: Reply) -> Reply:
        """Send a part."""
        return _part(reply, self.after, Finish.STALL)


@dataclass(frozen=True)
class Delay(Fault):
    """A normal answer, so many seconds late."""

    seconds: float

    def alter_reply(self, reply: Reply) -> Reply:
        """Wait before the status line."""
        return replace(reply, delay=self.seconds)


@dataclass(frozen=True)
class Trickle(Fault):
    """A normal answer, with so many seconds between its events, or between four pieces of its body."""

    seconds: float

    def alter_reply(self, reply: Reply) -> Reply:
        """Wait between pieces."""
        if reply.is_stream:
            return replace(reply, pause=self.seconds)
        (body,) = reply.pieces
        size = -(-len(body) // _TRICKLED_PIECES)
        pieces = tuple(body[start : start + size] for start in range(0, len(body), size))
        return replace(reply, pieces=pieces, pause=self.seconds)


# Ends of streams; answers that are not streamed stay as they are


@dataclass(frozen=True)
class MissingDone(Fault):
    """A stream that ends without ``[DONE]``, right after the event with its ``finish_reason``."""

    def alter_reply(self, reply: Reply) -> Reply:
        """Drop the last piece."""
        return replace(reply, pieces=reply.pieces[:-1]) if reply.is_stream else reply


@dataclass(frozen=True)
class NoFinalNewline(Fault):
    """A stream whose last line, ``data: [DONE]``, has no end and no blank line after it."""

    def alter_reply(self, reply: Reply) -> Reply:
        """Strip the last piece."""
        return replace(reply, pieces=(*reply.pieces[:-1], DONE.rstrip())) if reply.is_stream else reply


# Contents


@dataclass(frozen=True)
class Ending(Fault):
    """The answer ends early with this finish reason: ``length``, ``sensitive``, ``network_error`` and so on.

    Attributes:
        finish_reason: What the last event says.
        after: Events before it; an answer that is not streamed has the text of so many.
        content_filter: What stands beside the choices; for ``sensitive`` there is always something.
    """

    finish_reason: str
    after: int = 1
    _: KW_ONLY
    content_filter: Sequence[Mapping[str, Any]] | None = None

    def alter_answer(self, answer: Answer) -> Answer:
        """Keep the first pieces."""
        content_filter = self.content_filter
        if content_filter is None and self.finish_reason == "sensitive":
            content_filter = [{"role": "assistant", "level": 1}]
        return replace(
            answer,
            deltas=answer.deltas[: self.after],
            finish_reason=self.finish_reason,
            content_filter=content_filter,
        )


@dataclass(frozen=True)
class Reasoning(Fault):
    """The answer also has its reasoning; in streams it comes in pieces of its own before the content.

    Attributes:
        text: The reasoning.
        key: Field that it stands in: newer versions of vLLM call it ``reasoning``.
    """

    text: str
    key: str = "reasoning_content"

    def alter_answer(self, answer: Answer) -> Answer:
        """Reason first."""
        return replace(answer, deltas=(*text_deltas(self.text, self.key), *answer.deltas))


@dataclass(frozen=True)
class Wrapped(Fault):
    """The content stands between these strings, ``<think>…</think>`` or the markers of a box for example.

    Streams send three characters at a time, so that markers are cut.
    """

    prefix: str
    suffix: str = ""

    def alter_answer(self, answer: Answer) -> Answer:
        """Wrap the content; tool calls stay as they are."""
        content = "".join(delta.get("content", "") for delta in answer.deltas)
        others = [delta for delta in answer.deltas if "content" not in delta]
        pieces = text_deltas(f"{self.prefix}{content}{self.suffix}", size=_WRAPPED_CHARACTERS_PER_EVENT)
        return replace(answer, deltas=(*pieces, *others))


@dataclass(frozen=True)
class Says(Fault):
    """The content is this text, which may be empty; requests are checked as ever.

    Attributes:
        text: What is said instead of what the stand-in computes.
    """

    text: str

    def alter_answer(self, answer: Answer) -> Answer:
        """Say it."""
        return replace(answer, deltas=text_deltas(self.text) or ({"content": ""},))


@dataclass(frozen=True)
class NullContent(Fault):
    """The content is ``null``."""

    def alter_answer(self, answer: Answer) -> Answer:
        """Say nothing."""
        return replace(answer, deltas=({"content": None},))


@dataclass(frozen=True)
class EmptyChoices(Fault):
    """``choices`` is empty; a stream has one such event."""

    def alter_answer(self, answer: Answer) -> Answer:
        """Choose nothing."""
        return replace(answer, has_choices=False)


def _part(reply: Reply, after: int | None, finish: Finish) -> Reply:
    if after is None:
        return replace(reply, pieces=(), begins=False, finish=finish)
    if reply.is_stream:
        return replace(reply, pieces=reply.pieces[:after], finish=finish)
    body = b"".join(reply.pieces)
    return replace(reply, pieces=(body[: len(body) // 2],), finish=finish)
