"""Python functions that the store's SQL calls, and the encoding of their arguments."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import Any


def register_functions(connection: sqlite3.Connection) -> None:
    """Let a connection's SQL call ``lower``, ``decoded`` and ``contains_any``."""
    # SQLite's own lower() knows ASCII only.
    connection.create_function("lower", 1, _lower, deterministic=True)
    connection.create_function("decoded", 1, _decoded, deterministic=True)
    connection.create_function("contains_any", 2, _contains_any, deterministic=True)


def encode_values(values: Sequence[str | int | float]) -> str:
    """Return values as a JSON list whose items SQL's ``decoded`` turns back into exactly these values.

    Plain JSON cannot carry all of them: SQLite cuts texts from JSON at a NUL, and may round fractions.
    """
    return json.dumps([_encoded(value) for value in values])


def encode_texts(texts: Sequence[str]) -> str:
    """Return texts as the second argument of SQL's ``contains_any``."""
    return json.dumps(list(texts))


def _encoded(value: str | int | float) -> str:
    if isinstance(value, str):
        return f"t{value.encode().hex()}"
    return f"f{value.hex()}" if isinstance(value, float) else f"i{value}"


def _decoded(value: str) -> str | int | float:
    kind, rest = value[0], value[1:]
    if kind == "t":
        return bytes.fromhex(rest).decode()
    return float.fromhex(rest) if kind == "f" else int(rest)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _contains_any(text: str, encoded: str) -> bool:
    by_length = _texts_by_length(encoded)
    if len(text) * len(by_length) > sum(map(len, by_length.values())):
        return any(part in text for parts in by_length.values() for part in parts)
    # A short text has fewer parts of these lengths than there are texts to look for.
    return any(
        text[start : start + length] in parts
        for length, parts in by_length.items()
        for start in range(len(text) - length + 1)
    )


# SQLite passes the same list with every row.
@lru_cache(maxsize=16)
def _texts_by_length(encoded: str) -> dict[int, set[str]]:
    by_length: dict[int, set[str]] = {}
    for text in json.loads(encoded):
        by_length.setdefault(len(text), set()).add(text)
    return by_length
