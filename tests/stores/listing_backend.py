"""A store in memory behind ``ExternalVectorStore``: it lists its nodes, and searches nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from llama_index_mm_zhipu.stores.backend import Abilities, StoreBackend
from llama_index_mm_zhipu.stores.records import Record, StoredNode
from llama_index_mm_zhipu.vector_store.predicates import EVERY_NODE, IdIs, Predicate
from llama_index_mm_zhipu.vector_store.ranking import Scored
from llama_index_mm_zhipu.vector_store.vector_file import Vectors

MAX_ROW_BYTES = 2_000
BATCH = 7


class ListingBackend(StoreBackend):
    """Records in a dictionary, at most ``MAX_ROW_BYTES`` each, listed in batches of ``BATCH``."""

    abilities = Abilities(frozenset({VectorStoreQueryMode.DEFAULT}), max_row_bytes=MAX_ROW_BYTES)
    name = "memory"

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.recorded: dict[str, Any] = {}

    def dimension(self) -> int | None:
        return next((len(record.vector) for record in self.records.values()), None)

    def count(self) -> int:
        return len(self.records)

    def has_texts(self) -> bool:
        return False

    def get_setting(self, key: str) -> Any:
        return self.recorded.get(key)

    def write(self, records: Sequence[Record], settings: Mapping[str, Any]) -> None:
        self.recorded.update(settings)
        for record in records:
            self.records.pop(record.key, None)
            self.records[record.key] = record

    def delete(self, predicate: Predicate) -> None:
        assert isinstance(predicate, IdIs)
        for node_id in predicate.node_ids:
            self.records.pop(self.key_of(node_id), None)

    def clear(self) -> None:
        self.records.clear()
        self.recorded.clear()

    def select(self, predicate: Predicate, *, with_vectors: bool = False) -> Iterator[list[StoredNode]]:
        assert predicate == EVERY_NODE
        keys = list(self.records)
        for start in range(0, len(keys), BATCH):
            yield list(self.fetch(keys[start : start + BATCH], with_vectors=with_vectors).values())

    def fetch(self, keys: Sequence[str], *, with_vectors: bool = False) -> dict[str, StoredNode]:
        found = [self.records[key] for key in keys if key in self.records]
        return {
            each.key: StoredNode(
                each.key, each.node_id, each.class_name, each.content, each.order, each.vector if with_vectors else None
            )
            for each in found
        }

    def vectors_of(self, keys: Sequence[str]) -> dict[str, Vectors]:
        return {key: self.records[key].vector for key in keys if key in self.records}

    def sample_vectors(self, n: int) -> Vectors:
        return np.stack([record.vector for record in self.records.values()][:n])

    def metadata_texts(self, key: str) -> Mapping[str, str]:
        raise NotImplementedError

    def nearest(self, vector: Vectors, k: int, predicate: Predicate) -> Scored[str]:
        raise NotImplementedError

    def search_text(self, query: str, k: int, predicate: Predicate) -> Scored[str]:
        raise NotImplementedError

    def close(self) -> None:
        """Do nothing."""
