"""``Collection``: a collection of Qdrant that may not exist yet, that ``write`` creates, and that others may delete."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

from llama_index_mm_zhipu.stores.qdrant.calls import CollectionMissingError, calls_of
from llama_index_mm_zhipu.stores.qdrant.filters import DOCUMENT, OURS
from llama_index_mm_zhipu.stores.qdrant.points import (
    INDEXES,
    IS_SEARCHABLE,
    WORDS,
    Layout,
    foreign_point,
    layout_of,
)
from llama_index_mm_zhipu.vector_store.errors import StoreError

T = TypeVar("T")

_READ_BATCH = 256
"""Nodes in one answer. With inline images, they take megabytes each."""


class Collection:
    """A collection.

    Args:
        store: The store whose client and settings are used.

    Attributes:
        client: The client of the store.
        name: What errors call the collection, such as ``Qdrant collection "slides" at localhost:6333``.

    Raises:
        StoreError: The server cannot be reached, or refuses the user.
        ValueError: The store has no sync client, or the collection cannot be used.
    """

    def __init__(self, store: QdrantVectorStore) -> None:
        self._store = store
        self.client = _client_of(store)
        self._calls = calls_of(self.client)
        self.name = f'Qdrant collection "{store.collection_name}" {self._calls.place}'
        self._known: Layout | None = None
        self._is_indexed = False
        self.layout()
        self._calls.add_user(self)

    def layout(self) -> Layout | None:
        """Return the vectors of the collection; None if there is no collection."""
        if self._known is None and self.call(self.client.collection_exists):
            information = self.call(self.client.get_collection)
            layout = layout_of(information.config.params, self._store.dense_vector_name, self.name)
            # Without indexes, a server would read every point.
            self._require_own_points(all_of_them=self._calls.is_local or IS_SEARCHABLE in information.payload_schema)
            self._known = layout
        return self._known

    def known_layout(self) -> Layout:
        """Return the vectors of a collection that must be there."""
        layout = self.layout()
        if layout is None:
            raise StoreError(f"{self.name} was deleted while it was read; index again")
        return layout

    def layout_for(self, dimension: int) -> Layout:
        """Return the vectors of the collection, which is created if it does not exist.

        Raises:
            ValueError: Its vectors have another dimension.
        """
        if not self.call(self.client.collection_exists):
            self._known = None
            self._create(dimension)
        layout = self.known_layout()
        if layout.dimension != dimension:
            raise ValueError(
                f"{self.name} has vectors of dimension {layout.dimension}, not {dimension}; use the model that the "
                "collection was filled with, nothing was added"
            )
        if not self._is_indexed:
            self._create_indexes()
            self._is_indexed = True
        return layout

    def call(self, method: Callable[..., T], **arguments: Any) -> T:
        """Call a method of the client, with errors that name the collection."""
        with self._calls.reporting(self.name):
            return method(collection_name=self._store.collection_name, **arguments)

    def ask(self, method: Callable[..., T], **arguments: Any) -> T | None:
        """Call a method of the client; None if the collection does not exist."""
        if self.layout() is None:
            return None
        try:
            return self.call(method, **arguments)
        except CollectionMissingError:
            if self.call(self.client.collection_exists):
                raise
            # Somebody deleted the collection, such as QdrantVectorStore.clear().
            self._known = None
            return None

    def first(self, condition: models.Filter | None, with_payload: Any = False) -> models.Record | None:
        """Return any point that meets a condition, or None."""
        answer = self.ask(self.client.scroll, scroll_filter=condition, limit=1, with_payload=with_payload)
        points = [] if answer is None else answer[0]
        return points[0] if points else None

    def scroll(
        self, condition: models.Filter | None, payload: list[str], *, with_vectors: bool
    ) -> Iterator[list[models.Record]]:
        """Yield batches of the points that meet a condition, with parts of their payload."""
        offset: Any = None
        while True:
            answer = self.ask(
                self.client.scroll,
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

    def retrieve(self, keys: Sequence[str], payload: list[str], *, with_vectors: bool) -> list[models.Record]:
        """Return the points with these keys that are there, with parts of their payload."""
        found: list[models.Record] = []
        for start in range(0, len(keys), _READ_BATCH):
            answer = self.ask(
                self.client.retrieve,
                ids=list(keys[start : start + _READ_BATCH]),
                with_payload=payload,
                with_vectors=self._vector_names(with_vectors),
            )
            found += answer or []
        return found

    def close(self) -> None:
        """Close the client, unless another store of this package still uses it."""
        if self._calls.remove_user(self):
            self.client.close()

    def _require_own_points(self, *, all_of_them: bool) -> None:
        """Check that the collection has no points of others, whose metadata filters would not find.

        Args:
            all_of_them: Whether to look for such a point among all; otherwise only one point is looked at.
        """
        is_foreign = models.IsEmptyCondition(is_empty=models.PayloadField(key=IS_SEARCHABLE))
        condition = models.Filter(must=[is_foreign]) if all_of_them else None
        points, _ = self.call(self.client.scroll, scroll_filter=condition, limit=1, with_payload=[IS_SEARCHABLE])
        if points and OURS not in (points[0].payload or {}):
            raise foreign_point(self.name, points[0].id)

    def _create(self, dimension: int) -> None:
        vector, name = models.VectorParams(size=dimension, distance=models.Distance.DOT), self._store.dense_vector_name
        words = models.SparseVectorParams(modifier=models.Modifier.IDF)
        try:
            self.call(
                self.client.create_collection,
                vectors_config={name: vector} if name else vector,
                sparse_vectors_config={WORDS: words},
            )
        except StoreError:
            # Another writer may have created it in the meantime.
            if not self.call(self.client.collection_exists):
                raise

    def _create_indexes(self) -> None:
        if self._calls.is_local:
            return
        documents = {DOCUMENT: models.PayloadSchemaType.KEYWORD} if self._store.index_doc_id else {}
        for path, schema in {**documents, **INDEXES}.items():
            self.call(self.client.create_payload_index, field_name=path, field_schema=schema, wait=True)

    def _vector_names(self, with_vectors: bool) -> list[str] | bool:
        # The sparse vectors of texts are large, and nobody reads them.
        layout = self.layout() if with_vectors else None
        return False if layout is None else [layout.vector_name]


def _client_of(store: QdrantVectorStore) -> QdrantClient:
    client = store.client
    if not isinstance(client, QdrantClient):
        raise ValueError(
            f"the QdrantVectorStore of {store.collection_name!r} has no sync client; give it client=QdrantClient(…), "
            "which async calls of ExternalVectorStore use in threads, too"
        )
    return client
