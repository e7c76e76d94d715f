"""Server-sent events of a streamed answer: their JSON, and whether the answer came to its end."""

from __future__ import annotations

import json
from typing import Any

from llama_index_mm_zhipu.llm.errors import (
    GLMConnectionError,
    GLMProtocolError,
    error_of_answer,
    new_error,
)


class EventReader:
    """Reads a stream line by line.

    Attributes:
        done: Whether ``[DONE]`` came.
    """

    def __init__(self, http_status: int) -> None:
        self._status = http_status
        self._events = 0
        self._data: list[str] = []
        self._other: list[str] = []
        self.done = False

    def read(self, line: str) -> dict[str, Any] | None:
        """Return the event that a line ends, if any.

        Every line of data that is a whole event counts as one, also without a blank line after it; other lines of data
        belong together until the blank line.

        Raises:
            GLMError: The event is an error, or no JSON.
        """
        if not line.strip():
            return self._event(parse_object("\n".join(self._data))) if self._data else None
        if not line.startswith("data:"):
            self._other.append(line)
            return None
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            self.done = True
            return None
        if data:
            self._data.append(data)
        # A line that ends no object needs no look.
        event = parse_json("\n".join(self._data)) if data.endswith("}") else None
        return None if event is None else self._event(event)

    def check_complete(self) -> None:
        """Check, at the end of the stream, that it is the end of the answer.

        Raises:
            GLMError: ``[DONE]`` is missing, nothing came before it, or what came was an error without being an event.
        """
        if not self.done:
            # Errors also come as bare JSON under the content type of a stream.
            if not self._events and parse_json(text := "\n".join(self._other)) is not None:
                self._raise_error(parse_object(text))
            raise new_error(GLMConnectionError, "the stream of the GLM API ended before the answer did")
        if not self._events:
            raise new_error(GLMProtocolError, "the GLM API sent a stream without an answer")

    def _event(self, event: dict[str, Any]) -> dict[str, Any]:
        self._data.clear()
        self._raise_error(event)
        self._events += 1
        return event

    def _raise_error(self, event: dict[str, Any]) -> None:
        if event.get("error") is not None:
            raise error_of_answer(self._status, event)


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
    """Parse JSON, of bytes in any encoding of Unicode; return None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
