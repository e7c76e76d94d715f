"""Values of JSON: what they are called in errors, and what of them can be stored."""

from __future__ import annotations

import json
import math
from typing import Any

from llama_index_mm_zhipu.text import with_whole_characters

_TYPES: dict[type, str] = {bool: "a boolean", float: "a float", int: "an integer", str: "a string", list: "a list"}

_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


def is_no_number(value: object) -> bool:
    """Whether a value is NaN or infinite, which JSON does not know and Python's and pandas' files hold all the same."""
    return isinstance(value, float) and not math.isfinite(value)


def described(value: object) -> str:
    """Return a value with its type, for errors: ``1.0, a float``, ``NaN``, ``null``, ``[1], a list``."""
    if value is None:
        return "null"
    spelled = json.dumps(value, default=str) if isinstance(value, bool | float) else f"{value!r:.40}"
    return spelled if is_no_number(value) else f"{spelled}, {_TYPES.get(type(value), 'an object')}"


def storable(value: Any) -> Any:
    """Return a value without what no store can hold: NaN and infinity become None, halves of characters are marked."""
    text = with_whole_characters(json.dumps(value, ensure_ascii=False))
    # Of values within values, too; 1e999 is written as Infinity.
    return _DECODER.decode(text)
