"""LlamaIndex's metadata filters: checked against stored metadata, compiled to SQL, or evaluated if too large for SQL.

``predicates`` says what filters mean. Each of them is compiled in two ways, to test one node and to list all nodes that
meet it; ``conditions`` says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters

from llama_index_mm_zhipu.store_file import INTERNAL_METADATA_KEYS
from llama_index_mm_zhipu.vector_store.conditions import (
    EVERY_NODE,
    NUMBERS,
    TEXTS,
    AnyCondition,
    Condition,
    all_of,
    any_of,
    encode_texts,
    has_metadata,
    has_metadata_among,
    negation,
    of_row_ids,
    one_of,
)
from llama_index_mm_zhipu.vector_store.errors import UnknownMetadataError
from llama_index_mm_zhipu.vector_store.metadata_tables import MetadataExample
from llama_index_mm_zhipu.vector_store.predicates import (
    AllOf,
    AnyOf,
    DocumentIs,
    IdIs,
    ItemIs,
    MetadataPredicate,
    Not,
    Predicate,
    ScalarCompares,
    ScalarIs,
    TextHas,
    WholeIs,
    predicate_of,
    require_nesting_within_limit,
)
from llama_index_mm_zhipu.vector_store.sessions import Reader
from llama_index_mm_zhipu.vector_store.vector_file import Ids

_SCALAR = "kind = 'scalar' and"

_MAX_INSTR = 8
"""Maximum number of texts for which a call of SQLite's ``instr`` each is faster than one call of a Python function."""

_STEPS_PER_TEST = 40
"""Steps of SQLite's virtual machine to test one node, about. Listing may take as long as testing would."""

_STEPS_OF_A_STATEMENT = 200
"""Steps that take about as long as compiling another statement."""

_RARE_STEPS = 4_000
"""Maximum steps to list the nodes of a condition that few nodes meet."""

_MAX_COLLECTED_IDS = 100_000
"""Number of collected ids at which duplicates are removed."""

_NO_IDS = np.empty(0, np.int64)


def compile_filters(filters: MetadataFilters | None) -> AnyCondition:
    """Compile filters to a condition on nodes; errors are those of ``predicate_of``."""
    return compiled(predicate_of(filters))


def compiled(predicate: Predicate) -> AnyCondition:
    """Compile a predicate to a condition on nodes."""
    if isinstance(predicate, AllOf):
        return all_of([compiled(part) for part in predicate.parts])
    if isinstance(predicate, AnyOf):
        return any_of([compiled(part) for part in predicate.parts])
    if isinstance(predicate, Not):
        return negation(compiled(predicate.part))
    if isinstance(predicate, IdIs):
        return one_of("node_id", predicate.node_ids)
    if isinstance(predicate, DocumentIs):
        return one_of("ref_doc_id", predicate.ref_doc_ids)
    return _compiled_on_metadata(predicate)


def _compiled_on_metadata(predicate: MetadataPredicate) -> AnyCondition:
    if isinstance(predicate, ScalarIs):
        return has_metadata_among(predicate.key, "scalar", predicate.values)
    if isinstance(predicate, ScalarCompares):
        same_type = TEXTS if isinstance(predicate.value, str) else NUMBERS
        return has_metadata(predicate.key, f"{_SCALAR} value {predicate.sign} ? and {same_type}", predicate.value)
    if isinstance(predicate, TextHas):
        return _text_has(predicate)
    if isinstance(predicate, ItemIs):
        items = has_metadata_among(predicate.key, "item", predicate.values)
        return any_of([items, has_metadata(predicate.key, "kind = 'none'")]) if predicate.or_none else items
    if isinstance(predicate, WholeIs):
        return has_metadata_among(predicate.key, "json", [predicate.json])
    filled = "(kind = 'scalar' and value <> '' or kind = 'json' and value <> '[]')"
    return has_metadata(predicate.key, filled if predicate.is_filled else "true")


def _text_has(predicate: TextHas) -> AnyCondition:
    key, parts = predicate.key, predicate.parts
    if len(parts) > _MAX_INSTR:
        return has_metadata(key, f"{_SCALAR} {TEXTS} and contains_any(value, ?)", encode_texts(parts))
    instr = "instr(lower(value), lower(?))" if predicate.ignore_case else "instr(value, ?)"
    return any_of([has_metadata(key, f"{_SCALAR} {TEXTS} and {instr} > 0", part) for part in parts])


# Evaluation of conditions that one statement cannot hold


def resolve(condition: AnyCondition, reader: Reader) -> Condition:
    """Return a condition for one SQL statement that the same nodes meet in the reader's state.

    A ``Group`` is evaluated part by part, as sets of row ids.
    """
    if isinstance(condition, Condition):
        return condition
    return of_row_ids(_matching(condition, None, reader).tolist())


def _matching(condition: AnyCondition, within: Ids | None, reader: Reader) -> Ids:
    """Return the row ids that meet a condition, ascending.

    Args:
        condition: The condition.
        within: Row ids to select from; None for all nodes.
        reader: Reader of the nodes.
    """
    if condition.inverse is not None:
        return _without(within, _matching(condition.inverse, within, reader), reader)
    if isinstance(condition, Condition):
        return _matching_condition(condition, within, reader)
    if condition.holding == "all":
        return _matching_all(condition.parts, within, reader)
    return _matching_any(condition.parts, within, reader)


def _matching_condition(condition: Condition, within: Ids | None, reader: Reader) -> Ids:
    if within is None:
        return reader.select_ids(condition)
    listed = reader.select_ids_within(condition, _STEPS_OF_A_STATEMENT + _STEPS_PER_TEST * len(within))
    if listed is None:
        listed = np.array(sorted(reader.select_matching(within.tolist(), condition)), dtype=np.int64)
    return _intersection(listed, within)


def _matching_all(parts: Sequence[AnyCondition], within: Ids | None, reader: Reader) -> Ids:
    positive, negated = _split_negations(parts)
    if within is None:
        # Beginning with a condition that few nodes meet avoids listing the nodes of all other conditions.
        rare = next((part for part in positive if _is_rare(part, reader)), None)
        positive.sort(key=lambda part: part is not rare)
    for part in positive:
        within = _matching(part, within, reader)
        if not len(within):
            return within
    # Few nodes fail one of many inequalities: these few are listed, not the many that meet each of them.
    return _without(within, _matching_any(negated, within, reader), reader)


def _matching_any(parts: Sequence[AnyCondition], within: Ids | None, reader: Reader) -> Ids:
    positive, negated = _split_negations(parts)
    found, collected = [_NO_IDS], 0
    for part in positive:
        ids = _matching(part, within, reader)
        found.append(ids)
        collected += len(ids)
        if collected > _MAX_COLLECTED_IDS:
            # Ids that were found need not be searched again.
            found, collected = [_union(found)], 0
            within = _without(within, found[0], reader)
            if not len(within):
                return found[0]
    if negated:
        found.append(_without(within, _matching_all(negated, within, reader), reader))
    return _union(found)


def _is_rare(condition: AnyCondition, reader: Reader) -> bool:
    return isinstance(condition, Condition) and reader.select_ids_within(condition, _RARE_STEPS) is not None


def _split_negations(parts: Sequence[AnyCondition]) -> tuple[list[AnyCondition], list[AnyCondition]]:
    """Return the parts that are not negations, and the conditions that the other parts negate."""
    positive = [part for part in parts if part.inverse is None]
    return positive, [part.inverse for part in parts if part.inverse is not None]


def _without(within: Ids | None, ids: Ids, reader: Reader) -> Ids:
    every = reader.select_ids(EVERY_NODE) if within is None else within
    return np.setdiff1d(every, ids, assume_unique=True) if len(ids) else every


def _intersection(some: Ids, others: Ids) -> Ids:
    """Return the common ids of two ascending arrays, in time proportional to the shorter one."""
    short, long = (some, others) if len(some) < len(others) else (others, some)
    if not len(short):
        return short
    positions = np.minimum(np.searchsorted(long, short), len(long) - 1)
    common: Ids = short[long[positions] == short]
    return common


def _union(found: Sequence[Ids]) -> Ids:
    return np.unique(np.concatenate(found))


class DescribesMetadata(Protocol):
    """A store that knows which metadata its nodes have, such as ``FaissMultiModalVectorStore``."""

    def metadata_keys(self) -> list[str]:
        """Return the keys under which any node has metadata."""

    def metadata_examples(self, key: str) -> list[MetadataExample]:
        """Return an example of each type of value under a key."""


_ON_ITEMS = {FilterOperator.CONTAINS, FilterOperator.ANY, FilterOperator.ALL}
_ON_WHOLE_LISTS = {FilterOperator.EQ, FilterOperator.NE}


def require_matchable(filters: MetadataFilters | None, stores: Sequence[DescribesMetadata]) -> None:
    """Raise an error for filters that would match no node, or every node, because of a wrong key or value type.

    Args:
        filters: The filters, which may be nested.
        stores: The stores that will apply them. Without stores nothing is checked.

    Raises:
        UnknownMetadataError: No node has the key of a filter.
        ValueError: A filter compares numbers with text or text with numbers, or filters are nested too deep.
    """
    require_nesting_within_limit(filters)
    asked = list(_flattened(filters)) if filters is not None and stores else []
    if not asked:
        return
    known = {key for store in stores for key in store.metadata_keys()}
    if unknown := sorted({filter_.key for filter_ in asked} - known):
        offered = sorted(known - INTERNAL_METADATA_KEYS)
        raise UnknownMetadataError(
            f"no image and no text has the metadata {', '.join(map(repr, unknown))} that the filters ask for; "
            f"there is {', '.join(map(repr, offered)) or 'none'}",
            unknown=unknown,
            known=offered,
        )
    examples = {
        key: [example for store in stores for example in store.metadata_examples(key)]
        for key in {filter_.key for filter_ in asked}
    }
    for filter_ in asked:
        _require_same_kind(filter_, examples[filter_.key])


def _require_same_kind(filter_: MetadataFilter, examples: Sequence[MetadataExample]) -> None:
    asked = _compared(filter_.value)
    if filter_.operator in _ON_ITEMS:
        # The value is an item of a list, or a part of a text.
        held = list(examples)
    else:
        # EQ and NE compare a list with whole lists; with other operators a list names the values to compare with.
        is_list = isinstance(filter_.value, list) and filter_.operator in _ON_WHOLE_LISTS
        held = [example for example in examples if example.is_item == is_list]
    kinds = {isinstance(value, str) for value in asked}
    if not held or not kinds or kinds & {example.is_text for example in held}:
        return
    value, example, shown = asked[0], held[0], f"{filter_.value!r:.80}"
    raise ValueError(
        f"the filter {filter_.key!r} {filter_.operator.value} {shown} compares {_kind(isinstance(value, str))} "
        f"with {_kind(example.is_text)}: all values of {filter_.key!r} are {_kind(example.is_text)}, such as "
        f"{example.value!r:.80}; {_remedy(value, example)}"
    )


def _remedy(value: Any, example: MetadataExample) -> str:
    if example.is_text:
        return (
            f"compare with text, such as {str(value)!r:.80}, or index numbers: a CSV column becomes numbers if every "
            "value in it is a plain number"
        )
    return f"compare with a number, such as {example.value!r:.80}"


def _kind(is_text: bool) -> str:
    return "text" if is_text else "numbers"


def _compared(value: Any) -> list[str | int | float]:
    """Return the texts and numbers that a filter's value holds."""
    values = value if isinstance(value, list) else [value]
    return [
        each
        for each in values
        # NaN equals nothing, whatever its type.
        if isinstance(each, str | int) or (isinstance(each, float) and not math.isnan(each))
    ]


def _flattened(filters: MetadataFilters) -> Iterator[MetadataFilter]:
    for filter_ in filters.filters:
        if isinstance(filter_, MetadataFilters):
            yield from _flattened(filter_)
        elif filter_.operator != FilterOperator.IS_EMPTY:
            yield filter_
