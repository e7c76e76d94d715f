"""Probes: assumptions about the GLM API, and the requests that test them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from live_api import Api, NoAnswer

Ask = Callable[[Api], str]
"""Sends requests and returns a short description of the outcome."""

GREETING = "你好"

ANSWERED = "answered"
EMPTY = "answered with nothing"

_BUSY = re.compile(r"429 (1302|1303|1305|1312)\b")
_PATIENCE = (5, 15, 45)


@dataclass(frozen=True)
class Probe:
    """An assumption about the API and a way to test it.

    Attributes:
        name: Short, unique name.
        fact: The assumption and its source; see ``live_table.LEGEND``.
        expected: Outcome that this package relies on, else the best reported one.
        ask: Sends the requests and returns the outcome. Refusals and failures may be raised.
        mock: Outcome of the mock server, if it is known to differ.
    """

    name: str
    fact: str
    expected: str
    ask: Ask
    mock: str | None = None

    @property
    def on_mock(self) -> str:
        """Outcome of the mock server."""
        return self.mock or self.expected

    def outcome(self, api: Api) -> str:
        """Send the requests and return the outcome."""
        try:
            return api.hide_key(self.ask(api))
        except NoAnswer as refused:
            return api.hide_key(str(refused))
        except httpx.HTTPError as error:
            return f"no answer, {type(error).__name__}"
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            return api.hide_key(f"an answer of another form, {error!r}")

    def outcome_when_not_busy(self, api: Api, pause: float) -> str:
        """Return the outcome after a pause, and retry after longer pauses if the service is busy.

        Args:
            api: Deployment to test.
            pause: Length of the first pause in seconds.
        """
        time.sleep(pause)
        outcome = self.outcome(api)
        for pauses in _PATIENCE:
            if not _BUSY.match(outcome):
                break
            time.sleep(pauses * pause)
            outcome = self.outcome(api)
        return outcome

    def row(self, outcome: str) -> tuple[str, ...]:
        """Return the row of the table for an outcome of the service."""
        mark = "=" if outcome == self.expected else "≠"
        return (self.name, self.fact, self.expected, self.on_mock, outcome, mark)


def body(content: Any = GREETING, model: str = "glm-4v-flash", **fields: Any) -> dict[str, Any]:
    """Return a request for a short answer.

    Args:
        content: Content of its only message.
        model: Name of the model.
        **fields: Further fields, or replacements of these.
    """
    return {"model": model, "messages": [user(content)], "max_tokens": 8, **fields}


def user(content: Any) -> dict[str, Any]:
    """Return a user message."""
    return {"role": "user", "content": content}


def text(content: str) -> dict[str, Any]:
    """Return the part of a message for text."""
    return {"type": "text", "text": content}


def asking(content: Any = GREETING, **fields: Any) -> Ask:
    """Return a function that sends one request and returns whether it is answered. Arguments are those of ``body``."""
    return lambda api: answered_or_empty(api.post(body(content, **fields)))


def answered_or_empty(answer: dict[str, Any]) -> str:
    """Return whether an answer has content, in words."""
    message = answer["choices"][0]["message"]
    is_filled = any(message.get(part) for part in ("content", "reasoning_content", "tool_calls"))
    return ANSWERED if is_filled else EMPTY
