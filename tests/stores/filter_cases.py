"""Filters with which every store is tested, and the metadata that they look at."""

from __future__ import annotations

from typing import Any

from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)


def where(key: str, value: Any, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


METADATA: dict[str, dict[str, Any]] = {
    "car": {"page": 1, "title": "小米汽车 SU7", "tags": ["车", "红"], "price": 21.59, "sold": True, "颜色": "红"},
    "cat": {"page": 2, "title": "猫", "tags": ["动物"], "price": 0, "sold": False, "size.cm": 46},
    "map": {"page": 10, "title": "", "tags": [], "note": None, 'a"b': "x", "it's": "O'Neill", "c\\d": "e\\f"},
    "bare": {},
    "mixed": {"page": "三", "tags": [1, "红", None], "id": "x", "text": "y", "doc_id": "z", "颜色": "红'; drop"},
}


def one(key: str, value: Any, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilter:
    return MetadataFilter(key=key, value=value, operator=operator)


def group(condition: FilterCondition, *parts: MetadataFilter | MetadataFilters) -> MetadataFilters:
    return MetadataFilters(filters=list(parts), condition=condition)


AND, OR, NOT = FilterCondition.AND, FilterCondition.OR, FilterCondition.NOT
_LATE = one("page", 2, FilterOperator.GTE)

FILTER_CASES: dict[str, MetadataFilter | MetadataFilters] = {
    "== number": one("page", 2),
    "== number as fraction": one("page", 2.0),
    "== fraction": one("price", 21.59),
    "== text": one("title", "猫"),
    "== empty text": one("title", ""),
    "== text of a number": one("page", "2"),
    "== boolean": one("sold", 1),
    "== list": one("tags", ["车", "红"]),
    "!= number": one("page", 2, FilterOperator.NE),
    "!= text": one("title", "猫", FilterOperator.NE),
    "> number": one("page", 2, FilterOperator.GT),
    ">= number": _LATE,
    "< number": one("page", 2, FilterOperator.LT),
    "<= fraction": one("price", 21.59, FilterOperator.LTE),
    ">= text": one("title", "小", FilterOperator.GTE),
    "< text": one("title", "猫", FilterOperator.LT),
    "in numbers": one("page", [1, 10], FilterOperator.IN),
    "in texts": one("title", ["猫", "狗"], FilterOperator.IN),
    "in nothing": one("title", [], FilterOperator.IN),
    "nin numbers": one("page", [1, 10], FilterOperator.NIN),
    "nin texts": one("title", ["猫"], FilterOperator.NIN),
    "contains, in a list": one("tags", "红", FilterOperator.CONTAINS),
    "contains, a number in a list": one("tags", 1, FilterOperator.CONTAINS),
    "contains, None in a list": one("tags", None, FilterOperator.CONTAINS),
    "contains, in a text": one("title", "汽车", FilterOperator.CONTAINS),
    "any": one("tags", ["红", "动物"], FilterOperator.ANY),
    "all": one("tags", ["红", "车"], FilterOperator.ALL),
    "text_match": one("title", "SU7", FilterOperator.TEXT_MATCH),
    "text_match, no wildcards": one("title", "%", FilterOperator.TEXT_MATCH),
    "text_match_insensitive": one("title", "su7", FilterOperator.TEXT_MATCH_INSENSITIVE),
    "is_empty, text": one("title", None, FilterOperator.IS_EMPTY),
    "is_empty, list": one("tags", None, FilterOperator.IS_EMPTY),
    "is_empty, None": one("note", None, FilterOperator.IS_EMPTY),
    "and": group(AND, one("page", 2), one("sold", 0)),
    "or": group(OR, one("page", 1), one("title", "猫")),
    "not": group(NOT, one("page", 1), one("title", "猫")),
    "nested": group(OR, one("price", 1, FilterOperator.LT), group(AND, _LATE, group(NOT, one("sold", 0)))),
    "Chinese key": one("颜色", "红"),
    "key with a dot": one("size.cm", 46),
    "key with double quotes": one('a"b', "x"),
    "key and value with single quotes": one("it's", "O'Neill"),
    "key and value with backslashes": one("c\\d", "e\\f"),
    "key of a column": group(AND, one("id", "x"), one("text", "y"), one("doc_id", "z")),
    "SQL in a value": one("颜色", "红'; drop"),
    "SQL that is always true": one("title", "' or '1'='1"),
    "SQL in a key": one("x' or '1'='1", "y"),
    "SQL in a key, negated": one("x' is not null or 'a' <> 'b", "y", FilterOperator.NE),
    "SQL in a list": one("title", ["') or (1=1"], FilterOperator.IN),
    "SQL in a text": one("title", "%' or 1=1 --", FilterOperator.TEXT_MATCH),
}
"""Names are those of the table in docs/en/guides/scale.md."""
