"""Look up what a store holds: an image by its id, and the types of values under a metadata key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Any

from llama_index.core.schema import BaseNode

from llama_index_mm_zhipu.images import describe, has_image
from llama_index_mm_zhipu.readers.records import SOURCE_LOCATION
from llama_index_mm_zhipu.service.errors import UnknownNodeError
from llama_index_mm_zhipu.service.filters import KeyTypes
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.vector_store.contract import IndexStore

_MAX_CANDIDATES = 5
_MAX_COMPARED_IDS = 20_000
_MAX_ID = 1_000


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


def _similar_ids(store: IndexStore, node_id: str) -> Iterator[str]:
    """Yield ids whose part within their source is the given one, or ids that are spelled nearly alike."""
    # Stores of other makers may not list what they hold.
    if len(node_id) > _MAX_ID or not store.lists_nodes:
        return
    known = list(islice(store.metadata_texts(SOURCE_LOCATION), _MAX_COMPARED_IDS))
    same = [each for each in known if each.endswith(f"/{node_id}")]
    yield from same or get_close_matches(node_id, known)
