"""Listing of all nodes of a store in the order of addition, whether the store can sort or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, dropwhile

from llama_index.core.utils import iter_batch

from llama_index_mm_zhipu.stores.backend import StoreBackend
from llama_index_mm_zhipu.stores.records import StoredNode
from llama_index_mm_zhipu.vector_store.predicates import EVERY_NODE


def all_nodes(
    backend: StoreBackend, batch_size: int, *, after: str | None, with_vectors: bool
) -> Iterator[list[StoredNode]]:
    """Return batches of all nodes in the order of addition.

    Args:
        backend: The store.
        batch_size: Maximum number of nodes in a batch.
        after: Id of a node; the nodes after it are returned. None returns all.
        with_vectors: Whether to return vectors.

    Raises:
        ValueError: There is no node with the id ``after``.
    """
    keys = backend.keys_in_order()
    if keys is None:
        return _sorted_by_store(backend, batch_size, after, with_vectors)
    if after is not None:
        key = backend.key_of(after)
        if key not in keys:
            raise _missing(backend, after)
        keys = keys[keys.index(key) + 1 :]
    return _fetched(backend, keys, batch_size, with_vectors)


def _sorted_by_store(
    backend: StoreBackend, batch_size: int, after: str | None, with_vectors: bool
) -> Iterator[list[StoredNode]]:
    stored: Iterator[StoredNode] = chain.from_iterable(backend.select(EVERY_NODE, with_vectors=with_vectors))
    if after is not None:
        stored = dropwhile(lambda each: each.node_id != after, stored)
        if next(stored, None) is None:
            raise _missing(backend, after)
    return iter(iter_batch(stored, batch_size))


def _fetched(
    backend: StoreBackend, keys: Sequence[str], batch_size: int, with_vectors: bool
) -> Iterator[list[StoredNode]]:
    for start in range(0, len(keys), batch_size):
        batch = keys[start : start + batch_size]
        stored = backend.fetch(batch, with_vectors=with_vectors)
        # Nodes that were deleted meanwhile are left out.
        yield [stored[key] for key in batch if key in stored]


def _missing(backend: StoreBackend, node_id: str) -> ValueError:
    return ValueError(f"{backend.name} has no node {node_id!r:.80} to begin after")
