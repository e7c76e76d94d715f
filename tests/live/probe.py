"""A probe: one thing that is said of the GLM API, and the requests that show whether it is so."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from live_api import Api, NoAnswer

Ask = Callable[[Api], str]
"""Sends requests and says in a few words what came of them."""

GREETING = "你好"

ANSWERED = "answered"
EMPTY = "answered with nothing"

_BUSY = re.compile(r"429 (1302|1303|1305|1312)\b")
_PATIENCE = (5, 15, 45)


@dataclass(frozen=True)
class Probe:
    """One thing that is said of the API.

    Attributes:
        name: Short and unique.
        fact: What is said, and by whom: see ``live_table.LEGEND``.
        expected: The outcome that this package relies on; where it relies on none, the best reported one.
        ask: Sends the requests and returns the outcome; refusals and failures may be raised.
        stand_in: The outcome of the stand-in where it is known to differ.
    """

    name: str
    fact: str
    expected: str
    ask: Ask
    stand_in: str | None = None

    @property
    def on_stand_in(self) -> str:
        """What the stand-in does."""
        return self.stand_in or self.expected

    def outcome(self, api: Api) -> str:
        """Ask, and say in a few words what came of it."""
        try:
            return api.hide_key(self.ask(api))
        except NoAnswer as refused:
            return api.hide_key(str(refused))
        except httpx.HTTPError as error:
            return f"no answer, {type(error).__name__}"
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            return api.hide_key(f"an answer of another form, {error!r}")

    def outcome_when_not_busy(self, api: Api, pause: float) -> str:
        """Ask after a pause, and again after longer ones where the service is busy.

        Args:
            api: Who is asked.
            pause: Seconds.
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
        """Return the line of the table that says what the service did."""
        mark = "=" if outcome == self.expected else "≠"
        return (self.name, self.fact, self.expected, self.on_stand_in, outcome, mark)


def body(content: Any = GREETING, model: str = "glm-4v-flash", **fields: Any) -> dict[str, Any]:
    """Return a request for a short answer.

    Args:
        content: Of its one message.
        model: Which model is asked.
        **fields: Further ones, or others than these.
    """
    return {"model": model, "messages": [user(content)], "max_tokens": 8, **fields}


def user(content: Any) -> dict[str, Any]:
    """Return a message of the user."""
    return {"role": "user", "content": content}


def text(content: str) -> dict[str, Any]:
    """Return the part of a message that holds text."""
    return {"type": "text", "text": content}


def asking(content: Any = GREETING, **fields: Any) -> Ask:
    """Return what sends one request and says whether it is answered; arguments as for ``body``."""
    return lambda api: said_of(api.post(body(content, **fields)))


def said_of(answer: dict[str, Any]) -> str:
    """Tell whether there is anything in an answer."""
    message = answer["choices"][0]["message"]
    is_filled = any(message.get(part) for part in ("content", "reasoning_content", "tool_calls"))
    return ANSWERED if is_filled else EMPTY
