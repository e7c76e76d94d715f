"""Server-sent events of a streamed answer: their lines, their JSON, and whether the answer came to its end."""

from __future__ import annotations

import re
from typing import Any

from llama_index_mm_zhipu.llm.bodies_old import MAX_BYTES, parse_json, parse_object, too_long
from llama_index_mm_zhipu.llm.errors import (
    GLMConnectionError,
    GLMProtocolError,
    error_of_answer,
    is_error,
    new_error,
)

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
            raise error_of_answer(self._status, event)


def _has_finish_reason(choices: Any) -> bool:
    """Look into what should be a list of choices; whoever reads the answer complains if it is not."""
    first = choices[0] if isinstance(choices, list) else None
    return isinstance(first, dict) and bool(first.get("finish_reason"))
