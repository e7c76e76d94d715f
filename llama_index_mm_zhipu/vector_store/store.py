"""``FaissMultiModalVectorStore``: one embedded, durable store for nodes of every kind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from llama_index_mm_zhipu.vector_store.database import EVERY_NODE, Condition, Database, StoreError, one_of
from llama_index_mm_zhipu.vector_store.filters import condition_of_nodes, condition_of_query
from llama_index_mm_zhipu.vector_store.fulltext import fuse, match_expression
from llama_index_mm_zhipu.vector_store.index_cache import IndexCache
from llama_index_mm_zhipu.vector_store.nodes import new_nodes, node_from_row

_DIMENSION = "dimension"
_MODEL = "model"


FUSION_DEPTH = 50
"""Nodes of each ranking that ``HYBRID`` fuses at the least."""


class ModelMismatchError(ValueError):
    """A store was filled with one embedding model and asked with another."""


class FaissMultiModalVectorStore(BasePydanticVectorStore):
    """Vector store for text and picture nodes: faiss for vectors, SQLite for all else.

    Every call that returned is on disk. The SQLite file ``<persist_dir>/<namespace>.sqlite3`` holds all; the
    ``.faiss`` file beside it is a cache, written by ``persist`` and ``close``, and rebuilt when missing or damaged.

    Scores are inner products: cosines for unit vectors. There is no ``__len__``: LlamaIndex would take an empty store
    for a missing one.

    Args:
        persist_dir: Folder of the store, made if missing; None keeps everything in memory.
        namespace: Name of the file; several stores may lie in one folder.

    Raises:
        StoreError: The file cannot be opened.

    Examples:
        >>> from llama_index.core.schema import TextNode
        >>> store = FaissMultiModalVectorStore()
        >>> store.add([TextNode(id_="a", text="飞机", embedding=[1.0, 0.0])])
        ['a']
        >>> store.count()
        1
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    persist_dir: str | None = Field(default=None, description="Folder of the store; None is in memory.")
    namespace: str = Field(default="default", description="Name of the file in the folder.", pattern=r"^[\w.-]+$")

    _database: Database = PrivateAttr()
    _cache: IndexCache = PrivateAttr()
    _lock: threading.RLock = PrivateAttr(default_factory=threading.RLock)

    def __init__(self, persist_dir: str | Path | None = None, **kwargs: Any) -> None:
        super().__init__(persist_dir=str(persist_dir) if persist_dir is not None else None, **kwargs)
        folder = self._folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._database = Database(folder / f"{self.namespace}.sqlite3" if folder is not None else None)
        self._cache = IndexCache(self._database, folder, self.namespace)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the settings only: unpickling opens the same files."""
        if self.persist_dir is None:
            raise TypeError("a store in memory cannot be pickled; give it a persist_dir")
        # Core's own would try to pickle the open database, and log that it cannot.
        return {**BaseModel.__getstate__(self), "__pydantic_private__": None}

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this component."""
        return "FaissMultiModalVectorStore"

    @classmethod
    def from_persist_dir(cls, persist_dir: str | Path, namespace: str = "default") -> FaissMultiModalVectorStore:
        """Open the store in a folder.

        Raises:
            FileNotFoundError: There is none.
        """
        return cls.from_persist_path(Path(persist_dir) / f"{namespace}.sqlite3")

    @classmethod
    def from_persist_path(cls, persist_path: str | Path) -> FaissMultiModalVectorStore:
        """Open the store in a ``.sqlite3`` file.

        Raises:
            FileNotFoundError: There is none.
        """
        path = Path(persist_path)
        if not path.is_file():
            raise FileNotFoundError(f"no vector store at {path}; build one there first")
        return cls(persist_dir=path.parent, namespace=path.stem)

    @property
    def client(self) -> Any:
        """The faiss index, or None while the store never held a vector."""
        return self._cache.index.index if self._cache.index is not None else None

    def count(self) -> int:
        """Return the number of nodes."""
        with self._lock:
            return self._database.count()

    def has_texts(self) -> bool:
        """Whether full text can find any node: one with text, on an SQLite with FTS5."""
        with self._lock:
            return self._database.has_texts()

    def get_setting(self, key: str) -> Any:
        """Return a setting recorded in the store, or None."""
        with self._lock:
            return self._database.get_setting(key)

    def set_setting(self, key: str, value: Any) -> None:
        """Record a setting, any JSON value, beside the nodes."""
        with self._lock, self._database.transaction():
            self._database.set_setting(key, value)

    def require_model(self, fingerprint: str) -> None:
        """Record the embedding model of an empty store, and refuse another one once it holds nodes.

        Args:
            fingerprint: Says which weights embedded the nodes; no path.

        Raises:
            ModelMismatchError: The store was filled with another model.
        """
        recorded = self.get_setting(_MODEL)
        if recorded is None or self.count() == 0:
            self.set_setting(_MODEL, fingerprint)
        elif recorded != fingerprint:
            raise ModelMismatchError(
                f"the store {self._name} was filled with the model {recorded}, not with {fingerprint}; "
                "open it with that model, or build the index anew in another folder"
            )

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Add nodes with embeddings; a node id that is there already is overwritten. All nodes or none.

        Returns:
            The node ids, in order.

        Raises:
            ValueError: A node has no embedding, one of the wrong dimension or with NaN, or an id stands twice.
            StoreError: The file cannot be written.
        """
        if not nodes:
            return []
        with self._lock:
            self._cache.follow()
            new = new_nodes(nodes, self._database.get_setting(_DIMENSION))
            node_ids = [node.row.node_id for node in new]
            with self._database.transaction():
                self._database.set_setting(_DIMENSION, len(new[0].vector))
                self._database.delete(one_of("nodes.node_id", node_ids))
                self._database.insert(new)
            self._cache.replay()
        return node_ids

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Find nodes by vector, by words, or by both.

        Modes: ``DEFAULT`` ranks by inner product with ``query_embedding``; ``TEXT_SEARCH`` by BM25 of the words of
        ``query_str`` in the nodes' text; ``HYBRID`` fuses both rankings by reciprocal ranks, the vector's with weight
        ``alpha`` (0.5 by default), the text's with the rest.

        Args:
            query: The above, ``similarity_top_k``, and what restricts it: ``filters``, ``node_ids``, ``doc_ids``.

        Returns:
            Nodes, scores of the mode and node ids, best first.

        Raises:
            ValueError: There is no query embedding, or one of the wrong dimension, or the mode is not supported.
            StoreError: A text mode was asked for and this Python's SQLite has no FTS5.
        """
        rank = {
            VectorStoreQueryMode.DEFAULT: self._rank_by_vector,
            VectorStoreQueryMode.TEXT_SEARCH: self._rank_by_text,
            VectorStoreQueryMode.HYBRID: self._rank_by_both,
        }.get(query.mode)
        if rank is None:
            raise ValueError(f"query mode {query.mode.value!r} is not supported; use default, text_search or hybrid")
        with self._lock:
            self._cache.follow()
            ranked = rank(query, condition_of_query(query))
            nodes = self._nodes_of_rows([id_ for id_, _ in ranked])
        return VectorStoreQueryResult(
            nodes=nodes, similarities=[score for _, score in ranked], ids=[node.node_id for node in nodes]
        )

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Return nodes in the order of ``node_ids``, or as they were added; ids that are not there are passed over."""
        with self._lock:
            nodes = self._read(condition_of_nodes(node_ids, filters))
        if node_ids is None:
            return list(nodes.values())
        by_id = {node.node_id: node for node in nodes.values()}
        return [by_id[node_id] for node_id in dict.fromkeys(node_ids) if node_id in by_id]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete all nodes that came from a document; none is no error."""
        self._delete(Condition("nodes.ref_doc_id = ?", (ref_doc_id,)))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete nodes by id, by filters, or those that meet both; ids that are not there are passed over.

        Raises:
            ValueError: Neither is given.
        """
        if node_ids is None and filters is None:
            raise ValueError("delete_nodes needs node_ids or filters; clear() deletes every node")
        self._delete(condition_of_nodes(node_ids, filters))

    def clear(self) -> None:
        """Delete every node; the recorded model and dimension are forgotten too."""
        with self._lock:
            self._cache.follow()
            with self._database.transaction():
                self._database.delete(EVERY_NODE)
                self._database.clear_settings()
            self._cache.clear()

    def persist(self, persist_path: str | None = None, fs: Any = None) -> None:
        """Write the faiss cache, so that the next opening is fast; or copy the store to another folder.

        Nodes are on disk without it. ``StorageContext.persist(folder)`` calls it with a ``.json`` path in that folder,
        which is never written to: LlamaIndex would read it as JSON.

        Args:
            persist_path: A path in the store's own folder, or None, checkpoints it; one in another folder copies the
                store there as ``<namespace>.sqlite3``.
            fs: Must be None: SQLite needs a local file.

        Raises:
            ValueError: The store is in memory and no path is given, or ``fs`` is a remote file system.
        """
        target = Path(persist_path).parent if persist_path else self._folder
        if target is None:
            raise ValueError("the store is in memory: give persist_path, or open it with persist_dir")
        if fs is not None and "file" not in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
            raise ValueError(f"a vector store lives on a local disk, not on {type(fs).__name__}")
        with self._lock:
            if self._folder is not None and target.resolve() == self._folder.resolve():
                self._checkpoint()
            else:
                target.mkdir(parents=True, exist_ok=True)
                self._database.backup(target / f"{self.namespace}.sqlite3")

    def close(self) -> None:
        """Write the faiss cache and close the file; the store cannot be used any more."""
        with self._lock:
            if self._folder is not None:
                self._checkpoint()
            self._database.close()

    def __enter__(self) -> FaissMultiModalVectorStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """As ``add``, in a worker thread."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """As ``query``, in a worker thread."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """As ``get_nodes``, in a worker thread."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """As ``delete``, in a worker thread."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """As ``delete_nodes``, in a worker thread."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    async def aclear(self) -> None:
        """As ``clear``, in a worker thread."""
        await asyncio.to_thread(self.clear)

    @property
    def _folder(self) -> Path | None:
        return Path(self.persist_dir).expanduser() if self.persist_dir is not None else None

    @property
    def _name(self) -> str:
        return str(self._database.path or f"{self.namespace!r} (in memory)")

    def _rank_by_vector(self, query: VectorStoreQuery, condition: Condition) -> list[tuple[int, float]]:
        if query.query_embedding is None:
            raise ValueError("the query has no embedding; embed its text or picture first")
        index = self._cache.index
        if index is None:
            return []
        vector = np.asarray(query.query_embedding, dtype=np.float32)
        if vector.shape != (index.dimension,):
            raise ValueError(
                f"the query's vector has dimension {vector.size}, the vectors of store {self._name} have "
                f"{index.dimension}; query with the model that the store was filled with"
            )
        allowed = None if condition is EVERY_NODE else self._database.select_ids(condition)
        return index.search(vector, query.similarity_top_k, allowed)

    def _rank_by_text(self, query: VectorStoreQuery, condition: Condition) -> list[tuple[int, float]]:
        if not self._database.has_full_text:
            raise StoreError("this Python's SQLite has no FTS5, which text_search and hybrid need; use mode default")
        expression = match_expression(query.query_str or "")
        return self._database.search_text(expression, condition, query.similarity_top_k) if expression else []

    def _rank_by_both(self, query: VectorStoreQuery, condition: Condition) -> list[tuple[int, float]]:
        alpha = 0.5 if query.alpha is None else query.alpha
        # A node that is high in one ranking and lower in the other must be seen in both.
        deeper = replace(query, similarity_top_k=max(FUSION_DEPTH, 2 * query.similarity_top_k))
        rankings = [
            (alpha, self._rank_by_vector(deeper, condition)),
            (1 - alpha, self._rank_by_text(deeper, condition)),
        ]
        fused = fuse([(weight, [id_ for id_, _ in ranked]) for weight, ranked in rankings])
        return fused[: query.similarity_top_k]

    def _delete(self, condition: Condition) -> None:
        with self._lock:
            self._cache.follow()
            with self._database.transaction():
                self._database.delete(condition)
            self._cache.replay()

    def _read(self, condition: Condition) -> dict[int, BaseNode]:
        rows = self._database.select_rows(condition)
        return {id_: node_from_row(row, picture) for id_, (row, picture) in rows.items()}

    def _nodes_of_rows(self, ids: Sequence[int]) -> list[BaseNode]:
        nodes = self._read(one_of("nodes.id", ids))
        return [nodes[id_] for id_ in ids]

    def _checkpoint(self) -> None:
        self._cache.follow()
        self._cache.write()
        self._database.checkpoint()
