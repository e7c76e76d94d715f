"""Server-sent events of a streamed answer: their lines, their JSON, and whether the answer came to its end."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, TypeVar

import httpx

from llama_index_mm_zhipu.llm.errors import (
    GLMConnectionError,
    GLMProtocolError,
    error_from_answer,
    is_error,
    new_error,
)

T = TypeVar("T")

MAX_BYTES = 64 * 1024 * 1024
"""Of a line of a stream or of a body, decompressed. The longest answer of any model, 131,072 tokens with every
character escaped, takes some 2 MB."""

MAX_VALUES = 2_000_000
"""Values in the JSON of a line or body. Python runs no other thread while it parses JSON: this many take 0.2 s and some
200 MB, while 64 MiB of empty objects would take 2 s and 2 GB."""

ACCEPT_ENCODING = "gzip, deflate"
"""Encodings that can be decompressed in slices; httpx unpacks a chunk at once, to up to a thousand times its size."""

# All calls share the event loop: it handles this much of one answer before it looks at the others.
_SLICE_BYTES = 16 * 1024
# Parsing less than this takes a millisecond, which is not worth a thread.
_LONG_BYTES = 256 * 1024
_COUNTED_BYTES = 1024 * 1024


async def slices(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Yield the decompressed body of a response that was opened with ``stream=True``; other calls run in between.

    Raises:
        GLMError: The body is compressed in a way that was not asked for, or damaged.
    """
    unpack = _unpacker(response.headers.get("content-encoding", ""))
    async for data in response.aiter_raw():
        for number, piece in enumerate(unpack(data)):
            if number:
                await asyncio.sleep(0)
            yield piece


async def read_body(response: httpx.Response) -> bytes:
    """Read a body to its end.

    Raises:
        GLMError: It is longer than ``MAX_BYTES``, or cannot be decompressed.
    """
    pieces = []
    length = 0
    async for piece in slices(response):
        pieces.append(piece)
        length += len(piece)
        if length > MAX_BYTES:
            raise too_long("an answer")
    return b"".join(pieces)


def too_long(what: str) -> GLMProtocolError:
    """Return the error of a line or a body that exceeds ``MAX_BYTES``."""
    return new_error(GLMProtocolError, f"the GLM API sent {what} of more than {MAX_BYTES} bytes")


async def beside_the_loop(work: Callable[[bytes], T], data: bytes) -> T:
    """Do some work on data, in a thread if there is much of it."""
    return await asyncio.to_thread(work, data) if len(data) > _LONG_BYTES else work(data)


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        GLMProtocolError: It is none.
    """
    parsed = parse_json(text)
    if not isinstance(parsed, dict):
        raise new_error(GLMProtocolError, f"the GLM API sent {len(text)} characters that are no JSON object")
    return parsed


def parse_json(text: str | bytes) -> Any:
    """Parse JSON, of bytes in any encoding of Unicode; return None where it is none or has too many values."""
    try:
        return None if _has_too_many_values(text) else json.loads(text)
    except (ValueError, RecursionError):
        return None


def _has_too_many_values(text: str | bytes) -> bool:
    """Count what begins a value or stands between two; those within strings count too, which does not matter."""
    if len(text) <= MAX_VALUES:
        return False
    count = 0
    for start in range(0, len(text), _COUNTED_BYTES):
        part = text[start : start + _COUNTED_BYTES]
        if isinstance(part, str):
            count += part.count(",") + part.count("[") + part.count("{")
        else:
            count += part.count(b",") + part.count(b"[") + part.count(b"{")
        if count > MAX_VALUES:
            return True
    return False


def _unpacker(content_encoding: str) -> Callable[[bytes], Iterator[bytes]]:
    names = [name.strip().lower() for name in content_encoding.split(",")]
    names = [name for name in names if name not in ("", "identity")]
    if not names:
        return _cut
    if names not in (["gzip"], ["x-gzip"], ["deflate"]):
        what = f"the GLM API sent an answer with the encoding {content_encoding!r:.40}, which was not asked for"
        raise new_error(GLMProtocolError, what)
    return _Inflater().unpack


def _cut(data: bytes) -> Iterator[bytes]:
    return (data[start : start + _SLICE_BYTES] for start in range(0, len(data), _SLICE_BYTES))


class _Inflater:
    """Decompresses gzip and both forms of deflate, no more than a slice at a time."""

    def __init__(self) -> None:
        # Detects the headers of gzip and of zlib.
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._is_first = True

    def unpack(self, data: bytes) -> Iterator[bytes]:
        while True:
            piece = self._inflate(data)
            data = self._stream.unconsumed_tail
            if piece:
                yield piece
            # A full slice may leave output behind even when all input was taken.
            if not data and len(piece) < _SLICE_BYTES:
                return

    def _inflate(self, data: bytes) -> bytes:
        is_first, self._is_first = self._is_first, False
        try:
            return self._stream.decompress(data, _SLICE_BYTES)
        except zlib.error as error:
            if not is_first:
                what = f"the GLM API sent compressed data that is damaged ({error})"
                raise new_error(GLMConnectionError, what) from None
        # "deflate" without a header, as some servers understand it.
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        return self._inflate(data)


# Not bytes.splitlines, nor httpx's lines: JSON may hold U+2028 and its like as they are.
_LINE_END = re.compile(rb"\r\n?|\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# What is kept of lines that are no events: an error in bare JSON is short.
_MAX_OTHER_CHARACTERS = 100_000


class LineSplitter:
    """Splits a stream of bytes into lines; the time it takes grows with the length of the stream, not of a line."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._length = 0
        self._is_first = True
        self._ended_in_cr = False

    def split(self, data: bytes) -> list[bytes]:
        """Return the lines that end in the next bytes of the stream, which may be none.

        Raises:
            GLMProtocolError: A line is longer than ``MAX_BYTES``.
        """
        if self._ended_in_cr:
            data = data.removeprefix(b"\n")
        self._ended_in_cr = data.endswith(b"\r")
        *ends, rest = _LINE_END.split(data)
        lines = [self._complete(end) for end in ends]
        self._rest.append(rest)
        self._length += len(rest)
        if self._length > MAX_BYTES:
            raise too_long("a line")
        return lines

    def last(self) -> bytes:
        """Return what came after the last line end."""
        return self._complete(b"")

    def _complete(self, end: bytes) -> bytes:
        line = b"".join((*self._rest, end))
        self._rest.clear()
        self._length = 0
        if self._is_first:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        self._is_first = False
        return line


class EventReader:
    """Reads a stream line by line.

    Args:
        http_status: Status of the answer.
        require_finish_reason: Whether ``[DONE]`` alone does not complete an answer.

    Attributes:
        done: Whether ``[DONE]`` came.
        finished: Whether a ``finish_reason`` came.
    """

    def __init__(self, http_status: int, *, require_finish_reason: bool = True) -> None:
        self._status = http_status
        self._require_finish_reason = require_finish_reason
        self._has_answer = False
        self._data: list[str] = []
        self._data_length = 0
        self._other: list[str] = []
        self._other_length = 0
        self.done = False
        self.finished = False

    def read(self, line: str) -> dict[str, Any] | None:
        """Return the event that a line ends, if any.

        A line of data that is a whole event counts as one, also without a blank line after it; other lines of data
        belong together until the blank line. Events that hold neither a choice nor usage, which gateways send to keep a
        connection alive, are passed over.

        Raises:
            GLMError: The event is an error, or no JSON.
        """
        if not line.strip():
            return self._event(parse_object("\n".join(self._data))) if self._data else None
        if not line.startswith("data:"):
            self._keep_other(line)
            return None
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            self.done = True
            return None
        if not data:
            return None
        self._keep_data(data)
        # A second line is not tried at once: a thousand lines would be parsed a thousand times.
        event = parse_json(data) if len(self._data) == 1 and data.endswith("}") else None
        return None if event is None else self._event(event)

    def check_complete(self) -> None:
        """Check, at the end of the stream, that it is the end of the answer.

        A ``finish_reason`` completes an answer, with ``[DONE]`` or without. ``[DONE]`` alone does not: relays append it
        to answers that were cut off.

        Raises:
            GLMError: The answer is not complete, there is none, or what came was an error without being an event.
        """
        if self.finished:
            return
        if not self.done:
            # Errors also come as bare JSON under the content type of a stream.
            if not self._has_answer and parse_json(text := "\n".join(self._other)) is not None:
                self._raise_error(parse_object(text))
            raise new_error(GLMConnectionError, "the stream of the GLM API ended before the answer did")
        if not self._has_answer:
            raise new_error(GLMProtocolError, "the GLM API sent a stream without an answer")
        if self._require_finish_reason:
            raise new_error(
                GLMConnectionError,
                "the stream of the GLM API ended in [DONE] without a finish_reason, as answers do that were cut off",
                advice="ask again; for a gateway that never sends one, set require_finish_reason=False",
            )

    def _keep_data(self, data: str) -> None:
        self._data.append(data)
        self._data_length += len(data)
        if self._data_length > MAX_BYTES:
            raise too_long("an event")

    def _keep_other(self, line: str) -> None:
        self._other_length += len(line)
        is_comment = line.startswith(":")
        if not is_comment and not self._has_answer and self._other_length <= _MAX_OTHER_CHARACTERS:
            self._other.append(line)

    def _event(self, event: Any) -> dict[str, Any] | None:
        self._data.clear()
        self._data_length = 0
        if not isinstance(event, dict):
            raise new_error(GLMProtocolError, "the GLM API sent an event that is no JSON object")
        self._raise_error(event)
        choices = event.get("choices")
        if not choices:
            return event if event.get("usage") else None
        self._has_answer = True
        self.finished = self.finished or _has_finish_reason(choices)
        return event

    def _raise_error(self, event: dict[str, Any]) -> None:
        if is_error(event):
            raise error_from_answer(self._status, event)


def _has_finish_reason(choices: Any) -> bool:
    """Look into what should be a list of choices; whoever reads the answer complains if it is not."""
    first = choices[0] if isinstance(choices, list) else None
    return isinstance(first, dict) and bool(first.get("finish_reason"))
