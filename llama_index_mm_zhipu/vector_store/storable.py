"""What of a node can be stored: the values that JSON knows, and whole characters."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llama_index.core.schema import BaseNode
from pydantic_core import PydanticSerializationError, to_json

from llama_index_mm_zhipu.images.errors import one_line
from llama_index_mm_zhipu.text import with_whole_characters

MAX_NESTING = 100
"""Levels of lists and mappings in a metadata value."""

_PLAIN = frozenset({str, int, bool, type(None)})
_APART = {"embedding", "image"}


class _NotStorableError(ValueError):
    """Says what is wrong with a value."""


class StorableNode(NamedTuple):
    """A node as it can be stored.

    Attributes:
        node: The given one, where nothing is to be changed.
        content: It as JSON, without vector and inline image.
    """

    node: BaseNode
    content: str


def storable_node(node: BaseNode) -> StorableNode:
    """Return a node as it can be stored; the given one stays as it is.

    Values of numpy, such as those of pandas' rows, become Python's. Halves of characters, in texts, ids and metadata,
    become U+FFFD.

    Raises:
        ValueError: JSON does not know a metadata value: NaN, infinity, bytes, an object of some other kind, or one that
            is nested too deeply.
    """
    metadata = _storable_metadata(node)
    if metadata is not node.metadata:
        node = node.model_copy(update={"metadata": metadata})
    try:
        return StorableNode(node, node.model_dump_json(exclude=_APART))
    except (PydanticSerializationError, ValueError) as error:
        return _mended(node, error)


def is_plain(metadata: dict[str, Any]) -> bool:
    """Whether all values are what JSON makes of them: no dates, enums, lists or mappings, and no NaN."""
    # Asked of every node: a generator would take twice as long.
    for value in metadata.values():
        if type(value) not in _PLAIN and not (type(value) is float and math.isfinite(value)):
            return False
    return True


def _storable_metadata(node: BaseNode) -> dict[str, Any]:
    metadata = node.metadata
    if is_plain(metadata):
        return metadata
    storable: dict[str, Any] = {}
    for key, value in metadata.items():
        try:
            storable[key] = _storable_value(value, 0)
        except _NotStorableError as error:
            raise _refusal(node, key, str(error)) from None
    return metadata if _are_same(storable.values(), metadata.values()) else storable


def _storable_value(value: Any, level: int) -> Any:
    if type(value) in _PLAIN:
        return value
    if level > MAX_NESTING:
        raise _NotStorableError(f"is nested more than {MAX_NESTING} levels deep; flatten it")
    if isinstance(value, np.generic | np.ndarray):
        # Of a 0-dimensional array, too, and of dates, which become Python's.
        return _storable_value(value.tolist(), level)
    if isinstance(value, float) and not math.isfinite(value):
        raise _NotStorableError(f"is {value}, which JSON does not know; leave it out, or give None")
    if isinstance(value, bytes | bytearray | memoryview):
        raise _NotStorableError("holds bytes; give text, and images as the node's image")
    if isinstance(value, dict):
        changed = {_storable_value(key, level): _storable_value(item, level + 1) for key, item in value.items()}
        same = _are_same(changed.keys(), value.keys()) and _are_same(changed.values(), value.values())
        return value if same else changed
    if isinstance(value, list | tuple | set | frozenset):
        items = [_storable_value(item, level + 1) for item in value]
        return value if _are_same(items, value) else items
    return value


def _are_same(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _mended(node: BaseNode, error: Exception) -> StorableNode:
    """Return a node that could not be written as JSON with whole characters.

    Raises:
        ValueError: That is not what was wrong.
    """
    for key, value in node.metadata.items():
        try:
            to_json(_with_whole_characters(value))
        except (PydanticSerializationError, ValueError):
            raise _refusal(node, key, f"is a {type(value).__name__}, which JSON does not know; give text") from None
    fields = _with_whole_characters(node.model_dump(exclude=_APART))
    mended = type(node).model_validate({**fields, **{name: getattr(node, name, None) for name in _APART}})
    try:
        return StorableNode(mended, mended.model_dump_json(exclude=_APART))
    except (PydanticSerializationError, ValueError):
        raise ValueError(f"node {one_line(node.node_id)} cannot be stored: {one_line(str(error))}") from None


def _with_whole_characters(value: Any) -> Any:
    if isinstance(value, str):
        return with_whole_characters(value)
    if isinstance(value, dict):
        return {_with_whole_characters(key): _with_whole_characters(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return type(value)(map(_with_whole_characters, value))
    return value


def _refusal(node: BaseNode, key: str, reason: str) -> ValueError:
    return ValueError(f"node {one_line(node.node_id)} cannot be stored: its metadata {one_line(str(key))!r} {reason}")
