"""Batches of requests, and candidates of searches by cosine: what several backends do in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from llama_index_mm_zhipu.vector_store.ranking import Scored
from llama_index_mm_zhipu.vector_store.vector_file import Vectors

ItemT = TypeVar("ItemT")

_CANDIDATES_PER_NODE, _MIN_CANDIDATES = 4, 100


def batches_by_size(
    items: Iterable[ItemT], size_of: Callable[[ItemT], int], max_size: int, max_items: int | None = None
) -> Iterator[list[ItemT]]:
    """Yield batches that fit into one request; an item that is larger than a request is a batch of its own.

    Args:
        items: The items.
        size_of: Returns the size of an item in bytes.
        max_size: Maximum size of a batch in bytes.
        max_items: Maximum number of items in a batch.

    Examples:
        >>> list(batches_by_size(["aa", "b", "cc", "dddd"], len, max_size=3))
        [['aa', 'b'], ['cc'], ['dddd']]
    """
    batch: list[ItemT] = []
    size = 0
    for item in items:
        added = size_of(item)
        if batch and (size + added > max_size or len(batch) == max_items):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += added
    if batch:
        yield batch


def cosine_candidates(k: int) -> int:
    """Return of how many nodes, found by cosine, the best ``k`` by inner product are taken."""
    return max(_MIN_CANDIDATES, _CANDIDATES_PER_NODE * k)


def best_by_inner_product(found: Sequence[tuple[str, float, float]], vector: Vectors, k: int) -> Scored[str]:
    """Return keys and inner products of the ``k`` best candidates.

    Args:
        found: Key, cosine with the vector of the query, and length of the stored vector, of each candidate.
        vector: Vector of the query.
        k: Maximum number of nodes.

    Examples:
        >>> best_by_inner_product([("short", 1.0, 0.5), ("long", 0.8, 1.0)], np.array([2.0, 0.0]), k=1)
        [('long', 1.6)]
    """
    length = float(np.linalg.norm(vector.astype(np.float64)))
    scored = [(key, cosine * own_length * length) for key, cosine, own_length in found]
    return sorted(scored, key=lambda each: -each[1])[:k]
