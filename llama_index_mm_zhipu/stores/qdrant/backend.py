"""``QdrantBackend``: collections of Qdrant, on a server or in local mode.

Tests run in local mode, because no server is to be had as a package. The backend calls only what both have and both
document in the same way. These things only a server does:

- It uses payload indexes. Those of documents and settings are created; one of a metadata key is the user's choice:
  ``client.create_payload_index("slides", "_mm_zhipu.filters.number.page", "integer")``. A server in strict mode refuses
  filters without one.
- Its search by vector is approximate (HNSW), and IDF counts deleted points until they are removed from segments.
- Filters with a part of a text need a version that knows ``MatchSubstring``; an older one answers with an error.
- Several processes may use a collection. A folder of local mode belongs to one client.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import models

from llama_index_mm_zhipu.stores.backend import BY_TEXT, BY_VECTOR, Abilities, StoreBackend, unsupported
from llama_index_mm_zhipu.stores.batches import batches_by_size, best_by_inner_product, cosine_candidates
from llama_index_mm_zhipu.stores.filterable import TEXT, plain_key
from llama_index_mm_zhipu.stores.qdrant.collection import Collection
from llama_index_mm_zhipu.stores.qdrant.filters import FILTERS, OURS, compile_predicate, field_is
from llama_index_mm_zhipu.stores.qdrant.points import (
    IS_SEARCHABLE,
    LENGTH,
    NODE_ID,
    ORDER,
    RECORDED,
    SETTINGS,
    STORED_NODE,
    TEXT_OF_NODE,
    WORDS,
    length_of,
    order_of,
    point_of,
    stored_node,
    vector_of,
)
from llama_index_mm_zhipu.stores.qdrant.sparse import weights_of_words
from llama_index_mm_zhipu.stores.records import Record, StoredNode
from llama_index_mm_zhipu.vector_store.fulltext import count_words, tokens_of, words_of_query
from llama_index_mm_zhipu.vector_store.predicates import EVERY_NODE, HasValue, IdIs, Predicate
from llama_index_mm_zhipu.vector_store.ranking import Scored
from llama_index_mm_zhipu.vector_store.vector_file import Vectors

_MAX_REQUEST_BYTES = 8 * 2**20
"""About the maximum size of a request that writes several nodes; servers take 32 MB by default."""

_BYTES_PER_NUMBER = 24
_UNCHECKED_K = 10_000
"""Largest k that is passed on as it is: servers reserve memory for it."""

_HAN_PAIR = re.compile("[\u4e00-\u9fff]{2}")


class QdrantBackend(StoreBackend):
    """A collection of Qdrant.

    A collection that does not exist is created by the first ``write``: a vector under the store's
    ``dense_vector_name`` with distance Dot, whose scores are inner products, and the sparse vector ``WORDS`` for text
    search. To choose anything else (quantization, shards, memory), create the collection before, with such vectors.

    In a collection with distance Cosine, which Qdrant stores vectors of unit length in, the lengths are kept beside
    them. The best nodes by inner product are chosen from several times as many by cosine, so that a much longer vector
    in another direction may be missed.

    Args:
        store: The store; its ``client``, ``collection_name``, ``dense_vector_name``, ``batch_size`` and
            ``index_doc_id`` are used.

    Raises:
        StoreError: The server cannot be reached, or refuses the user.
        ValueError: The store has no sync client; or the collection has no such vector, another distance, or points that
            ``ExternalVectorStore`` did not add.
    """

    abilities: ClassVar[Abilities] = Abilities(modes=BY_VECTOR | BY_TEXT, max_row_bytes=30 * 2**20)

    def __init__(self, store: QdrantVectorStore) -> None:
        self._batch_size = store.batch_size
        self._collection = Collection(store)

    @property
    def name(self) -> str:
        """What errors call the store, such as ``Qdrant collection "slides" at localhost:6333``."""
        return self._collection.name

    def dimension(self) -> int | None:
        """Return the dimension of the collection's vectors; None if there is no collection yet."""
        layout = self._collection.layout()
        return None if layout is None else layout.dimension

    def count(self) -> int:
        """Return the number of nodes."""
        answer = self._collection.ask(self._collection.client.count, exact=True)
        return 0 if answer is None else answer.count

    def is_empty(self) -> bool:
        """Return whether there is no node, without counting them."""
        return self._collection.first(None) is None

    def has_texts(self) -> bool:
        """Return whether any node has words; False for a collection without the sparse vector of text search."""
        layout = self._collection.layout()
        if layout is None or not layout.has_words:
            return False
        is_searchable = models.FieldCondition(key=IS_SEARCHABLE, match=models.MatchValue(value=True))
        return self._collection.first(models.Filter(must=[is_searchable])) is not None

    def get_setting(self, key: str) -> Any:
        """Return a setting that was written with any node that is still there, or None."""
        point = self._collection.first(models.Filter(must=[field_is(RECORDED, [key])]), with_payload=[SETTINGS])
        return None if point is None or point.payload is None else json.loads(point.payload[OURS]["settings"][key])

    def write(self, records: Sequence[Record], settings: Mapping[str, Any]) -> None:
        """Add records in batches; settings are in each record. A batch that was written stays if a later one fails."""
        layout = self._collection.layout_for(len(records[0].vector))
        for batch in batches_by_size(records, _size_of, _MAX_REQUEST_BYTES, self._batch_size):
            self._collection.call(
                self._collection.client.upsert, points=[point_of(record, layout) for record in batch], wait=True
            )

    def delete(self, predicate: Predicate) -> None:
        """Delete the nodes that meet a predicate."""
        selector: Any = models.FilterSelector(filter=compile_predicate(predicate, self.name))
        if isinstance(predicate, IdIs):
            # Ids need no scan. A list without any is an error.
            selector = models.PointIdsList(points=[self.key_of(node_id) for node_id in predicate.node_ids])
        self._collection.ask(self._collection.client.delete, points_selector=selector, wait=True)

    def clear(self) -> None:
        """Delete every node and all settings. The collection stays, with its configuration and dimension."""
        self.delete(EVERY_NODE)

    def nearest(self, vector: Vectors, k: int, predicate: Predicate) -> Scored[str]:
        """Return keys and inner products of the nearest nodes, best first."""
        layout = self._collection.layout()
        if layout is None:
            return []
        k = k if k <= _UNCHECKED_K else min(k, max(1, self.count()))
        query, name = vector.tolist(), layout.vector_name
        if not layout.is_normalised:
            return [(str(point.id), point.score) for point in self._query(query, name, k, predicate, [])]
        points = self._query(query, name, cosine_candidates(k), predicate, [LENGTH])
        found = [(str(point.id), point.score, length_of(point, layout)) for point in points]
        return best_by_inner_product(found, vector, k)

    def search_text(self, query: str, k: int, predicate: Predicate) -> Scored[str]:
        """Return keys and BM25 scores of the best nodes that have any of the words.

        Raises:
            ValueError: The collection was made without the sparse vector.
        """
        layout, words = self._collection.layout(), words_of_query(query)
        if layout is None or not words:
            return []
        if not layout.has_words:
            advice = f"the collection was made without the sparse vector {WORDS!r}; index into a new collection"
            raise unsupported(self.name, "search by text", advice)
        indices, values = weights_of_words(words)
        weights = models.SparseVector(indices=indices, values=values)
        limit = k
        while True:
            points = self._query(weights, WORDS, limit, predicate, [TEXT_OF_NODE])
            # Two words may have one index, and the pairs of a word may be there without the word.
            found = [(str(point.id), point.score) for point in points if _has_any(words, _text_of(point))]
            if len(found) >= k or len(points) < limit:
                return found[:k]
            limit *= 2

    def select(self, predicate: Predicate, *, with_vectors: bool = False) -> Iterator[list[StoredNode]]:
        """Yield batches of the nodes that meet a predicate, in the order of their keys."""
        for points in self._collection.scroll(self._filter(predicate), STORED_NODE, with_vectors=with_vectors):
            yield self._stored_nodes(points)

    def keys_in_order(self) -> list[str]:
        """Return all keys in the order of addition; the whole collection is read, without its nodes."""
        batches = self._collection.scroll(None, [ORDER], with_vectors=False)
        orders = [(order_of(point, self.name), str(point.id)) for points in batches for point in points]
        return [key for _, key in sorted(orders)]

    def fetch(self, keys: Sequence[str], *, with_vectors: bool = False) -> dict[str, StoredNode]:
        """Return nodes by key; keys that are not there are left out."""
        points = self._collection.retrieve(keys, STORED_NODE, with_vectors=with_vectors)
        return {each.key: each for each in self._stored_nodes(points)}

    def vectors_of(self, keys: Sequence[str]) -> dict[str, Vectors]:
        """Return vectors by key; keys that are not there are left out."""
        return self._vectors_by_key(self._collection.retrieve(keys, [LENGTH], with_vectors=True))

    def sample_vectors(self, n: int) -> Vectors:
        """Return vectors of at most ``n`` nodes, shape ``(m, dimension)``: those with the smallest keys.

        Keys are hashes of node ids, or UUIDs, so that these are any nodes.
        """
        batches = self._collection.scroll(None, [LENGTH], with_vectors=True)
        points = list(islice((point for batch in batches for point in batch), n))
        if not points:
            return np.empty((0, self.dimension() or 0), np.float32)
        return np.stack(list(self._vectors_by_key(points).values()))

    def metadata_texts(self, key: str) -> Mapping[str, str]:
        """Return the texts under a metadata key by node id, without reading the nodes."""
        plain = plain_key(key)
        parts = [NODE_ID, f"{FILTERS}.{TEXT}.{plain}"]
        ours = [
            point.payload[OURS]
            for points in self._collection.scroll(self._filter(HasValue(key)), parts, with_vectors=False)
            for point in points
            if point.payload is not None
        ]
        texts = {each["id"]: each.get("filters", {}).get(TEXT, {}).get(plain) for each in ours}
        return {node_id: text for node_id, text in texts.items() if text is not None}

    def close(self) -> None:
        """Close the client, unless another store of this package still uses it."""
        self._collection.close()

    def _query(
        self, query: Any, using: str, limit: int, predicate: Predicate, payload: list[str]
    ) -> list[models.ScoredPoint]:
        answer = self._collection.ask(
            self._collection.client.query_points,
            query=query,
            using=using,
            limit=limit,
            query_filter=self._filter(predicate),
            with_payload=payload or False,
        )
        return [] if answer is None else answer.points

    def _filter(self, predicate: Predicate) -> models.Filter | None:
        return None if predicate == EVERY_NODE else compile_predicate(predicate, self.name)

    def _stored_nodes(self, points: Sequence[models.Record]) -> list[StoredNode]:
        return [stored_node(point, self._collection.known_layout(), self.name) for point in points]

    def _vectors_by_key(self, points: Sequence[models.Record]) -> dict[str, Vectors]:
        return {str(point.id): vector_of(point, self._collection.known_layout()) for point in points}


def _size_of(record: Record) -> int:
    """Return about the size of a point in a request, in bytes."""
    return len(record.content.encode()) + _BYTES_PER_NUMBER * len(record.vector)


def _text_of(point: models.ScoredPoint) -> str:
    text: str = (point.payload or {}).get(OURS, {}).get("text", "")
    return text


def _has_any(words: Sequence[str], text: str) -> bool:
    """Return whether a text has any of the words of a query."""
    # A pair of Han characters is the same in a text and in its tokens, and those of a page take half a millisecond.
    if any(_HAN_PAIR.fullmatch(word) and word in text for word in words):
        return True
    return count_words(words, tokens_of(text)) > 0
