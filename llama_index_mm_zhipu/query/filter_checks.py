"""Check metadata filters against the metadata in the stores: a filter that cannot match anything is an error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store.filters import require_nesting_within_limit
from llama_index_mm_zhipu.vector_store.sessions import MetadataExample

_ON_ITEMS = {FilterOperator.CONTAINS, FilterOperator.ANY, FilterOperator.ALL}
_ON_WHOLE_LISTS = {FilterOperator.EQ, FilterOperator.NE}


def require_matchable(filters: MetadataFilters | None, stores: Sequence[FaissMultiModalVectorStore]) -> None:
    """Raise an error for filters that would match no node, or every node, because of a wrong key or value type.

    Args:
        filters: The filters, which may be nested.
        stores: The stores that will apply them. Without stores nothing is checked.

    Raises:
        ValueError: No node has the key of a filter, a filter compares numbers with text or text with numbers, or
            filters are nested too deep.
    """
    require_nesting_within_limit(filters)
    asked = list(_flattened(filters)) if filters is not None and stores else []
    if not asked:
        return
    known = {key for store in stores for key in store.metadata_keys()}
    if unknown := sorted({filter_.key for filter_ in asked} - known):
        raise ValueError(
            f"no image and no text has the metadata {', '.join(map(repr, unknown))} that the filters ask for; "
            f"there is {', '.join(map(repr, sorted(known))) or 'none at all'}"
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
