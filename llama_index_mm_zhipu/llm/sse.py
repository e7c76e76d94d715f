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
        self.done = False

    def read(self, line: str) -> dict[str, Any] | None:
        """Return the event that a line holds, if any.

        Raises:
            GLMError: The event is an error, or no JSON.
        """
        data = line.removeprefix("data:").strip()
        # Errors also come as bare JSON under the content type of a stream.
        if not line.startswith(("data:", "{")) or not data:
            return None
        if data == "[DONE]":
            self.done = True
            return None
        event = parse_object(data)
        if "error" in event:
            raise error_of_answer(self._status, event)
        self._events += 1
        return event

    def check_complete(self) -> None:
        """Check, at the end of the stream, that it is the end of the answer.

        Raises:
            GLMError: ``[DONE]`` is missing, or nothing came before it.
        """
        if not self.done:
            raise new_error(GLMConnectionError, "the stream of the GLM API ended before the answer did")
        if not self._events:
            raise new_error(GLMProtocolError, "the GLM API sent a stream without an answer")


def parse_object(text: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        GLMProtocolError: It is none.
    """
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise new_error(GLMProtocolError, f"the GLM API sent {len(text)} characters that are no JSON object")
    return parsed
