"""Scores and reasons in what a model wrote, however it dressed them up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_HIGHEST = 10.0
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Verdict(NamedTuple):
    """What the model says of a candidate.

    Attributes:
        score: From 0 to 10; -1 for none.
        reason: In a sentence; may be empty.
    """

    score: float
    reason: str


def verdicts_in(answer: str, count: int) -> dict[int, Verdict] | None:
    """Find verdicts in an answer: JSON, with or without text or fences around it, whole or cut at its end.

    Args:
        answer: What the model wrote.
        count: How many candidates there are.

    Returns:
        Verdicts by number from 1, the first of each; None where there is none.
    """
    verdicts: dict[int, Verdict] = {}
    for item in _objects(answer):
        score = _number(item.get("score"))
        # Of a single candidate, models leave the number out.
        number = _number(item.get("number", 1 if count == 1 else None))
        if score is None or number is None or not 1 <= number <= count:
            continue
        reason = " ".join(str(item.get("reason") or "").split())
        verdicts.setdefault(int(number), Verdict(min(max(score, 0.0), _HIGHEST), reason))
    return verdicts or None


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the innermost JSON objects of a text."""
    for found in re.finditer(r"\{[^{}]*\}", text):
        try:
            value = json.loads(found.group(), strict=False)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    found = _NUMBER.search(str(value))
    return float(found.group()) if found else None
