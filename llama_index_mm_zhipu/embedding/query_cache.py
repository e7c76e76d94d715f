"""The vectors of the latest queries: the same question is often asked again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

from cachetools import LRUCache
from llama_index.core.base.embeddings.base import Embedding


class QueryCache:
    """The least recently asked leave first. Threads may share it; copies begin empty."""

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._vectors: LRUCache[Hashable, Embedding] = LRUCache(size)
        self._turn = threading.Lock()

    def __reduce__(self) -> tuple[type[QueryCache], tuple[int]]:
        """Copy and pickle an empty one."""
        return QueryCache, (self._size,)

    def get(self, key: Hashable, compute: Callable[[], Embedding]) -> Embedding:
        """Return a vector that the caller may change."""
        with self._turn:
            known = self._vectors.get(key)
        if known is None:
            known = compute()
            with self._turn:
                self._vectors[key] = known
        return list(known)
