"""Scores and reasons in what a model wrote, however it dressed them up."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from llama_index_mm_zhipu.llm.structured_answers import decode_json

_HIGHEST = 10.0
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_FIELD = re.compile(r'"(number|score)" ?: ?"?(-?\d{1,6}(?:\.\d{1,9})?)', re.IGNORECASE)
_REASON = re.compile(r'"reason" ?: ?"(.*)', re.IGNORECASE | re.DOTALL)

NO_SCORE = -1.0
"""Score of a candidate without one."""


class Verdict(NamedTuple):
    """What the model says of a candidate.

    Attributes:
        score: From 0 to 10; -1 for none.
        reason: In a sentence; may be empty.
    """

    score: float
    reason: str


def verdicts_in(answer: str, count: int) -> dict[int, Verdict] | None:
    """Find verdicts in an answer: JSON, with or without text or fences around it, whole, cut, or with broken strings.

    Args:
        answer: What the model wrote.
        count: How many candidates there are.

    Returns:
        Verdicts by number from 1, the last of each; None where there is none, or where the model counts from 0.
    """
    verdicts: dict[int, Verdict] = {}
    for item in _items(answer):
        score = _number(item.get("score"))
        # Of a single candidate, models leave the number out.
        number = _number(item.get("number", 1 if count == 1 else None))
        if score is None or number is None:
            continue
        if number == 0:
            return None
        if 1 <= number <= count:
            reason = " ".join(str(item.get("reason") or "").split())
            verdicts[int(number)] = Verdict(min(max(score, 0.0), _HIGHEST), reason)
    return verdicts or None


def _items(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a text that hold a score."""
    place = text.find("{")
    while place >= 0:
        item, end = _decoded(text, place)
        if "score" in item:
            yield item
            place = text.find("{", end)
        else:
            place = text.find("{", place + 1)


def _decoded(text: str, place: int) -> tuple[dict[str, Any], int]:
    """Decode the object that begins at a place; of a broken one, what can be told."""
    try:
        value, end = decode_json(text, place)
    except ValueError:
        end = text.find("{", place + 1)
        end = end if end >= 0 else len(text)
        fields = {name.lower(): value for name, value in _FIELD.findall(text[place:end])}
        reason = _REASON.search(text[place:end])
        return {**fields, **({"reason": reason.group(1).rstrip('"}], \n')} if reason else {})}, end
    return {str(name).lower(): item for name, item in value.items()}, end


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return float(value) if math.isfinite(value) else None
    found = _NUMBER.search(str(value))
    return float(found.group()) if found else None
