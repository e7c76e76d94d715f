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
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, TypeVar

import numpy as np
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

from llama_index_mm_zhipu.stores.backend import BY_TEXT, BY_VECTOR, Abilities, StoreBackend, unsupported
from llama_index_mm_zhipu.stores.filterable import TEXT, plain_key
from llama_index_mm_zhipu.stores.qdrant.calls import CollectionMissingError, calls_of
from llama_index_mm_zhipu.stores.qdrant.filters import DOCUMENT, FILTERS, OURS, compile_predicate, field_is
from llama_index_mm_zhipu.stores.qdrant.points import (
    INDEXES,
    IS_SEARCHABLE,
    LENGTH,
    NODE_ID,
    ORDER,
    RECORDED,
    SETTINGS,
    STORED_NODE,
    TEXT_OF_NODE,
    WORDS,
    Layout,
    foreign_point,
    layout_of,
    length_of,
    order_of,
    point_of,
    stored_node,
    vector_of,
)
from llama_index_mm_zhipu.stores.qdrant.sparse import weights_of_words
from llama_index_mm_zhipu.stores.records import Record, StoredNode
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.fulltext import count_words, tokens_of, words_of_query
from llama_index_mm_zhipu.vector_store.predicates import EVERY_NODE, HasValue, IdIs, Predicate
from llama_index_mm_zhipu.vector_store.ranking import Scored, Vectors

T = TypeVar("T")

_READ_BATCH = 256
"""Nodes in one answer. With inline images, they take megabytes each."""

_MAX_REQUEST_BYTES = 8 * 2**20
"""About the maximum size of a request that writes several nodes; servers take 32 MB by default."""

_BYTES_PER_NUMBER = 24
_UNCHECKED_K = 10_000
"""Largest k that is passed on as it is: servers reserve memory for it."""

_COSINE_CANDIDATES = 4
"""Candidates by cosine per wanted node, of which the best by inner product are returned."""

_MIN_COSINE_CANDIDATES = 64
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
        self._store = store
        self._client = _client_of(store)
        self._calls = calls_of(self._client)
        self._layout: Layout | None = None
        self._is_indexed = False
        self._layout_now()
        self._calls.add_user(self)

    @property
    def name(self) -> str:
        """What errors call the store, such as ``Qdrant collection "slides" at localhost:6333``."""
        return f'Qdrant collection "{self._store.collection_name}" {self._calls.place}'

    def dimension(self) -> int | None:
        """Return the dimension of the collection's vectors; None if there is no collection yet."""
        layout = self._layout_now()
        return None if layout is None else layout.dimension

    def count(self) -> int:
        """Return the number of nodes."""
        answer = self._ask(self._client.count, exact=True)
        return 0 if answer is None else answer.count

    def is_empty(self) -> bool:
        """Return whether there is no node, without counting them."""
        return self._first(None) is None

    def has_texts(self) -> bool:
        """Return whether any node has words; False for a collection without the sparse vector of text search."""
        layout = self._layout_now()
        if layout is None or not layout.has_words:
            return False
        is_searchable = models.FieldCondition(key=IS_SEARCHABLE, match=models.MatchValue(value=True))
        return self._first(models.Filter(must=[is_searchable])) is not None

    def get_setting(self, key: str) -> Any:
        """Return a setting that was written with any node that is still there, or None."""
        point = self._first(models.Filter(must=[field_is(RECORDED, [key])]), with_payload=[SETTINGS])
        return None if point is None or point.payload is None else json.loads(point.payload[OURS]["settings"][key])

    def write(self, records: Sequence[Record], settings: Mapping[str, Any]) -> None:
        """Add records in batches; settings are in each record. A batch that was written stays if a later one fails."""
        layout = self._layout_for(len(records[0].vector))
        for batch in _batches(records, self._store.batch_size):
            self._call(self._client.upsert, points=[point_of(record, layout) for record in batch], wait=True)

    def delete(self, predicate: Predicate) -> None:
        """Delete the nodes that meet a predicate."""
        selector: Any = models.FilterSelector(filter=compile_predicate(predicate, self.name))
        if isinstance(predicate, IdIs):
            # Ids need no scan. A list without any is an error.
            selector = models.PointIdsList(points=[self.key_of(node_id) for node_id in predicate.node_ids])
        self._ask(self._client.delete, points_selector=selector, wait=True)

    def clear(self) -> None:
        """Delete every node and all settings. The collection stays, with its configuration and dimension."""
        self.delete(EVERY_NODE)

    def nearest(self, vector: Vectors, k: int, predicate: Predicate) -> Scored[str]:
        """Return keys and inner products of the nearest nodes, best first."""
        layout = self._layout_now()
        if layout is None:
            return []
        k = k if k <= _UNCHECKED_K else min(k, max(1, self.count()))
        query, name = vector.tolist(), layout.vector_name
        if not layout.is_normalised:
            return [(str(point.id), point.score) for point in self._query(query, name, k, predicate, [])]
        candidates = max(_COSINE_CANDIDATES * k, _MIN_COSINE_CANDIDATES)
        length = float(np.linalg.norm(vector.astype(np.float64)))
        points = self._query(query, name, candidates, predicate, [LENGTH])
        scored = [(str(point.id), point.score * length_of(point, layout) * length) for point in points]
        return sorted(scored, key=lambda each: -each[1])[:k]

    def search_text(self, query: str, k: int, predicate: Predicate) -> Scored[str]:
        """Return keys and BM25 scores of the best nodes that have any of the words.

        Raises:
            ValueError: The collection was made without the sparse vector.
        """
        layout, words = self._layout_now(), words_of_query(query)
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
        for points in self._scroll(self._filter(predicate), STORED_NODE, with_vectors=with_vectors):
            yield self._stored_nodes(points)

    def keys_in_order(self) -> list[str]:
        """Return all keys in the order of addition; the whole collection is read, without its nodes."""
        batches = self._scroll(None, [ORDER], with_vectors=False)
        orders = [(order_of(point, self.name), str(point.id)) for points in batches for point in points]
        return [key for _, key in sorted(orders)]

    def fetch(self, keys: Sequence[str], *, with_vectors: bool = False) -> dict[str, StoredNode]:
        """Return nodes by key; keys that are not there are left out."""
        points = self._retrieve(keys, STORED_NODE, with_vectors=with_vectors)
        return {each.key: each for each in self._stored_nodes(points)}

    def vectors_of(self, keys: Sequence[str]) -> dict[str, Vectors]:
        """Return vectors by key; keys that are not there are left out."""
        return self._vectors_by_key(self._retrieve(keys, [LENGTH], with_vectors=True))

    def sample_vectors(self, n: int) -> Vectors:
        """Return vectors of at most ``n`` nodes, shape ``(m, dimension)``: those with the smallest keys.

        Keys are hashes of node ids, or UUIDs, so that these are any nodes.
        """
        batches = self._scroll(None, [LENGTH], with_vectors=True)
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
            for points in self._scroll(self._filter(HasValue(key)), parts, with_vectors=False)
            for point in points
            if point.payload is not None
        ]
        texts = {each["id"]: each.get("filters", {}).get(TEXT, {}).get(plain) for each in ours}
        return {node_id: text for node_id, text in texts.items() if text is not None}

    def close(self) -> None:
        """Close the client, unless another store of this package still uses it."""
        if self._calls.remove_user(self):
            self._client.close()

    # Calls

    def _call(self, method: Callable[..., T], **arguments: Any) -> T:
        with self._calls.reporting(self.name):
            return method(collection_name=self._store.collection_name, **arguments)

    def _ask(self, method: Callable[..., T], **arguments: Any) -> T | None:
        """Call a method of the client; None if the collection does not exist."""
        if self._layout_now() is None:
            return None
        try:
            return self._call(method, **arguments)
        except CollectionMissingError:
            if self._call(self._client.collection_exists):
                raise
            # Somebody deleted the collection, such as QdrantVectorStore.clear().
            self._layout = None
            return None

    def _query(
        self, query: Any, using: str, limit: int, predicate: Predicate, payload: list[str]
    ) -> list[models.ScoredPoint]:
        answer = self._ask(
            self._client.query_points,
            query=query,
            using=using,
            limit=limit,
            query_filter=self._filter(predicate),
            with_payload=payload or False,
        )
        return [] if answer is None else answer.points

    def _first(self, condition: models.Filter | None, with_payload: Any = False) -> models.Record | None:
        answer = self._ask(self._client.scroll, scroll_filter=condition, limit=1, with_payload=with_payload)
        points = [] if answer is None else answer[0]
        return points[0] if points else None

    def _scroll(
        self, condition: models.Filter | None, payload: list[str], *, with_vectors: bool
    ) -> Iterator[list[models.Record]]:
        offset: Any = None
        while True:
            answer = self._ask(
                self._client.scroll,
                scroll_filter=condition,
                limit=_READ_BATCH,
                offset=offset,
                with_payload=payload,
                with_vectors=self._vector_names(with_vectors),
            )
            points, offset = ([], None) if answer is None else answer
            if points:
                yield points
            if offset is None:
                return

    def _retrieve(self, keys: Sequence[str], payload: list[str], *, with_vectors: bool) -> list[models.Record]:
        found: list[models.Record] = []
        for start in range(0, len(keys), _READ_BATCH):
            answer = self._ask(
                self._client.retrieve,
                ids=list(keys[start : start + _READ_BATCH]),
                with_payload=payload,
                with_vectors=self._vector_names(with_vectors),
            )
            found += answer or []
        return found

    def _filter(self, predicate: Predicate) -> models.Filter | None:
        return None if predicate == EVERY_NODE else compile_predicate(predicate, self.name)

    def _vector_names(self, with_vectors: bool) -> list[str] | bool:
        # The sparse vectors of texts are large, and nobody reads them.
        return [self._layout.vector_name] if with_vectors and self._layout is not None else False

    def _stored_nodes(self, points: Sequence[models.Record]) -> list[StoredNode]:
        return [stored_node(point, self._known_layout(), self.name) for point in points]

    def _vectors_by_key(self, points: Sequence[models.Record]) -> dict[str, Vectors]:
        return {str(point.id): vector_of(point, self._known_layout()) for point in points}

    # The collection

    def _layout_now(self) -> Layout | None:
        """Return the vectors of the collection; None if there is no collection."""
        if self._layout is None and self._call(self._client.collection_exists):
            information = self._call(self._client.get_collection)
            layout = layout_of(information.config.params, self._store.dense_vector_name, self.name)
            # Without indexes, a server would read every point.
            self._require_own_points(all_of_them=self._calls.is_local or IS_SEARCHABLE in information.payload_schema)
            self._layout = layout
        return self._layout

    def _known_layout(self) -> Layout:
        layout = self._layout_now()
        if layout is None:
            raise StoreError(f"{self.name} was deleted while it was read; index again")
        return layout

    def _require_own_points(self, *, all_of_them: bool) -> None:
        """Check that the collection has no points of others, whose metadata filters would not find.

        Args:
            all_of_them: Whether to look for such a point among all; otherwise only one point is looked at.
        """
        is_foreign = models.IsEmptyCondition(is_empty=models.PayloadField(key=IS_SEARCHABLE))
        condition = models.Filter(must=[is_foreign]) if all_of_them else None
        points, _ = self._call(self._client.scroll, scroll_filter=condition, limit=1, with_payload=[IS_SEARCHABLE])
        if points and OURS not in (points[0].payload or {}):
            raise foreign_point(self.name, points[0].id)

    def _layout_for(self, dimension: int) -> Layout:
        """Return the vectors of the collection, which is created if it does not exist."""
        if not self._call(self._client.collection_exists):
            self._layout = None
            self._create(dimension)
        layout = self._known_layout()
        if layout.dimension != dimension:
            raise ValueError(
                f"{self.name} has vectors of dimension {layout.dimension}, not {dimension}; use the model that the "
                "collection was filled with, nothing was added"
            )
        if not self._is_indexed:
            self._create_indexes()
            self._is_indexed = True
        return layout

    def _create(self, dimension: int) -> None:
        vector, name = models.VectorParams(size=dimension, distance=models.Distance.DOT), self._store.dense_vector_name
        words = models.SparseVectorParams(modifier=models.Modifier.IDF)
        try:
            self._call(
                self._client.create_collection,
                vectors_config={name: vector} if name else vector,
                sparse_vectors_config={WORDS: words},
            )
        except StoreError:
            # Another writer may have created it in the meantime.
            if not self._call(self._client.collection_exists):
                raise

    def _create_indexes(self) -> None:
        if self._calls.is_local:
            return
        documents = {DOCUMENT: models.PayloadSchemaType.KEYWORD} if self._store.index_doc_id else {}
        for path, schema in {**documents, **INDEXES}.items():
            self._call(self._client.create_payload_index, field_name=path, field_schema=schema, wait=True)


def _client_of(store: QdrantVectorStore) -> QdrantClient:
    client = store.client
    if not isinstance(client, QdrantClient):
        raise ValueError(
            f"the QdrantVectorStore of {store.collection_name!r} has no sync client; give it client=QdrantClient(…), "
            "which async calls of ExternalVectorStore use in threads, too"
        )
    return client


def _batches(records: Sequence[Record], max_records: int) -> Iterator[list[Record]]:
    """Yield batches that fit into requests."""
    batch: list[Record] = []
    size = 0
    for record in records:
        taken = len(record.content.encode()) + _BYTES_PER_NUMBER * len(record.vector)
        if batch and (len(batch) >= max_records or size + taken > _MAX_REQUEST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += taken
    yield batch


def _text_of(point: models.ScoredPoint) -> str:
    text: str = (point.payload or {}).get(OURS, {}).get("text", "")
    return text


def _has_any(words: Sequence[str], text: str) -> bool:
    """Return whether a text has any of the words of a query."""
    # A pair of Han characters is the same in a text and in its tokens, and those of a page take half a millisecond.
    if any(_HAN_PAIR.fullmatch(word) and word in text for word in words):
        return True
    return count_words(words, tokens_of(text)) > 0
