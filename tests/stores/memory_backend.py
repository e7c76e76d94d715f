"""A backend in memory, for tests of what ``ExternalVectorStore`` does itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from llama_index_mm_zhipu.stores.backend import BY_VECTOR, Abilities, StoreBackend
from llama_index_mm_zhipu.stores.records import Record, StoredNode
from llama_index_mm_zhipu.vector_store.predicates import AllOf, DocumentIs, IdIs, Predicate, ScalarIs
from llama_index_mm_zhipu.vector_store.ranking import Scored
from llama_index_mm_zhipu.vector_store.vector_file import Vectors


class MemoryBackend(StoreBackend):
    """Keeps records in a dictionary. Of the predicates it knows ids, documents and equal values."""

    abilities: ClassVar[Abilities] = Abilities(modes=BY_VECTOR)

    def __init__(self, store: BasePydanticVectorStore) -> None:
        self.records: dict[str, Record] = {}

    @property
    def name(self) -> str:
        return "memory"

    def dimension(self) -> int | None:
        return next((len(each.vector) for each in self.records.values()), None)

    def count(self) -> int:
        return len(self.records)

    def has_texts(self) -> bool:
        return False

    def get_setting(self, key: str) -> Any:
        return next((each.settings[key] for each in self.records.values() if key in each.settings), None)

    def write(self, records: Sequence[Record], settings: Mapping[str, Any]) -> None:
        self.records.update({record.key: record for record in records})

    def delete(self, predicate: Predicate) -> None:
        self.records = {key: each for key, each in self.records.items() if not meets(each, predicate)}

    def clear(self) -> None:
        self.records = {}

    def nearest(self, vector: Vectors, k: int, predicate: Predicate) -> Scored[str]:
        scores = [(each.key, float(each.vector @ vector)) for each in self._matching(predicate)]
        return sorted(scores, key=lambda scored: -scored[1])[:k]

    def search_text(self, query: str, k: int, predicate: Predicate) -> Scored[str]:
        raise NotImplementedError

    def select(self, predicate: Predicate, *, with_vectors: bool = False) -> Iterator[list[StoredNode]]:
        yield [stored(each, with_vectors) for each in self._matching(predicate)]

    def fetch(self, keys: Sequence[str], *, with_vectors: bool = False) -> dict[str, StoredNode]:
        return {key: stored(self.records[key], with_vectors) for key in keys if key in self.records}

    def vectors_of(self, keys: Sequence[str]) -> dict[str, Vectors]:
        return {key: self.records[key].vector for key in keys if key in self.records}

    def sample_vectors(self, n: int) -> Vectors:
        return np.stack([each.vector for each in self.records.values()][:n])

    def metadata_texts(self, key: str) -> Mapping[str, str]:
        values = {each.node_id: each.metadata.get(key) for each in self.records.values()}
        return {node_id: value for node_id, value in values.items() if isinstance(value, str)}

    def close(self) -> None:
        pass

    def _matching(self, predicate: Predicate) -> list[Record]:
        return [each for each in self.records.values() if meets(each, predicate)]


def stored(record: Record, with_vectors: bool) -> StoredNode:
    """Return a record as a store returns it."""
    vector = record.vector if with_vectors else None
    return StoredNode(record.key, record.node_id, record.class_name, record.content, record.order, vector)


def meets(record: Record, predicate: Predicate) -> bool:
    """Return whether a record meets a predicate."""
    if isinstance(predicate, AllOf):
        return all(meets(record, part) for part in predicate.parts)
    if isinstance(predicate, IdIs):
        return record.node_id in predicate.node_ids
    if isinstance(predicate, DocumentIs):
        return record.ref_doc_id in predicate.ref_doc_ids
    if isinstance(predicate, ScalarIs):
        return record.metadata.get(predicate.key) in predicate.values
    raise NotImplementedError(predicate)
