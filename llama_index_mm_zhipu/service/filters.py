"""Metadata filters as people and models write them: ``price>=100``, ``颜色 in 红,蓝``, ``file_name~手册``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from llama_index_mm_zhipu.service import FILTER_SYNTAX
from llama_index_mm_zhipu.service.errors import FilterSyntaxError

_OPERATORS = {
    ">=": FilterOperator.GTE,
    "≥": FilterOperator.GTE,
    "<=": FilterOperator.LTE,
    "≤": FilterOperator.LTE,
    "!=": FilterOperator.NE,
    "<>": FilterOperator.NE,
    "≠": FilterOperator.NE,
    "==": FilterOperator.EQ,
    "=": FilterOperator.EQ,
    ">": FilterOperator.GT,
    "<": FilterOperator.LT,
    "~": FilterOperator.TEXT_MATCH_INSENSITIVE,
    "not in": FilterOperator.NIN,
    "in": FilterOperator.IN,
}
_ON_LISTS = {
    FilterOperator.EQ: FilterOperator.CONTAINS,
    FilterOperator.NE: FilterOperator.CONTAINS,
    FilterOperator.IN: FilterOperator.ANY,
    FilterOperator.NIN: FilterOperator.ANY,
}
"""Operators on values that are lists; the negative ones are negated."""

_HALF_WIDTH = str.maketrans("＝＞＜！～", "=><!~")
# Nothing in these patterns can be matched in many ways: filters come from clients over the network.
_QUOTED = r"\"[^\"]*\"|'[^']*'|“[^”]*”|‘[^’]*’"
_QUOTES = {('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’")}
_QUOTED_KEY = re.compile(rf"\s*({_QUOTED})")
_OPERATOR = re.compile(
    r"[>＞][=＝]|[<＜][=＝>＞]|[!！][=＝]|[=＝]{1,2}|[>＞<＜≥≤≠~～]|(?<=\s)(?:not\s+)?in(?=[\s(（\[])", re.IGNORECASE
)
_OPERATOR_SIGNS = tuple("=＝>＞<＜≥≤≠~～")
_BRACKETS = (("(", ")"), ("（", "）"), ("[", "]"))
_ITEM = re.compile(rf"\s*(?:(?P<quoted>{_QUOTED})\s*(?=[,，、]|\Z)|(?P<bare>[^,，、]*))")
_NUMBER = re.compile(r"[+-]?(\d{1,300})?(\.\d{1,300})?(?<=\d)")
_BOOLEANS = {"true": 1, "false": 0}
"""Stores and LlamaIndex's filters have booleans as numbers."""

Value = str | int | float


class KeyTypes(NamedTuple):
    """Types of the values that nodes have under a metadata key.

    Attributes:
        has_text: Whether any value, or item of a list, is a text.
        has_numbers: Whether any value, or item of a list, is a number or a boolean.
        are_lists: Whether all values are lists.
    """

    has_text: bool
    has_numbers: bool
    are_lists: bool = False


TypesOf = Callable[[str], KeyTypes]
"""Tells the types of values under a key."""


class _Expression(NamedTuple):
    """An expression in its parts; the value as it is written."""

    text: str
    key: str
    operator: FilterOperator
    value: str


def parse_filters(expressions: Sequence[str], types_of: TypesOf) -> MetadataFilters | None:
    """Return filters that a node must all meet; None without any.

    A value that looks like a number is a number, unless nodes have only texts under the key; quotation marks make it a
    text. They also enclose keys and values with operators, commas or spaces at their ends. Where the values under a key
    are lists, ``key=value`` and ``key in a,b`` ask for items. Full-width operators and commas are understood, and lists
    in brackets.

    Args:
        expressions: Such as ``price>=100``.
        types_of: Tells the types of values under a key.

    Raises:
        FilterSyntaxError: An expression is not of this form.
        ValueError: An expression cannot be met by the values under its key.
    """
    filters = [_filter_of(_parsed(expression), types_of) for expression in expressions]
    return MetadataFilters(filters=filters) if filters else None


def _parsed(text: str) -> _Expression:
    quoted = _QUOTED_KEY.match(text)
    start = quoted.end() if quoted else 0
    found = _OPERATOR.search(text, start)
    if found is None:
        _refuse(text)
    before, value = text[start : found.start()].strip(), text[found.end() :].strip()
    key = quoted[1][1:-1] if quoted else before
    # A second operator, as in "=>", would become part of the value, and nothing be found.
    if not key or (quoted and before) or not value or value.startswith(_OPERATOR_SIGNS):
        _refuse(text)
    symbol = " ".join(found[0].translate(_HALF_WIDTH).lower().split())
    return _Expression(text, key, _OPERATORS[symbol], value)


def _filter_of(expression: _Expression, types_of: TypesOf) -> MetadataFilter | MetadataFilters:
    types = types_of(expression.key)
    value = _value_in(expression, types)
    if not types.are_lists:
        return MetadataFilter(key=expression.key, value=value, operator=expression.operator)
    if expression.operator not in _ON_LISTS:
        raise ValueError(
            f"the filter {expression.text!r:.200} cannot be met, because the values of {expression.key!r} are lists; "
            "write key=item, !=, key in a,b or key not in a,b"
        )
    has_item = MetadataFilter(key=expression.key, value=value, operator=_ON_LISTS[expression.operator])
    if expression.operator in (FilterOperator.NE, FilterOperator.NIN):
        return MetadataFilters(filters=[has_item], condition=FilterCondition.NOT)
    return has_item


def _value_in(expression: _Expression, types: KeyTypes) -> Value | list[str] | list[int | float]:
    if expression.operator is FilterOperator.TEXT_MATCH_INSENSITIVE:
        return _unquoted(expression.value)
    if expression.operator not in (FilterOperator.IN, FilterOperator.NIN):
        return _value_of(expression.value, types)
    items = _items_of(expression.value)
    if not items:
        _refuse(expression.text)
    numbers = [value for item in items if not isinstance(value := _value_of(item, types), str)]
    # Lists of LlamaIndex's filters hold either texts or numbers.
    return numbers if len(numbers) == len(items) else [_unquoted(item) for item in items]


def _items_of(text: str) -> list[str]:
    """Return the items of a list as they are written; empty ones are left out."""
    for opening, closing in _BRACKETS:
        if text.startswith(opening) and text.endswith(closing):
            text = text[1:-1]
            break
    items, position = [], 0
    while position <= len(text):
        found = _ITEM.match(text, position)
        # The pattern takes any text, an empty one, too.
        assert found is not None
        items.append(found["quoted"] or found["bare"].strip())
        position = found.end() + 1
    return [item for item in items if item]


def _value_of(text: str, types: KeyTypes) -> Value:
    unquoted = _unquoted(text)
    if unquoted != text or (types.has_text and not types.has_numbers):
        return unquoted
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return text if types.has_text else _BOOLEANS.get(text.lower(), text)


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and (text[0], text[-1]) in _QUOTES
    return text[1:-1] if is_quoted else text


def _refuse(text: str) -> NoReturn:
    raise FilterSyntaxError(
        f"the filter {text!r:.200} is not understood; write one of: {FILTER_SYNTAX}; quotation marks enclose keys and "
        "values that hold operators or commas",
        expression=text,
    )
