"""Metadata in the form in which document stores filter it: one mapping for each type of value, under plain keys.

Stores that filter JSON by paths (Qdrant, Milvus) do not tell a text from a number, trip over keys with dots, quotes or
Chinese characters, and have fields of their own with the names of users' keys. In this form each path holds values of
one type, and keys consist of ASCII letters, digits and ``_``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from llama_index_mm_zhipu.vector_store.metadata_values import MetadataRow

# Names of the mappings. Stores hold them: they cannot be changed.
TEXT, NUMBER = "text", "number"
TEXT_ITEMS, NUMBER_ITEMS = "text_items", "number_items"
WHOLE = "json"
WITH_NONE = "with_none"
KEYS = "keys"
FILLED = "filled"

_PLAIN = re.compile(r"[A-Za-z0-9]")


def plain_key(key: str) -> str:
    """Return a metadata key in ASCII letters, digits and ``_``; different keys stay different.

    Examples:
        >>> plain_key("page"), plain_key("file_name"), plain_key("页"), plain_key("")
        ('page', 'file_5f_name', '_9875_', '_')
    """
    # No other key becomes "_", and paths cannot hold an empty key.
    return "".join(each if _PLAIN.match(each) else f"_{ord(each):x}_" for each in key) or "_"


def filterable_of(rows: Iterable[MetadataRow]) -> dict[str, Any]:
    """Return metadata rows as mappings and lists.

    Returns:
        ``"text"`` and ``"number"``: scalars by key. ``"text_items"`` and ``"number_items"``: lists of items by key.
        ``"json"``: lists and mappings as JSON text by key. ``"with_none"``: keys of lists that contain None.
        ``"keys"``: all keys with a value. ``"filled"``: those whose value is neither an empty text nor an empty list.
        Empty mappings and lists are left out, and keys are ``plain_key``.
    """
    found: dict[str, Any] = {}
    for key, kind, value in rows:
        name = plain_key(key)
        is_text = isinstance(value, str)
        if kind == "item":
            found.setdefault(TEXT_ITEMS if is_text else NUMBER_ITEMS, {}).setdefault(name, []).append(value)
        elif kind == "none":
            found.setdefault(WITH_NONE, []).append(name)
        else:
            mapping = WHOLE if kind == "json" else TEXT if is_text else NUMBER
            found.setdefault(mapping, {})[name] = value
            found.setdefault(KEYS, []).append(name)
            if value not in ("", "[]") or (kind == "scalar" and value == "[]"):
                found.setdefault(FILLED, []).append(name)
    return found
