"""What the query modes ask of a store, answered by its backend: ``BackendSearch`` and ``MeanVector``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from llama_index_mm_zhipu.images import searchable_text_of
from llama_index_mm_zhipu.stores.backend import StoreBackend
from llama_index_mm_zhipu.stores.records import StoredNode
from llama_index_mm_zhipu.vector_store.fulltext import tokens_of
from llama_index_mm_zhipu.vector_store.predicates import Predicate
from llama_index_mm_zhipu.vector_store.ranking import Scored
from llama_index_mm_zhipu.vector_store.vector_file import Vectors

_MEAN_SAMPLE = 1_000
_MEAN_SECONDS = 60.0
"""How long the mean is used before it is computed from a new sample."""


class MeanVector:
    """About the mean of all vectors of a store, for hybrid search: that of a sample, which is read once a minute.

    Args:
        backend: The store.
    """

    def __init__(self, backend: StoreBackend) -> None:
        self._backend = backend
        self._last: tuple[float, Vectors] | None = None

    def __call__(self) -> Vectors:
        """Return the mean, shape ``(dimension,)``; zeros for an empty store."""
        last, now = self._last, time.monotonic()
        if last is None or now - last[0] > _MEAN_SECONDS:
            sample = self._backend.sample_vectors(_MEAN_SAMPLE)
            if not len(sample):
                # Not kept: another process may add nodes.
                return np.zeros(self._backend.dimension() or 0, np.float32)
            last = self._last = now, sample.mean(axis=0)
        return last[1]

    def forget(self) -> None:
        """Read a new sample the next time."""
        self._last = None


class BackendSearch:
    """Search over the nodes of a store that meet a predicate: what ``Ranking`` asks of a store.

    Args:
        backend: The store.
        predicate: Predicate on the nodes.
        mean_vector: Returns about the mean of all vectors.
    """

    def __init__(self, backend: StoreBackend, predicate: Predicate, mean_vector: Callable[[], Vectors]) -> None:
        self._backend = backend
        self._predicate = predicate
        self._mean_of_store = mean_vector
        self._fetched: dict[str, StoredNode] = {}

    @property
    def max_k(self) -> int:
        """Maximum number of results of one search."""
        return self._backend.abilities.max_k

    @property
    def dimension(self) -> int | None:
        """Dimension of the vectors; None if the store never had one."""
        return self._backend.dimension()

    def nearest(self, vector: Vectors, k: int) -> Scored[str]:
        """Return keys and inner products of the ``k`` nearest nodes, best first."""
        return self._backend.nearest(vector, k, self._predicate)

    def search_text(self, query: str, k: int) -> Scored[str]:
        """Return keys and BM25 scores of the ``k`` best texts with any of the words, best first."""
        return self._backend.search_text(query, k, self._predicate)

    def vectors_of(self, ids: Sequence[str]) -> Vectors:
        """Return vectors by key, in their order; zeros for a node that was deleted meanwhile."""
        vectors = self._backend.vectors_of(ids)
        nothing = np.zeros(self.dimension or 0, np.float32)
        return np.stack([vectors.get(key, nothing) for key in ids])

    def mean_vector(self) -> Vectors:
        """Return about the mean of all vectors of the store."""
        return self._mean_of_store()

    def tokens_of_texts(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Return the full-text tokens of nodes by key."""
        return {key: tokens_of(searchable_text_of(each.node())) for key, each in self.fetch(ids).items()}

    def fetch(self, keys: Sequence[str]) -> dict[str, StoredNode]:
        """Return nodes by key; each is read once."""
        if missing := [key for key in keys if key not in self._fetched]:
            self._fetched |= self._backend.fetch(missing)
        return {key: self._fetched[key] for key in keys if key in self._fetched}
