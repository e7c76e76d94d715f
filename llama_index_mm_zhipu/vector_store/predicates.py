"""What metadata filters mean: LlamaIndex's filters, written as a few predicates that each store compiles.

Filters mean what LlamaIndex's own tests say: NE and NIN hold for a node without the key, every other operator but
IS_EMPTY does not; NOT means that none of its filters hold; a missing condition means AND.

Predicates speak of metadata as ``metadata_values.metadata_rows`` writes it: a text or number under a key is a scalar,
and a list or mapping has items and is compared as JSON text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilters,
    VectorStoreQuery,
)

from llama_index_mm_zhipu.arguments import as_ids
from llama_index_mm_zhipu.vector_store.metadata_values import json_of, scalar

MAX_NESTING = 100
"""Maximum levels of nested filters."""

Scalar: TypeAlias = "str | int | float"
Sign: TypeAlias = Literal["<", "<=", ">", ">="]


@dataclass(frozen=True)
class ScalarIs:
    """The value under the key is one of these texts and numbers; without values, never."""

    key: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class ScalarCompares:
    """The value under the key compares like this with a value of the same type, text or number."""

    key: str
    sign: Sign
    value: Scalar


@dataclass(frozen=True)
class TextHas:
    """The value under the key is a text that has one of these parts."""

    key: str
    parts: tuple[str, ...]
    ignore_case: bool = False


@dataclass(frozen=True)
class ItemIs:
    """The value under the key is a list or mapping that contains one of these texts and numbers, or None."""

    key: str
    values: tuple[Scalar, ...]
    or_none: bool = False


@dataclass(frozen=True)
class WholeIs:
    """The value under the key is a list or mapping with this JSON text, as ``metadata_values.json_of`` writes it."""

    key: str
    json: str


@dataclass(frozen=True)
class HasValue:
    """There is a value under the key: any but None, or any but None, an empty text and an empty list."""

    key: str
    is_filled: bool = False


@dataclass(frozen=True)
class IdIs:
    """The node has one of these ids."""

    node_ids: tuple[str, ...]


@dataclass(frozen=True)
class DocumentIs:
    """The node came from one of these documents."""

    ref_doc_ids: tuple[str, ...]


@dataclass(frozen=True)
class AllOf:
    """All parts hold; without parts, every node does."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: Predicate


MetadataPredicate: TypeAlias = "ScalarIs | ScalarCompares | TextHas | ItemIs | WholeIs | HasValue"
Predicate: TypeAlias = "MetadataPredicate | IdIs | DocumentIs | AllOf | AnyOf | Not"

EVERY_NODE = AllOf(())


def predicate_of(filters: MetadataFilters | None) -> Predicate:
    """Return what filters mean.

    Raises:
        TypeError: The value of a text operator is not a string, or the value of an order operator is a list.
        ValueError: The value of a list operator is not a list, or filters are nested more than 100 levels deep.
    """
    require_nesting_within_limit(filters)
    return _predicate_of(filters)


def require_nesting_within_limit(filters: MetadataFilters | None) -> None:
    """Check how deeply filters are nested.

    Raises:
        ValueError: They are nested more than 100 levels deep.
    """
    level = [filters] if filters is not None else []
    for _ in range(MAX_NESTING):
        level = [part for each in level for part in each.filters if isinstance(part, MetadataFilters)]
        if not level:
            return
    raise ValueError(
        f"the filters are nested more than {MAX_NESTING} levels deep; write groups of the same condition as one group"
    )


def predicate_of_query(query: VectorStoreQuery) -> Predicate:
    """Return the restrictions of a query: its filters, node ids and document ids.

    Raises:
        TypeError: Ids are not a list of strings, or as in ``predicate_of``.
        ValueError: As in ``predicate_of``.
    """
    # An empty list of node ids is no restriction: LlamaIndex's VectorIndexRetriever passes one to every store that
    # stores texts. Only users pass doc_ids, and an empty list of permitted documents permits none.
    node_ids = as_ids(query.node_ids, "node_ids") or None
    doc_ids = as_ids(query.doc_ids, "doc_ids")
    documents = [] if doc_ids is None else [DocumentIs(tuple(doc_ids))]
    return all_of([predicate_of_nodes(node_ids, query.filters), *documents])


def predicate_of_nodes(node_ids: Sequence[str] | None, filters: MetadataFilters | None) -> Predicate:
    """Return that nodes have one of the ids and meet filters; an empty list of ids selects none."""
    ids = [] if node_ids is None else [IdIs(tuple(node_ids))]
    return all_of([predicate_of(filters), *ids])


def all_of(parts: Sequence[Predicate]) -> Predicate:
    """Return that all parts hold, as simply as possible."""
    parts = [part for part in parts if part != EVERY_NODE]
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def description_of(predicate: Predicate) -> str:
    """Return what errors call a predicate: the operator and the key, such as ``text_match (key 'title')``."""
    if isinstance(predicate, ScalarCompares):
        kind = "text" if isinstance(predicate.value, str) else "number"
        return f"{predicate.sign} {kind} (key {predicate.key!r})"
    if isinstance(predicate, TextHas):
        return f"text_match{'_insensitive' if predicate.ignore_case else ''} (key {predicate.key!r})"
    names: dict[type, str] = {ScalarIs: "==", ItemIs: "contains", WholeIs: "== list", HasValue: "is_empty"}
    if type(predicate) in names:
        return f"{names[type(predicate)]} (key {predicate.key!r})"  # type: ignore[union-attr]
    return {IdIs: "node ids", DocumentIs: "document ids", Not: "not", AllOf: "and", AnyOf: "or"}[type(predicate)]


def _predicate_of(filters: MetadataFilters | None) -> Predicate:
    if filters is None or not filters.filters:
        return EVERY_NODE
    parts = tuple(
        _predicate_of(part) if isinstance(part, MetadataFilters) else _OPERATORS[part.operator](part.key, part.value)
        for part in filters.filters
    )
    if filters.condition in (FilterCondition.AND, None):
        return AllOf(parts)
    return AnyOf(parts) if filters.condition == FilterCondition.OR else Not(AnyOf(parts))


def _equal(key: str, value: Any) -> Predicate:
    if isinstance(value, list):
        return WholeIs(key, json_of(value))
    # As in SQL, nothing equals None: IS_EMPTY finds nodes without a value.
    return ScalarIs(key, () if value is None else (scalar(value),))


def _compare(sign: Sign) -> Callable[[str, Any], Predicate]:
    def predicate(key: str, value: Any) -> Predicate:
        if isinstance(value, list):
            raise TypeError(f"the filter on {key!r} with {sign} needs a single value, not a list")
        return ScalarIs(key, ()) if value is None else ScalarCompares(key, sign, scalar(value))

    return predicate


def _in(key: str, value: Any) -> Predicate:
    return ScalarIs(key, tuple(scalar(item) for item in _listed(key, value)))


def _contains(key: str, value: Any) -> Predicate:
    """Return that a list or a string contains a value, as by Python's ``in``."""
    return _any(key, [value])


def _any(key: str, value: Any) -> Predicate:
    values = _listed(key, value)
    texts = tuple(item for item in values if isinstance(item, str))
    items = ItemIs(key, tuple(scalar(item) for item in values if item is not None), None in values)
    return AnyOf((items, TextHas(key, texts))) if texts else items


def _all(key: str, value: Any) -> Predicate:
    # An empty list only requires the key.
    return AllOf(tuple(_contains(key, item) for item in _listed(key, value)) or (HasValue(key),))


def _listed(key: str, value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if value is None:
        raise ValueError(f"the filter on {key!r} needs a list of values")
    return [value]


def _text_match(ignore_case: bool) -> Callable[[str, Any], Predicate]:
    def predicate(key: str, value: Any) -> Predicate:
        if not isinstance(value, str):
            raise TypeError(f"the text filter on {key!r} needs a string, not {type(value).__name__}")
        return TextHas(key, (value,), ignore_case)

    return predicate


_OPERATORS: dict[FilterOperator, Callable[[str, Any], Predicate]] = {
    FilterOperator.EQ: _equal,
    FilterOperator.NE: lambda key, value: Not(_equal(key, value)),
    FilterOperator.GT: _compare(">"),
    FilterOperator.GTE: _compare(">="),
    FilterOperator.LT: _compare("<"),
    FilterOperator.LTE: _compare("<="),
    FilterOperator.IN: _in,
    FilterOperator.NIN: lambda key, value: Not(_in(key, value)),
    FilterOperator.CONTAINS: _contains,
    FilterOperator.ANY: _any,
    FilterOperator.ALL: _all,
    FilterOperator.TEXT_MATCH: _text_match(ignore_case=False),
    FilterOperator.TEXT_MATCH_INSENSITIVE: _text_match(ignore_case=True),
    FilterOperator.IS_EMPTY: lambda key, _: Not(HasValue(key, is_filled=True)),
}
