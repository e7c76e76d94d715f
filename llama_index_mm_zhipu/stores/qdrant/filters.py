"""Predicates as filters of Qdrant. Values are fields of Qdrant's models, and keys are ``plain_key``.

Every operator here means the same in local mode and on a server, with or without payload indexes. ``MatchText`` does
not: it compares whole words, and splits texts as the index of the field says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from qdrant_client import models

from llama_index_mm_zhipu.stores.backend import unsupported
from llama_index_mm_zhipu.stores.filterable import (
    FILLED,
    KEYS,
    NUMBER,
    NUMBER_ITEMS,
    TEXT,
    TEXT_ITEMS,
    WHOLE,
    WITH_NONE,
    plain_key,
)
from llama_index_mm_zhipu.stores.records import uuid_of
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
    WholeIs,
)

OURS = "_mm_zhipu"
"""Key of the payload under which a point holds what LlamaIndex's own payload does not."""

FILTERS = f"{OURS}.filters"
"""Path of ``filterable_of``."""

LOWERED = f"{OURS}.lowered"
"""Path of the texts that contain capitals, in lower case by ``plain_key``."""

DOCUMENT = "doc_id"
"""Path of the id of a point's document, where ``QdrantVectorStore.delete`` looks for it."""

MAX_DEPTH = 50
"""Maximum levels of nested predicates. Servers read JSON of 128 levels, and a filter takes two."""

_RANGE_ENDS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_MAX_INTEGER = 2**63


def compile_predicate(predicate: Predicate, store: str) -> models.Filter:
    """Return the filter that the same points meet.

    Args:
        predicate: The predicate.
        store: Name of the store, for the error.

    Raises:
        ValueError: Qdrant cannot filter like this.
    """
    if _depth(predicate) > MAX_DEPTH:
        what = f"filter by groups that are nested more than {MAX_DEPTH} levels deep, NOT counted twice"
        raise unsupported(store, what, "write groups of the same condition as one group")
    condition = _compiled(predicate, store)
    return condition if isinstance(condition, models.Filter) else models.Filter(must=[condition])


def storable_number(value: float) -> float:
    """Return a number in the form in which payloads hold and filters compare it: equal numbers are the same JSON.

    Qdrant compares 2 with 2 but not with 2.0, and JSON has no infinity.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < _MAX_INTEGER:
        return int(value)
    return max(-sys.float_info.max, min(sys.float_info.max, value)) if isinstance(value, float) else value


def field_is(key: str, values: Sequence[str] | Sequence[int]) -> models.Condition:
    """Return the condition that the value at a path, or any item of a list there, is one of some values."""
    if len(values) == 1:
        return models.FieldCondition(key=key, match=models.MatchValue(value=values[0]))
    return models.FieldCondition(key=key, match=models.MatchAny(any=list(values))) if values else _never()


def _depth(predicate: Predicate) -> int:
    if isinstance(predicate, AllOf | AnyOf):
        return 1 + max(map(_depth, predicate.parts), default=0)
    return 1 + _depth(predicate.part) if isinstance(predicate, Not) else 1


def _compiled(predicate: Predicate, store: str) -> models.Condition:
    if isinstance(predicate, AllOf):
        return models.Filter(must=[_compiled(part, store) for part in predicate.parts])
    if isinstance(predicate, AnyOf):
        return _any_of(_compiled(part, store) for part in predicate.parts)
    if isinstance(predicate, Not):
        return _not(_compiled(predicate.part, store))
    if isinstance(predicate, IdIs):
        return models.HasIdCondition(has_id=[uuid_of(node_id) for node_id in predicate.node_ids])
    if isinstance(predicate, DocumentIs):
        return field_is(DOCUMENT, predicate.ref_doc_ids)
    return _compiled_on_metadata(predicate, store)


def _compiled_on_metadata(predicate: MetadataPredicate, store: str) -> models.Condition:
    key = plain_key(predicate.key)
    if isinstance(predicate, ScalarIs):
        return _is_one_of(f"{FILTERS}.{TEXT}.{key}", f"{FILTERS}.{NUMBER}.{key}", predicate.values)
    if isinstance(predicate, ItemIs):
        among = _is_one_of(f"{FILTERS}.{TEXT_ITEMS}.{key}", f"{FILTERS}.{NUMBER_ITEMS}.{key}", predicate.values)
        return _any_of([among, field_is(f"{FILTERS}.{WITH_NONE}", [key])]) if predicate.or_none else among
    if isinstance(predicate, ScalarCompares):
        return _compares(predicate, store)
    if isinstance(predicate, TextHas):
        has_part = _has_part_ignoring_case if predicate.ignore_case else _has_part
        return _any_of(has_part(key, part) for part in predicate.parts)
    if isinstance(predicate, WholeIs):
        return field_is(f"{FILTERS}.{WHOLE}.{key}", [predicate.json])
    assert isinstance(predicate, HasValue)
    return field_is(f"{FILTERS}.{FILLED if predicate.is_filled else KEYS}", [key])


def _is_one_of(text_path: str, number_path: str, values: Iterable[Scalar]) -> models.Condition:
    texts: list[str] = []
    integers: list[int] = []
    conditions: list[models.Condition] = []
    for value in values:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(number := storable_number(value), int):
            integers.append(number)
        else:
            # MatchValue takes no fractions.
            conditions.append(models.FieldCondition(key=number_path, range=models.Range(gte=number, lte=number)))
    conditions += [field_is(text_path, texts)] if texts else []
    conditions += [field_is(number_path, integers)] if integers else []
    return _any_of(conditions)


def _compares(predicate: ScalarCompares, store: str) -> models.Condition:
    if isinstance(predicate.value, str):
        what = f"filter by order of texts (key {predicate.key!r}, {predicate.sign})"
        raise unsupported(store, what, "it orders numbers only; store dates as numbers such as 20261130, or filter IN")
    # Range takes 64-bit floats, as a server compares integers with it, too.
    bounds = {_RANGE_ENDS[predicate.sign]: float(storable_number(predicate.value))}
    return models.FieldCondition(key=f"{FILTERS}.{NUMBER}.{plain_key(predicate.key)}", range=models.Range(**bounds))


def _has_part(key: str, part: str) -> models.Condition:
    return _contains(f"{FILTERS}.{TEXT}.{key}", part)


def _has_part_ignoring_case(key: str, part: str) -> models.Condition:
    part, lowered = part.lower(), f"{LOWERED}.{key}"
    without_capitals = models.Filter(must=[_is_missing(lowered), _has_part(key, part)])
    return _any_of([_contains(lowered, part), without_capitals])


def _contains(path: str, part: str) -> models.Condition:
    # Every text contains the empty one; whether MatchSubstring says so is not documented.
    if not part:
        return _not(_is_missing(path))
    return models.FieldCondition(key=path, match=models.MatchSubstring(substring=part))


def _is_missing(path: str) -> models.Condition:
    return models.IsEmptyCondition(is_empty=models.PayloadField(key=path))


def _any_of(conditions: Iterable[models.Condition]) -> models.Condition:
    alternatives = list(conditions)
    # Without alternatives, Qdrant's "should" is no restriction.
    return models.Filter(should=alternatives) if alternatives else _never()


def _not(condition: models.Condition) -> models.Condition:
    return models.Filter(must_not=[condition])


def _never() -> models.Condition:
    return models.HasIdCondition(has_id=[])
