"""``ExternalVectorStore``: makes any vector store of LlamaIndex what an index needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from llama_index_mm_zhipu.arguments import KnownFields, as_ids, member_of, require_known, require_positive
from llama_index_mm_zhipu.images import as_image_node, has_image
from llama_index_mm_zhipu.stores.backend import StoreBackend, too_large, unsupported
from llama_index_mm_zhipu.stores.backends import backend_of
from llama_index_mm_zhipu.stores.image_storage import IN_NODES, ImageStorage, image_storage_at
from llama_index_mm_zhipu.stores.listing import all_nodes
from llama_index_mm_zhipu.stores.records import Record, StoredNode, records_of
from llama_index_mm_zhipu.stores.search import BackendSearch, MeanVector
from llama_index_mm_zhipu.text import replace_lone_surrogates
from llama_index_mm_zhipu.vector_store.async_calls import AsyncCallsInThreads
from llama_index_mm_zhipu.vector_store.contract import MODEL, ScoredQueryResult
from llama_index_mm_zhipu.vector_store.errors import ModelMismatchError
from llama_index_mm_zhipu.vector_store.predicates import (
    EVERY_NODE,
    DocumentIs,
    Predicate,
    predicate_of_nodes,
    predicate_of_query,
)
from llama_index_mm_zhipu.vector_store.ranking import QueryOptions, RankedNode, Ranking
from llama_index_mm_zhipu.vector_store.vector_file import Vectors


class ExternalVectorStore(KnownFields, AsyncCallsInThreads):
    """Makes any vector store of LlamaIndex what an index needs: ``build_index(…, image_store=…)`` wraps stores in it.

    Nodes, filters, scores and modes mean the same as in ``FaissMultiModalVectorStore``: a node replaces the one with
    its id, images come back as images, scores are inner products, and ``node_ids``, ``doc_ids`` and filters hold. What
    a store cannot do is an error that names it. The embedding model is recorded in the store and checked.

    Postgres and Qdrant search Chinese text, alone or together with vectors; other stores refuse these modes. Stores
    that are not in ``backends.BACKENDS`` are used with caution, see ``other.OtherBackend``. Async calls run in a worker
    thread.

    Args:
        store: The store, such as ``PGVectorStore``, ``QdrantVectorStore`` or ``MilvusVectorStore``. It keeps its own
            settings (table, collection, index type).
        image_storage: Where inline images go: ``"node"`` keeps them in the store, a folder or a URL of ``fsspec``
            (``"s3://bucket/folder"``) beside it, under the hash of their content. From a URL nodes come back with their
            images, from a folder with ``image_path`` in place of ``image``. An image that is missing raises an
            ``ImageError`` when it is used, as a missing file does. Deleting nodes deletes no images.

    Raises:
        ImportError: The package for the protocol of ``image_storage`` is not installed.
        StoreError: The server cannot be reached, or refuses the user.
        TypeError: ``store`` is not a vector store of LlamaIndex, or one that an index can use as it is.
        ValueError: The store cannot be used, such as one that keeps no nodes.

    Examples:
        >>> from llama_index.core.schema import TextNode
        >>> from llama_index.core.vector_stores import VectorStoreQuery
        >>> from llama_index.vector_stores.qdrant import QdrantVectorStore
        >>> from llama_index_mm_zhipu.stores import ExternalVectorStore
        >>> from qdrant_client import QdrantClient
        >>> store = ExternalVectorStore(QdrantVectorStore("slides", client=QdrantClient(":memory:")))
        >>> store.add([TextNode(id_="a", text="飞机", embedding=[1.0, 0.0])])
        ['a']
        >>> store.query(VectorStoreQuery(query_embedding=[0.5, 0.0], similarity_top_k=1)).similarities
        [0.5]
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    # A URL may hold a password.
    image_storage: str = Field(default=IN_NODES, repr=False, exclude=True, description="Where inline images go.")

    _store: BasePydanticVectorStore = PrivateAttr()
    _backend: StoreBackend = PrivateAttr()
    _images: ImageStorage = PrivateAttr()
    _model: str | None = PrivateAttr(default=None)
    _settings: dict[str, Any] | None = PrivateAttr(default=None)
    _mean: MeanVector = PrivateAttr()
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def __init__(self, store: BasePydanticVectorStore, *, image_storage: str | Path = IN_NODES, **kwargs: Any) -> None:
        super().__init__(image_storage=str(image_storage), **kwargs)
        self._images = image_storage_at(image_storage)
        self._backend = backend_of(store)
        self._mean = MeanVector(self._backend)
        self._store = store

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this component."""
        return "ExternalVectorStore"

    @property
    def store(self) -> BasePydanticVectorStore:
        """The store that was given."""
        return self._store

    @property
    def client(self) -> Any:
        """The client of the store that was given."""
        return self._store.client

    @property
    def collection(self) -> str | None:
        """What tells this collection from others of all stores; None if that is not known."""
        return self._backend.collection

    @property
    def lists_nodes(self) -> bool:
        """Whether ``get_nodes`` finds nodes by metadata."""
        return self._backend.abilities.lists_nodes

    @property
    def searches_text(self) -> bool:
        """Whether the store has full text search."""
        return VectorStoreQueryMode.TEXT_SEARCH in self._backend.abilities.modes

    def __repr__(self) -> str:
        # The store's own repr may hold a URL with its password.
        return f"ExternalVectorStore({self._backend.name})"

    def __str__(self) -> str:
        return repr(self)

    def __getstate__(self) -> Any:
        # LlamaIndex would leave the connections out, and write the password of image_storage.
        raise TypeError(f"{self!r} cannot be pickled: it has connections; make it in each process")

    def count(self) -> int:
        """Return the number of nodes."""
        return self._backend.count()

    def is_empty(self) -> bool:
        """Return whether the store holds no node."""
        return self._backend.is_empty()

    def has_texts(self) -> bool:
        """Return whether full text search can find any node."""
        return self._backend.has_texts()

    def get_setting(self, key: str) -> Any:
        """Return a setting recorded in the store, or None."""
        return self._backend.get_setting(key)

    def settings(self) -> dict[str, Any]:
        """Return the recorded settings by key."""
        return self._backend.settings()

    def dimension(self) -> int | None:
        """Return the dimension of the vectors; None if that is not fixed yet."""
        return self._backend.dimension()

    def state_id(self) -> str | None:
        """Return a text that changes when nodes are added, replaced or deleted; None if the store cannot tell."""
        return self._backend.state_id()

    def require_model(self, fingerprint: str) -> None:
        """Check which model made the vectors; nodes that are added record it.

        Args:
            fingerprint: Fingerprint of the embedding model.

        Raises:
            ModelMismatchError: The store holds vectors of another model.
        """
        recorded = self._backend.get_setting(MODEL)
        if recorded not in (None, fingerprint) and not self.is_empty():
            raise ModelMismatchError(
                f"{self._backend.name} was filled with the model {recorded}, not with {fingerprint}; open it with that "
                "model, or build the index again in another collection"
            )
        if recorded is None:
            # There are no settings of earlier nodes, or there is no node left that has them.
            self._settings = None
        self._model = fingerprint

    def expect_vector(self, make_vector: Callable[[], Sequence[float]]) -> None:
        """Take a function that returns any vector of the right dimension.

        Stores that are used with caution only answer queries, and this is what they are asked with to see whether they
        are empty, and which model filled them. ``add`` and ``query`` give their own vectors.
        """
        self._backend.expect_vector(make_vector)

    def metadata_texts(self, key: str) -> Mapping[str, str]:
        """Return the texts under a metadata key by node id, without reading the nodes."""
        return self._backend.metadata_texts(key)

    def image_paths(self) -> Mapping[str, str]:
        """Return an empty mapping: no earlier version wrote into other stores."""
        return {}

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        include_embeddings: bool = False,
        include_images: bool = True,
    ) -> list[BaseNode]:
        """Return the nodes that have one of the ids and meet the filters; all nodes if neither is given.

        Args:
            node_ids: Ids of the nodes; unknown ids are ignored.
            filters: Conditions on the metadata of the nodes.
            include_embeddings: Whether to return nodes with their vectors, so that another store can add them.
            include_images: Whether to read inline images that are kept beside the store.

        Returns:
            Nodes in the order of ``node_ids``, or in the order in which they were added.

        Raises:
            ValueError: The store cannot list nodes, or cannot filter like this.

        Examples:
            >>> from llama_index.vector_stores.qdrant import QdrantVectorStore
            >>> from llama_index_mm_zhipu.stores import ExternalVectorStore
            >>> from qdrant_client import QdrantClient
            >>> store = ExternalVectorStore(QdrantVectorStore("images", client=QdrantClient(":memory:")))
            >>> _ = build_index(nodes, embed_model, image_store=store)
            >>> [node.text for node in store.get_nodes([nodes[0].node_id])]
            ['红苹果']
        """
        node_ids = as_ids(node_ids, "node_ids")
        if node_ids is not None and not (filters and filters.filters):
            keys = list(dict.fromkeys(map(self._backend.key_of, node_ids)))
            stored = self._backend.fetch(keys, with_vectors=include_embeddings)
            return self._nodes_of([stored[key] for key in keys if key in stored], include_images)
        predicate = predicate_of_nodes(node_ids, filters)
        found = [each for batch in self._select(predicate, include_embeddings) for each in batch]
        if node_ids is not None:
            position = {node_id: position for position, node_id in enumerate(node_ids)}
            return self._nodes_of(sorted(found, key=lambda each: position[each.node_id]), include_images)
        return self._nodes_of(sorted(found, key=lambda each: each.order), include_images)

    def iter_nodes(
        self, batch_size: int = 256, *, include_embeddings: bool = True, after: str | None = None
    ) -> Iterator[list[BaseNode]]:
        """Yield all nodes in the order of addition, in batches.

        What happens to nodes that are changed meanwhile depends on the store.

        Args:
            batch_size: Maximum number of nodes in a batch. Memory holds one batch, one of the store's own, and for
                stores that cannot sort, such as Qdrant and Milvus, the ids of all nodes: about 150 bytes each.
            include_embeddings: Whether to return nodes with their vectors.
            after: Id of a node; the nodes after it are yielded. A store that sorts reads those before it, too.

        Raises:
            ValueError: ``batch_size`` is not above 0, there is no node with the id ``after``, or the store cannot list
                nodes.
        """
        require_positive(batch_size, "batch_size")
        self._require_listing()
        batches = all_nodes(self._backend, batch_size, after=after, with_vectors=include_embeddings)
        return map(self._nodes_of, batches)

    def with_images_inline(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return nodes that came from this store, with the images that it keeps in the folder ``image_storage``.

        Such nodes are complete on other machines as well. Files that were nodes' own when they were added stay paths.
        A node whose image is missing or damaged comes without it; whoever opens it gets an ``ImageError``.
        """
        return self._images.with_images_inline(nodes)

    def get_nodes_of_document(self, ref_doc_id: str) -> list[BaseNode]:
        """Return the nodes of a document in the order of addition; a node without a source is its own document."""
        document = DocumentIs((replace_lone_surrogates(ref_doc_id),))
        found = [each for batch in self._select(document, False) for each in batch]
        return self._nodes_of(sorted(found, key=lambda each: each.order))

    def document_ids(self) -> list[str]:
        """Return the ids of the documents that nodes came from; a node without a source is its own document.

        All nodes are read, batch after batch.
        """
        found = (each.node() for batch in self._select(EVERY_NODE, False) for each in batch)
        return list(dict.fromkeys(node.ref_doc_id or node.node_id for node in found))

    def get_vectors(self, node_ids: Sequence[str]) -> tuple[list[str], Vectors]:
        """Return the stored vectors of nodes.

        Args:
            node_ids: Ids of the nodes; unknown ids are ignored.

        Returns:
            The known node ids, and their vectors, float32 of shape ``(n, dimension)``.
        """
        ids_by_key = {self._backend.key_of(node_id): node_id for node_id in as_ids(node_ids, "node_ids") or []}
        vectors = self._backend.vectors_of(list(ids_by_key))
        stacked = np.stack(list(vectors.values())) if vectors else np.empty((0, 0), np.float32)
        return [ids_by_key[key] for key in vectors], stacked

    def query(
        self,
        query: VectorStoreQuery,
        *,
        mmr_threshold: float | None = None,
        mmr_prefetch_factor: float | None = None,
        mmr_prefetch_k: int | None = None,
        **kwargs: Any,
    ) -> ScoredQueryResult:
        """Find nodes by vector, by words, or by both; modes and scores are those of ``FaissMultiModalVectorStore``.

        Args:
            query: As for ``FaissMultiModalVectorStore``.
            mmr_threshold: Threshold of ``MMR``; None takes that of the query.
            mmr_prefetch_factor: Candidates of ``MMR`` per wanted node, 4 by default.
            mmr_prefetch_k: Candidates of ``MMR`` in all, instead of ``mmr_prefetch_factor``.
            **kwargs: Unknown arguments are errors.

        Raises:
            StoreError: The server cannot be reached.
            TypeError: An argument is unknown.
            ValueError: The store does not have the mode, or cannot filter like this; or the query has no embedding, or
                one of the wrong dimension.
        """
        require_known("ExternalVectorStore.query", kwargs, QueryOptions._fields)
        self._require_mode(query.mode)
        if (vector := query.query_embedding) is not None:
            self.expect_vector(lambda: vector)
        search = BackendSearch(self._backend, predicate_of_query(query), self._mean)
        ranked = Ranking[str](search, QueryOptions(mmr_threshold, mmr_prefetch_factor, mmr_prefetch_k)).rank(query)
        return self._result_of(ranked, search)

    def add(self, nodes: Sequence[BaseNode], *, settings: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Add nodes with embeddings. A node replaces the stored node with the same id.

        Args:
            nodes: The nodes. Without any, nothing is written.
            settings: Settings to record with the nodes.
            **kwargs: Unknown arguments are errors.

        Returns:
            The node ids, in order.

        Raises:
            ModelMismatchError: The vectors in the store were made by another model in the meantime.
            StoreError: The server cannot be reached, or refuses the nodes.
            ValueError: A node has no embedding, or one of the wrong dimension or with NaN; an id is given twice; or a
                node is larger than the store's limit. Nothing is added.
        """
        require_known("ExternalVectorStore.add", kwargs, ("settings",))
        if not nodes:
            return []
        if (vector := nodes[0].embedding) is not None:
            self.expect_vector(lambda: vector)
        new = {**(settings or {}), **({MODEL: self._model} if self._model is not None else {})}
        if self._model is not None:
            self.require_model(self._model)
        everything = {**self._known_settings(), **new}
        # Other stores know image nodes only: documents and resources become such nodes.
        images_and_texts = [as_image_node(node) if has_image(node) else node for node in nodes]
        stored = self._images.with_images_stored(images_and_texts)
        dimension = self._backend.dimension()
        self._require_dimension_of_collection(nodes, dimension)
        records = records_of(stored, self._backend.key_of, dimension, everything)
        for record in records:
            self._require_size(record)
        self._backend.write(records, new)
        with self._lock:
            # Another thread may have recorded more in the meantime.
            self._settings = {**(self._settings or {}), **everything}
        self._mean.forget()
        return [record.node_id for record in records]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete all nodes of a document, if there are any; a node without a source is its own document."""
        require_known("ExternalVectorStore.delete", delete_kwargs, ())
        self._backend.delete(DocumentIs((replace_lone_surrogates(ref_doc_id),)))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete the nodes that have one of the ids and meet the filters; unknown ids are ignored.

        Raises:
            ValueError: Neither is given, or only empty filters, which every node meets; or the store cannot filter like
                this.
        """
        require_known("ExternalVectorStore.delete_nodes", delete_kwargs, ("node_ids", "filters"))
        if node_ids is None and not (filters and filters.filters):
            raise ValueError("delete_nodes needs node_ids or filters; clear() deletes every node")
        node_ids = as_ids(node_ids, "node_ids")
        if node_ids is None or node_ids:
            self._backend.delete(predicate_of_nodes(node_ids, filters))

    def clear(self) -> None:
        """Delete every node, and the recorded settings."""
        self._backend.clear()
        self._settings = None
        self._mean.forget()

    def checkpoint(self) -> None:
        """Do nothing: the store writes its own files."""

    def close(self) -> None:
        """Close the store's connections."""
        self._backend.close()

    def _known_settings(self) -> Mapping[str, Any]:
        """Return the settings that the store held when this object first added nodes, and those added since.

        Stores without a place for settings keep them beside nodes: every node records all of them, because the nodes
        that had them before may be deleted.
        """
        known = self._settings
        return self._backend.settings() if known is None else known

    def _require_mode(self, asked: VectorStoreQueryMode | str) -> None:
        mode = member_of(VectorStoreQueryMode, asked, "mode")
        modes = self._backend.abilities.modes
        if mode not in modes:
            supported = ", ".join(each.value for each in VectorStoreQueryMode if each in modes)
            raise unsupported(self._backend.name, f"search in query mode {mode.value!r}", f"use one of {supported}")

    def _require_dimension_of_collection(self, nodes: Sequence[BaseNode], dimension: int | None) -> None:
        """Check that an empty collection was made for vectors like these; ``records_of`` checks each vector."""
        given = len(nodes[0].embedding or ())
        if dimension and given and given != dimension and self.is_empty():
            raise ValueError(
                f"{self._backend.name} was made for vectors of dimension {dimension}, and the model's have {given}; "
                f"remove this empty collection, and make the store with {given} (embed_dim of PGVectorStore, dim of "
                "MilvusVectorStore); nothing was added"
            )

    def _require_size(self, record: Record) -> None:
        limit = self._backend.abilities.max_row_bytes
        size = len(record.content.encode("utf-8", errors="replace"))
        if limit is not None and size > limit:
            raise too_large(self._backend.name, record.node_id, "", size, limit)

    def _select(self, predicate: Predicate, with_vectors: bool) -> Iterator[list[StoredNode]]:
        self._require_listing()
        return self._backend.select(predicate, with_vectors=with_vectors)

    def _require_listing(self) -> None:
        if not self.lists_nodes:
            advice = "give node ids, or query with a vector"
            raise unsupported(self._backend.name, "list nodes by metadata", advice)

    def _nodes_of(self, stored: Sequence[StoredNode], include_images: bool = True) -> list[BaseNode]:
        nodes = [each.node() for each in stored]
        return self._images.with_images_read(nodes) if include_images else self._images.without_images(nodes)

    def _result_of(self, ranked: Sequence[RankedNode[str]], search: BackendSearch) -> ScoredQueryResult:
        stored = search.fetch([each.id for each in ranked])
        # A node that was deleted while the query ran is left out.
        ranked = [each for each in ranked if each.id in stored]
        nodes = self._nodes_of([stored[each.id] for each in ranked])
        return ScoredQueryResult(
            nodes=nodes,
            similarities=[each.score for each in ranked],
            ids=[node.node_id for node in nodes],
            inner_products=[each.similarity for each in ranked],
            words_found=[each.words_found for each in ranked],
        )
