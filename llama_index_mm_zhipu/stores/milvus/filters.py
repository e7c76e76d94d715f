"""Metadata filters as boolean expressions of Milvus, over dynamic fields that hold metadata.

Each field holds values of one type under a plain key (``mm_text_<key>``, ``mm_number_<key>``, …, see ``filterable``),
because expressions compare by the type of the value that they name, and keys with other characters break them.
Comparisons are guarded by ``exists``: servers differ in whether ``not`` of a comparison holds for a missing field.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from llama_index_mm_zhipu.stores.filterable import (
    NUMBER,
    NUMBER_ITEMS,
    TEXT,
    TEXT_ITEMS,
    WHOLE,
    WITH_NONE,
    filterable_of,
    plain_key,
)
from llama_index_mm_zhipu.text import replace_lone_surrogates
from llama_index_mm_zhipu.vector_store.metadata_values import MetadataRow
from llama_index_mm_zhipu.vector_store.predicates import (
    AllOf,
    AnyOf,
    DocumentIs,
    HasValue,
    IdIs,
    ItemIs,
    MetadataPredicate,
    Not,
    Predicate,
    Scalar,
    ScalarCompares,
    ScalarIs,
    TextHas,
)

ID = "id"
"""Primary key of every collection of ``MilvusVectorStore``."""

_NEVER = f"{ID} in []"
EVERY = f"not ({_NEVER})"
_WITH_NONE = f"mm_{WITH_NONE}"

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
"""Milvus Lite knows no ``\\u``; it and the server take every other character as it is, even NUL."""


def filter_fields(rows: Iterable[MetadataRow]) -> dict[str, Any]:
    """Return the dynamic fields that filters compare with.

    Examples:
        >>> filter_fields([MetadataRow("page", "scalar", 2.0), MetadataRow("页", "scalar", "二")])
        {'mm_text__9875_': '二', 'mm_number_page': 2}
    """
    found = filterable_of(rows)
    fields = {_WITH_NONE: found[WITH_NONE]} if WITH_NONE in found else {}
    for mapping in (TEXT, TEXT_ITEMS, WHOLE):
        fields |= {_field(mapping, key): each for key, each in found.get(mapping, {}).items()}
    fields |= {_field(NUMBER, key): _exact(each) for key, each in found.get(NUMBER, {}).items()}
    items = found.get(NUMBER_ITEMS, {})
    return fields | {_field(NUMBER_ITEMS, key): list(map(_exact, each)) for key, each in items.items()}


def text_field(key: str) -> str:
    """Return the name of the dynamic field with the text under a metadata key."""
    return _field(TEXT, plain_key(key))


def keys_of_text_parts(predicate: Predicate) -> set[str]:
    """Return the keys under which a predicate looks for parts of texts."""
    if isinstance(predicate, AllOf | AnyOf):
        return {key for part in predicate.parts for key in keys_of_text_parts(part)}
    if isinstance(predicate, Not):
        return keys_of_text_parts(predicate.part)
    return {predicate.key} if isinstance(predicate, TextHas) and predicate.parts else set()


def expression_of(predicate: Predicate, document_field: str) -> str:
    """Return the expression of a predicate. There must be no text under any of ``keys_of_text_parts``.

    Args:
        predicate: The predicate.
        document_field: Name of the field with the id of the document.

    Examples:
        >>> expression_of(Not(ScalarIs("page", (2,))), "doc_id")
        'not ((exists mm_number_page) and (mm_number_page in [2]))'
    """
    if isinstance(predicate, AllOf):
        return _joined("and", [expression_of(part, document_field) for part in predicate.parts], EVERY)
    if isinstance(predicate, AnyOf):
        return _any([expression_of(part, document_field) for part in predicate.parts])
    if isinstance(predicate, Not):
        return f"not ({expression_of(predicate.part, document_field)})"
    if isinstance(predicate, IdIs):
        return one_of(ID, predicate.node_ids)
    if isinstance(predicate, DocumentIs):
        return one_of(document_field, predicate.ref_doc_ids)
    return _on_metadata(predicate)


def one_of(field: str, values: Sequence[Scalar]) -> str:
    """Return that a field has one of some values, all of them texts, integers, or other numbers."""
    return f"{field} in [{', '.join(map(literal, values))}]"


def literal(value: Scalar) -> str:
    """Return a text or number as expressions write it.

    Examples:
        >>> print(literal("二"), literal(0.5))
        "二" 0.5
    """
    if isinstance(value, str):
        return f'"{replace_lone_surrogates(value).translate(_ESCAPES)}"'
    # The server reads no -2**63 as an integer.
    return repr(float(value) if value == -(2**63) else value)


def exists(field: str) -> str:
    """Return that a node has a dynamic field."""
    return f"exists {field}"


def _field(mapping: str, key: str) -> str:
    return f"mm_{mapping}_{key}"


def _exact(value: float) -> int | float:
    """Return a number in the form that Milvus compares exactly: as integer if it is one, and never as infinity."""
    if isinstance(value, int):
        return value
    if math.isinf(value):
        return math.copysign(sys.float_info.max, value)
    return int(value) if value.is_integer() and -(2**63) <= value < 2**63 else value


def _on_metadata(predicate: MetadataPredicate) -> str:
    key = plain_key(predicate.key)
    if isinstance(predicate, ScalarIs):
        return _any(list(_scalar_is(key, predicate.values)))
    if isinstance(predicate, ScalarCompares):
        return _compares(key, predicate)
    if isinstance(predicate, ItemIs):
        return _any(list(_item_is(key, predicate)))
    if isinstance(predicate, HasValue):
        return _has_value(key, predicate.is_filled)
    # There are no texts that TextHas could match, see expression_of.
    return _NEVER if isinstance(predicate, TextHas) else _compared(_field(WHOLE, key), "==", predicate.json)


def _scalar_is(key: str, values: Sequence[Scalar]) -> Iterator[str]:
    for mapping, same in _by_type(values):
        field = _field(mapping, key)
        yield _guarded(field, one_of(field, same))


def _by_type(values: Sequence[Scalar]) -> Iterator[tuple[str, list[Scalar]]]:
    """Yield texts, integers and other numbers: the server takes lists of one type only."""
    lists: dict[tuple[str, type], list[Scalar]] = {}
    for value in values:
        exact = value if isinstance(value, str) else _exact(value)
        lists.setdefault((TEXT if isinstance(value, str) else NUMBER, type(exact)), []).append(exact)
    yield from ((mapping, same) for (mapping, _), same in lists.items())


def _compares(key: str, predicate: ScalarCompares) -> str:
    value = predicate.value
    if isinstance(value, str):
        return _compared(_field(TEXT, key), predicate.sign, value)
    return _compared(_field(NUMBER, key), predicate.sign, _exact(value))


def _item_is(key: str, predicate: ItemIs) -> Iterator[str]:
    for mapping, values in _by_type(predicate.values):
        field = _field(TEXT_ITEMS if mapping == TEXT else NUMBER_ITEMS, key)
        yield _guarded(field, f"json_contains_any({field}, [{', '.join(map(literal, values))}])")
    if predicate.or_none:
        yield _guarded(_WITH_NONE, f"json_contains({_WITH_NONE}, {literal(key)})")


def _has_value(key: str, is_filled: bool) -> str:
    text, number, whole = (_field(mapping, key) for mapping in (TEXT, NUMBER, WHOLE))
    if not is_filled:
        return _any([exists(text), exists(number), exists(whole)])
    return _any([_compared(text, "!=", ""), exists(number), _compared(whole, "!=", "[]")])


def _compared(field: str, sign: str, value: Scalar) -> str:
    return _guarded(field, f"{field} {sign} {literal(value)}")


def _guarded(field: str, condition: str) -> str:
    return f"({exists(field)}) and ({condition})"


def _any(parts: Sequence[str]) -> str:
    return _joined("or", parts, _NEVER)


def _joined(operator: str, parts: Sequence[str], otherwise: str) -> str:
    """Return parts in parentheses: the server's operators bind in an order of their own."""
    return parts[0] if len(parts) == 1 else f" {operator} ".join(f"({part})" for part in parts) or otherwise
