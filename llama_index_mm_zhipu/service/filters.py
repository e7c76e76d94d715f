"""Metadata filters as people and models write them: ``price>=100``, ``颜色 in 红,蓝``, ``file_name~手册``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from llama_index_mm_zhipu.service import FILTER_SYNTAX

_OPERATORS = {
    ">=": FilterOperator.GTE,
    "≥": FilterOperator.GTE,
    "<=": FilterOperator.LTE,
    "≤": FilterOperator.LTE,
    "!=": FilterOperator.NE,
    "≠": FilterOperator.NE,
    "==": FilterOperator.EQ,
    "=": FilterOperator.EQ,
    "＝": FilterOperator.EQ,
    ">": FilterOperator.GT,
    "＞": FilterOperator.GT,
    "<": FilterOperator.LT,
    "＜": FilterOperator.LT,
    "~": FilterOperator.TEXT_MATCH_INSENSITIVE,
    "not in": FilterOperator.NIN,
    "in": FilterOperator.IN,
}
_SYMBOLS = "|".join(re.escape(symbol) for symbol in _OPERATORS if not symbol.endswith("in"))
_EXPRESSION = re.compile(
    rf"\s*(?P<key>.+?)(?:\s*(?P<symbol>{_SYMBOLS})\s*|\s+(?P<word>not\s+in|in)\s+)(?P<value>.*?)\s*", re.DOTALL
)
_ITEM = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,，]*?)\s*(?:[,，]|$)""")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_BOOLEANS = {"true": True, "false": False}

Value = str | int | float | bool


class KeyTypes(NamedTuple):
    """Types of the values that nodes have under a metadata key.

    Attributes:
        has_text: Whether any value is a text.
        has_numbers: Whether any value is a number or a boolean.
    """

    has_text: bool
    has_numbers: bool


TypesOf = Callable[[str], KeyTypes]
"""Tells the types of values under a key."""


def parse_filters(expressions: Sequence[str], types_of: TypesOf) -> MetadataFilters | None:
    """Return filters that a node must all meet; None without any.

    A value that looks like a number is a number, unless nodes have only texts under the key; quotation marks make it a
    text. Full-width operators and commas are understood.

    Args:
        expressions: Such as ``price>=100``.
        types_of: Tells the types of values under a key.

    Raises:
        ValueError: An expression is not of this form.
    """
    filters = [_filter_of(expression, types_of) for expression in expressions]
    return MetadataFilters(filters=[*filters]) if filters else None


def _filter_of(expression: str, types_of: TypesOf) -> MetadataFilter:
    found = _EXPRESSION.fullmatch(expression)
    if found is None or not found["value"]:
        raise ValueError(f"the filter {expression!r:.200} is not understood; write one of: {FILTER_SYNTAX}")
    key = found["key"].strip()
    operator = _OPERATORS[found["symbol"] or " ".join(found["word"].split())]
    if operator is FilterOperator.TEXT_MATCH_INSENSITIVE:
        return MetadataFilter(key=key, value=_unquoted(found["value"]), operator=operator)
    types = types_of(key)
    if operator in (FilterOperator.IN, FilterOperator.NIN):
        items = [item for item in _ITEM.findall(found["value"]) if item]
        values = [_value_of(item, types) for item in items]
        # Lists of LlamaIndex's filters hold values of one type.
        same = values if len({type(value) for value in values}) == 1 else list(map(str, values))
        return MetadataFilter(key=key, value=same, operator=operator)
    return MetadataFilter(key=key, value=_value_of(found["value"], types), operator=operator)


def _value_of(text: str, types: KeyTypes) -> Value:
    unquoted = _unquoted(text)
    if unquoted != text or (types.has_text and not types.has_numbers):
        return unquoted
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    if text.lower() in _BOOLEANS and not types.has_text:
        return _BOOLEANS[text.lower()]
    return text


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
