"""Metadata as filters see it: single values, items of lists, and whole lists, each as SQLite compares it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from llama_index_mm_zhipu.images.nodes import PAGE_TEXT, PAGE_TEXT_LINES, PAGE_TEXT_SOURCE

MetadataValue: TypeAlias = "str | int | float"


class MetadataRow(NamedTuple):
    """A metadata value as filters see it.

    Attributes:
        key: Metadata key.
        kind: ``"scalar"``, ``"item"`` of a list, ``"none"`` (the item None), or ``"json"`` (a whole list or mapping).
        value: Text or number; booleans are 0 and 1, as in Python.
    """

    key: str
    kind: str
    value: MetadataValue


class MetadataColumn(NamedTuple):
    """Metadata values of several nodes under one key.

    Attributes:
        key: Metadata key.
        kind: As in ``MetadataRow``.
        positions: Position of the node of each value, ascending.
        values: The values.
    """

    key: str
    kind: str
    positions: list[int]
    values: list[MetadataValue]


def metadata_rows(metadata: dict[str, Any]) -> Iterator[MetadataRow]:
    """Yield the rows that filters see of metadata that was read from JSON.

    The text of a page is content, which full text searches: rows of whole pages would make the file twice as large.
    """
    content = (PAGE_TEXT, PAGE_TEXT_LINES) if PAGE_TEXT_SOURCE in metadata else ()
    for key, value in metadata.items():
        if key in content:
            continue
        if isinstance(value, (list, tuple, dict)):
            yield MetadataRow(key, "json", json_of(value))
            # A mapping contains its keys, as in Python.
            yield from (_item_row(key, item) for item in value)
        elif value is not None:
            yield MetadataRow(key, "scalar", scalar(value))


def _item_row(key: str, item: Any) -> MetadataRow:
    return MetadataRow(key, "item", scalar(item)) if item is not None else MetadataRow(key, "none", "")


def json_of(value: Iterable[Any]) -> str:
    """Return a list or mapping as JSON text that is equal for equal values: 1, 1.0 and true are one value."""
    return json.dumps(_comparable(value), ensure_ascii=False, sort_keys=True, default=str)


def scalar(value: Any) -> MetadataValue:
    """Return a single value in the form in which SQLite compares it."""
    if isinstance(value, str):
        # str.__str__ returns the value of an enum that is a string, as JSON does.
        return str.__str__(value)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        # SQLite's integers have 64 bits; larger ones compare as floats.
        return value if -(2**63) <= value < 2**63 else _float(value)
    if isinstance(value, float):
        return value if not math.isnan(value) else "nan"
    return str(value)


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _comparable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_comparable(item) for item in value]
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
