"""LlamaIndex's metadata filters as SQL over the metadata table: pure functions.

Semantics are those that LlamaIndex's own tests pin: NE and NIN hold for a node that lacks the key, every other operator
but IS_EMPTY does not; NOT means that none of its filters hold; no condition means AND.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)

from llama_index_mm_zhipu.vector_store.database import EVERY_NODE, Condition, one_of

_SCALAR_TEXT = "kind = 'scalar' and typeof(value) = 'text'"


def compile_filters(filters: MetadataFilters | None) -> Condition:
    """Compile filters, nested to any depth, to a condition on nodes.

    Raises:
        TypeError: A text operator has a value that is no string.
        ValueError: A list operator has a value that is no list.
    """
    if filters is None or not filters.filters:
        return EVERY_NODE
    parts = [
        compile_filters(part) if isinstance(part, MetadataFilters) else _compile_filter(part)
        for part in filters.filters
    ]
    word = " and " if filters.condition in (FilterCondition.AND, None) else " or "
    sql = word.join(f"({part.sql})" for part in parts)
    if filters.condition == FilterCondition.NOT:
        sql = f"not ({sql})"
    return Condition(sql, tuple(parameter for part in parts for parameter in part.parameters))


def condition_of_query(query: VectorStoreQuery) -> Condition:
    """Return what restricts a query: filters, node ids, document ids."""
    condition = compile_filters(query.filters)
    # LlamaIndex hands over an empty list where it means no restriction.
    if query.node_ids:
        condition = condition.and_(one_of("nodes.node_id", query.node_ids))
    if query.doc_ids:
        condition = condition.and_(one_of("nodes.ref_doc_id", query.doc_ids))
    return condition


def condition_of_nodes(node_ids: Sequence[str] | None, filters: MetadataFilters | None) -> Condition:
    """Return what selects nodes by id, by filters, or by both; an empty list of ids selects none."""
    condition = compile_filters(filters)
    return condition if node_ids is None else condition.and_(one_of("nodes.node_id", node_ids))


def _compile_filter(filter_: MetadataFilter) -> Condition:
    return _OPERATORS[filter_.operator](filter_.key, filter_.value)


def _has(key: str, test: str, *parameters: Any) -> Condition:
    """The node has a metadata row of this key that passes a test."""
    return Condition(f"nodes.id in (select id from metadata where key = ? and {test})", (key, *parameters))


def _not(condition: Condition) -> Condition:
    return Condition(f"not ({condition.sql})", condition.parameters)


def _all_of(conditions: Sequence[Condition]) -> Condition:
    joined = EVERY_NODE
    for condition in conditions:
        joined = joined.and_(condition)
    return joined


def _equal(key: str, value: Any) -> Condition:
    if isinstance(value, list):
        return _has(key, "kind = 'json' and value = ?", json.dumps(value, ensure_ascii=False))
    return _has(key, "kind = 'scalar' and value = ?", value)


def _compare(sign: str) -> Callable[[str, Any], Condition]:
    # SQLite orders every number before every text: only values of the same type are compared.
    number = f"kind = 'scalar' and value {sign} ? and typeof(value) in ('integer', 'real')"
    text = f"{_SCALAR_TEXT} and value {sign} ?"
    return lambda key, value: _has(key, text if isinstance(value, str) else number, value)


def _in(key: str, value: Any) -> Condition:
    return _has(key, "kind = 'scalar' and value in (select value from json_each(?))", json.dumps(_listed(key, value)))


def _contains(key: str, value: Any) -> Condition:
    """A list contains the value, or a string contains it as a part, as Python's ``in`` does."""
    if isinstance(value, str):
        return _has(
            key,
            f"((kind = 'item' and value = ?) or ({_SCALAR_TEXT} and instr(value, ?) > 0))",
            value,
            value,
        )
    return _has(key, "kind = 'item' and value = ?", value)


def _any(key: str, value: Any) -> Condition:
    parts = [_contains(key, item) for item in _listed(key, value)]
    return _not(_all_of([_not(part) for part in parts]))


def _all(key: str, value: Any) -> Condition:
    # An empty list asks for nothing but the key.
    return _all_of([_has(key, "true"), *(_contains(key, item) for item in _listed(key, value))])


def _text_match(key: str, value: Any) -> Condition:
    return _has(key, f"{_SCALAR_TEXT} and instr(value, ?) > 0", _text(key, value))


def _text_match_insensitive(key: str, value: Any) -> Condition:
    return _has(key, f"{_SCALAR_TEXT} and instr(lower(value), lower(?)) > 0", _text(key, value))


def _is_empty(key: str, value: Any) -> Condition:
    return _not(_has(key, "not (kind = 'scalar' and value = '') and not (kind = 'json' and value = '[]')"))


def _listed(key: str, value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if value is None:
        raise ValueError(f"the filter on {key!r} needs a list of values")
    return [value]


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"the text filter on {key!r} needs a string, not {type(value).__name__}")
    return value


_OPERATORS: dict[FilterOperator, Callable[[str, Any], Condition]] = {
    FilterOperator.EQ: _equal,
    FilterOperator.NE: lambda key, value: _not(_equal(key, value)),
    FilterOperator.GT: _compare(">"),
    FilterOperator.GTE: _compare(">="),
    FilterOperator.LT: _compare("<"),
    FilterOperator.LTE: _compare("<="),
    FilterOperator.IN: _in,
    FilterOperator.NIN: lambda key, value: _not(_in(key, value)),
    FilterOperator.CONTAINS: _contains,
    FilterOperator.ANY: _any,
    FilterOperator.ALL: _all,
    FilterOperator.TEXT_MATCH: _text_match,
    FilterOperator.TEXT_MATCH_INSENSITIVE: _text_match_insensitive,
    FilterOperator.IS_EMPTY: _is_empty,
}
