"""What gateways and self-hosted models do: errors and events of their own, odd tool calls, compression, no end."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Literal

from llama_index_mm_zhipu.testing.faults import Fault
from llama_index_mm_zhipu.testing.wire import (
    CHARACTERS_PER_EVENT,
    DONE,
    Answer,
    Delta,
    Finish,
    Reply,
    event,
    json_reply,
)

ODD_EVENTS = (
    ": ping",
    'event: ping\ndata: {"type": "ping"}',
    'data: {"id": "", "choices": []}',
    'data: {"id": "", "choices": null}',
    'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}',
)
"""A comment, a ping object, events without choices, token counts before the end."""

_WINDOW_BITS = {"gzip": 31, "deflate": 15, "raw deflate": -15}
_PADDING = b" " * (1 << 20)
_BEGUN_LINE = b'data: {"choices": [{"index": 0, "delta": {"content": "'
_BEGUN_BODY = b'{"choices": [{"index": 0, "message": {"content": "'


@dataclass(frozen=True)
class GatewayError(Fault):
    """An error as gateways write it, with HTTP status 200: ``{"code": 500, "msg": "404 NOT_FOUND", "success": false}``.

    Attributes:
        code: A number or text; often an HTTP status.
        message: What stands in ``msg``.
        after: None for a JSON body whatever was asked; else an event of a stream, after so many others.
    """

    code: int | str
    message: str
    after: int | None = None

    def alter_reply(self, reply: Reply) -> Reply:
        """Send the error."""
        body = {"code": self.code, "msg": self.message, "success": False}
        if self.after is None or not reply.is_stream:
            return json_reply(200, body)
        return replace(reply, pieces=(*reply.pieces[: self.after], event(body)), finish=Finish.CLOSE)


@dataclass(frozen=True)
class NoFinishReason(Fault):
    """A stream that ends in ``[DONE]`` without a ``finish_reason``, as relays end answers that were cut off.

    Attributes:
        after: Events that are out; None for all but the last, which would hold the ``finish_reason``.
    """

    after: int | None = None

    def alter_reply(self, reply: Reply) -> Reply:
        """Drop the last events; answers that are not streamed stay as they are."""
        if not reply.is_stream:
            return reply
        return replace(reply, pieces=(*reply.pieces[:-2][: self.after], DONE))


@dataclass(frozen=True)
class OddEvents(Fault):
    """Comments, pings and events without choices stand among the others; what is not streamed stays as it is.

    Attributes:
        events: Lines of each.
        after: Events before them.
    """

    events: Sequence[str] = ODD_EVENTS
    after: int = 0

    def alter_reply(self, reply: Reply) -> Reply:
        """Put them in."""
        if not reply.is_stream:
            return reply
        odd = tuple(f"{lines}\n\n".encode() for lines in self.events)
        return replace(reply, pieces=(*reply.pieces[: self.after], *odd, *reply.pieces[self.after :]))


@dataclass(frozen=True)
class Compressed(Fault):
    """A normal answer, compressed.

    Attributes:
        encoding: ``gzip``, ``deflate``, or ``raw deflate``: without the header of zlib, as some servers understand it.
        padding: Blanks before the answer, of a stream as a comment: a thousand of them take a byte.
        header: What ``Content-Encoding`` claims; by default the truth.
    """

    encoding: Literal["gzip", "deflate", "raw deflate"] = "gzip"
    _: KW_ONLY
    padding: int = 0
    header: str | None = None

    def alter_reply(self, reply: Reply) -> Reply:
        """Compress the pieces, each such that it can be read as it comes."""
        pieces = tuple(self._compressed(reply))
        length = None if reply.is_stream else sum(map(len, pieces))
        header = self.header or self.encoding.removeprefix("raw ")
        return replace(reply, pieces=pieces, length=length, content_encoding=header)

    def _compressed(self, reply: Reply) -> Iterator[bytes]:
        compressor = zlib.compressobj(wbits=_WINDOW_BITS[self.encoding])
        before = [compressor.compress(b":" if reply.is_stream and self.padding else b"")]
        for start in range(0, self.padding, len(_PADDING)):
            before.append(compressor.compress(_PADDING[: self.padding - start]))
        before.append(compressor.compress(b"\n" if self.padding else b""))
        yield b"".join(before) + compressor.flush(zlib.Z_SYNC_FLUSH)
        for piece in reply.pieces:
            yield compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH)
        yield compressor.flush()


@dataclass(frozen=True)
class Endless(Fault):
    """A line, of an answer that is not streamed a body, that goes on until the client leaves.

    Attributes:
        repeated: What is sent again and again, within the content of an event. What begins with a line end is a line
            of its own, such as a comment.
        after: Events before it.
        pause: Seconds between two of it.
    """

    repeated: str = "x" * 65_536
    _: KW_ONLY
    after: int = 1
    pause: float = 0.0

    def alter_reply(self, reply: Reply) -> Reply:
        """Send the beginning and repeat the rest."""
        begun = (*reply.pieces[: self.after], _BEGUN_LINE) if reply.is_stream else (_BEGUN_BODY,)
        if reply.is_stream and self.repeated.startswith("\n"):
            begun = reply.pieces[: self.after]
        return replace(reply, pieces=begun, length=None, pause=self.pause, endless=self.repeated.encode())


@dataclass(frozen=True)
class ToolCalls(Fault):
    """The model calls these functions, whatever was asked.

    Attributes:
        calls: Name and arguments of each; the arguments go out as they are: cut, glued together, or no JSON at all.
        style: How a stream tells the calls apart: ``"index"`` as the API does; ``"one index"``: all have index 0;
            ``"no index"``; ``"new ids"``: each fragment has an id of its own, only the first of a call has a name;
            ``"no ids"``: all have index 0 and no id.
        finish_reason: What ends the answer.
    """

    calls: Sequence[tuple[str, str]]
    style: Literal["index", "one index", "no index", "new ids", "no ids"] = "index"
    finish_reason: str = "tool_calls"

    def alter_answer(self, answer: Answer) -> Answer:
        """Call them."""
        return replace(answer, deltas=tuple(self._deltas()), finish_reason=self.finish_reason)

    def _deltas(self) -> Iterator[Delta]:
        for number, (name, arguments) in enumerate(self.calls):
            index = {} if self.style == "no index" else {"index": number if self.style in ("index", "new ids") else 0}
            call_id = {} if self.style == "no ids" else {"id": f"call_{number}"}
            yield _fragment({**index, **call_id, "type": "function"}, {"name": name, "arguments": ""})
            for start in range(0, len(arguments), CHARACTERS_PER_EVENT):
                new_id = {"id": f"call_{number}_{start}"} if self.style == "new ids" else {}
                yield _fragment({**index, **new_id}, {"arguments": arguments[start : start + CHARACTERS_PER_EVENT]})


def _fragment(head: Delta, function: Delta) -> Delta:
    return {"tool_calls": [{**head, "function": function}]}
