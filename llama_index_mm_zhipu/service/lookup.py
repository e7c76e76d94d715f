"""Look up what a store holds: an image by its id, and the types of values under a metadata key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Any, Literal

from llama_index.core.schema import BaseNode

from llama_index_mm_zhipu.images import describe, has_image
from llama_index_mm_zhipu.readers.records import SOURCE_LOCATION
from llama_index_mm_zhipu.service.conversion import OWN_METADATA_KEYS
from llama_index_mm_zhipu.service.errors import UnknownNodeError
from llama_index_mm_zhipu.service.filters import KeyTypes
from llama_index_mm_zhipu.service.results import FilterOption
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.vector_store.contract import IndexStore

_MAX_CANDIDATES = 5
_MAX_COMPARED_IDS = 20_000
_MAX_ID = 1_000
_MAX_KEYS = 50
_MAX_VALUES = 20


def image_with_id(store: IndexStore, node_id: str) -> BaseNode:
    """Return an image by its id.

    Raises:
        UnknownNodeError: No image has this id.
    """
    for node in store.get_nodes(node_ids=[node_id]):
        if has_image(node):
            return node
    near = list(islice(_similar_ids(store, node_id), _MAX_CANDIDATES))
    advice = f"; did you mean {', '.join(map(one_line, near))}?" if near else ""
    # Clients take an image in base64 for an id, too.
    raise UnknownNodeError(f"no image has the id {describe(node_id)}{advice}")


def types_of_values(stores: Sequence[Any], key: str) -> KeyTypes:
    """Return the types of the values under a key; none for stores that cannot tell."""
    known = [store for store in stores if hasattr(store, "metadata_examples")]
    examples = [example for store in known for example in store.metadata_examples(key)]
    return KeyTypes(
        has_text=any(example.is_text for example in examples),
        has_numbers=any(not example.is_text for example in examples),
        are_lists=bool(examples) and all(example.is_item for example in examples),
    )


def filter_options(stores: Sequence[Any]) -> list[FilterOption]:
    """Return the metadata keys of stores that can tell them, with the types and examples of their values.

    The time does not depend on the number of nodes.
    """
    known = [store for store in stores if hasattr(store, "metadata_values")]
    keys = sorted({key for store in known for key in store.metadata_keys()} - OWN_METADATA_KEYS)
    return [_filter_option(known, key) for key in keys[:_MAX_KEYS]]


def _filter_option(stores: Sequence[Any], key: str) -> FilterOption:
    texts: set[str] = set()
    numbers: list[float] = []
    for store in stores:
        found = store.metadata_values(key, _MAX_VALUES)
        texts.update(found.texts)
        numbers.extend(found.numbers)
    types: list[Literal["text", "number"]] = []
    if texts:
        types.append("text")
    if numbers:
        types.append("number")
    return FilterOption(
        key=key,
        types=types,
        values=sorted(texts)[:_MAX_VALUES],
        min=min(numbers, default=None),
        max=max(numbers, default=None),
    )


def _similar_ids(store: IndexStore, node_id: str) -> Iterator[str]:
    """Yield ids whose part within their source is the given one, or ids that are spelled nearly alike."""
    # Stores of other makers may not list what they hold.
    if len(node_id) > _MAX_ID or not store.lists_nodes:
        return
    known = list(islice(store.metadata_texts(SOURCE_LOCATION), _MAX_COMPARED_IDS))
    same = [each for each in known if each.endswith(f"/{node_id}")]
    yield from same or get_close_matches(node_id, known)
