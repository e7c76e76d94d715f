"""Bodies of answers: read in small slices up to a limit, decompressed, and their JSON parsed beside the event loop."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, TypeVar

import httpx

from llama_index_mm_zhipu.llm.errors import GLMConnectionError, GLMProtocolError, new_error

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
