"""Server-sent events of a streamed answer: lines, events, their JSON, and whether the answer is complete.

This is a parser of our own because httpx splits lines at characters such as U+2028, which JSON may contain, and
because neither httpx nor the packages for server-sent events limit the length of a line. They also do not handle what
gateways send: errors that are not events, keep-alive events, events without a blank line after them, and ``[DONE]``
after answers that were cut off.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from llama_index_mm_zhipu.llm.errors import (
    GLMConnectionError,
    GLMProtocolError,
    error_from_answer,
    is_error,
    new_error,
)

T = TypeVar("T")

MAX_BYTES = 64 * 1024 * 1024
"""Maximum size of a line of a stream or of a whole body, decompressed. The longest answer of any model, 131,072 tokens
with every character escaped, takes some 2 MB."""

MAX_VALUES = 2_000_000
"""Maximum number of values in the JSON of a line or body. Python runs no other thread while it parses JSON: this many
values take 0.2 s and some 200 MB, while 64 MiB of empty objects would take 2 s and 2 GB."""

# Parsing less than this takes a millisecond, which is not worth a thread.
_MIN_THREAD_BYTES = 256 * 1024
_COUNTED_BYTES = 1024 * 1024

# Neither ``bytes.splitlines`` nor httpx's lines: JSON may contain U+2028 and similar characters unescaped.
_LINE_END = re.compile(rb"\r\n?|\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# How much to keep of lines that are not events: an error in bare JSON is short.
_MAX_OTHER_CHARACTERS = 100_000


class LineSplitter:
    """Splits a stream of bytes into lines, in time proportional to the length of the stream."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._length = 0
        self._is_first = True
        self._ended_in_cr = False

    def split(self, data: bytes) -> list[bytes]:
        """Return the lines that end in the next bytes of the stream.

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
        """Return the text after the last line end."""
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
    """Reads the events of a stream line by line.

    Args:
        http_status: HTTP status of the answer.
        require_finish_reason: Whether an answer that ends in ``[DONE]`` also needs a ``finish_reason`` to be complete.

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
        """Return the event that ends with this line, or None.

        A data line that is a whole event ends it, even without a blank line after it; other data lines are joined
        until the blank line. Events without choices and without usage, which gateways send to keep the connection
        alive, are skipped.

        Raises:
            GLMError: The event is an error, or not a JSON object.
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
        # Only the first line is tried on its own, or an event of a thousand lines would be parsed a thousand times.
        event = parse_json(data) if len(self._data) == 1 and data.endswith("}") else None
        return None if event is None else self._event(event)

    def check_complete(self) -> None:
        """Check, at the end of the stream, that the answer is complete.

        A ``finish_reason`` completes an answer, with or without ``[DONE]``. ``[DONE]`` alone does not, because relays
        append it to answers that were cut off.

        Raises:
            GLMError: The answer is incomplete or missing, or the stream was an error in bare JSON.
        """
        if self.finished:
            return
        if not self.done:
            # Errors also come as bare JSON with the content type of a stream.
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
    """Return whether the first choice is finished. Malformed choices are reported by ``responses``."""
    first = choices[0] if isinstance(choices, list) else None
    return isinstance(first, dict) and bool(first.get("finish_reason"))


async def parse_in_thread_if_long(parse: Callable[[bytes], T], data: bytes) -> T:
    """Parse a line or a body, in a thread if it is long enough to delay other calls."""
    return await asyncio.to_thread(parse, data) if len(data) > _MIN_THREAD_BYTES else parse(data)


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        GLMProtocolError: The text is not a JSON object.
    """
    parsed = parse_json(text)
    if not isinstance(parsed, dict):
        raise new_error(GLMProtocolError, f"the GLM API sent {len(text)} characters that are no JSON object")
    return parsed


def parse_json(text: str | bytes) -> Any:
    """Parse JSON, as text or as bytes in any Unicode encoding. Return None if it is invalid or has too many values."""
    try:
        return None if _has_too_many_values(text) else json.loads(text)
    except (ValueError, RecursionError):
        return None


def too_long(what: str) -> GLMProtocolError:
    """Return the error for a line or body that exceeds ``MAX_BYTES``."""
    return new_error(GLMProtocolError, f"the GLM API sent {what} of more than {MAX_BYTES} bytes")


def _has_too_many_values(text: str | bytes) -> bool:
    """Estimate the number of values by the characters that start or separate them, including those in strings."""
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
