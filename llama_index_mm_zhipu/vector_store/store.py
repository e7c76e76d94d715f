"""``FaissMultiModalVectorStore``: one embedded, durable store for nodes of every kind."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

from llama_index_mm_zhipu.arguments import KnownFields, as_ids, as_path, require_known
from llama_index_mm_zhipu.shared_folders import PRIVATE
from llama_index_mm_zhipu.vector_store.ann import AUTO, kind_for
from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE, AnyCondition, of_document, one_of
from llama_index_mm_zhipu.vector_store.database import Database
from llama_index_mm_zhipu.vector_store.errors import ModelMismatchError, StoreError
from llama_index_mm_zhipu.vector_store.filters import condition_of_nodes, condition_of_query, resolved
from llama_index_mm_zhipu.vector_store.index_cache import IndexCache
from llama_index_mm_zhipu.vector_store.nodes import NewNodes, Setting, node_from_row
from llama_index_mm_zhipu.vector_store.ranking import QUERY_OPTIONS, Ranking
from llama_index_mm_zhipu.vector_store.sessions import MetadataExample, Reader, Vectors, Writer
from llama_index_mm_zhipu.vector_store.threaded import ThreadedVectorStore

logger = logging.getLogger(__name__)


_NAME_IN_STORAGE = "__vector_store.json"


class FaissMultiModalVectorStore(KnownFields, ThreadedVectorStore):
    """Vector store for text and image nodes: faiss for vectors, SQLite for all else.

    Every call that returned is on disk, and survives a crash of the process or a power cut. The SQLite file
    ``<persist_dir>/<namespace>.sqlite3`` holds all; the ``.faiss`` file beside it is a cache, written by ``persist``
    and ``close``, and rebuilt when missing or damaged. Threads and processes may share a store; they see each other's
    changes at their next call, and writers wait for each other.

    Scores are inner products: cosines for unit vectors. There is no ``__len__``: LlamaIndex would take an empty store
    for a missing one.

    Args:
        persist_dir: Folder of the store, made if missing; None keeps everything in memory.
        namespace: Name of the file; several stores may lie in one folder.
        mode: Permissions of the folder and those above it, if they are made; by default only the owner may enter them.
        index_type: None for the kind of index that the store has, flat at first, see ``reindex``; ``"auto"`` for
            another kind, built in the background, once there are too many vectors for flat search
            (``ann.AUTO_KINDS``).
        model: Fingerprint of the embedding model, as in ``ChineseClipEmbedding.fingerprint``, checked as by
            ``require_model`` when the store is opened and when nodes are added.

    Raises:
        StoreError: The file cannot be opened.
        ModelMismatchError: The store was filled with another model.

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
    mode: int = Field(default=PRIVATE, description="Permissions of the folder, if it is made.")
    index_type: Literal["auto"] | None = Field(default=None, description="Whether to choose the kind of index by size.")
    model: str | None = Field(default=None, description="Fingerprint of the embedding model.")

    _database: Database = PrivateAttr()
    _cache: IndexCache = PrivateAttr()
    _builder: threading.Thread | None = PrivateAttr(default=None)

    def __init__(self, persist_dir: str | Path | None = None, **kwargs: Any) -> None:
        if persist_dir is not None:
            # As it was given: "~" is another folder for another user.
            as_path(persist_dir, "persist_dir")
            persist_dir = str(persist_dir)
        super().__init__(persist_dir=persist_dir, **kwargs)
        folder = self._folder
        self._database = Database(folder / f"{self.namespace}.sqlite3" if folder is not None else None, self.mode)
        self._cache = IndexCache(self._database, folder, self.namespace)
        if self.model is not None:
            self.require_model(self.model)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> FaissMultiModalVectorStore:
        """Open the same files again, as unpickling does."""
        if self.persist_dir is None:
            raise TypeError("a store in memory cannot be copied; give it a persist_dir, or copy its nodes")
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields})

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
    def from_persist_dir(
        cls, persist_dir: str | Path, namespace: str = "default", **kwargs: Any
    ) -> FaissMultiModalVectorStore:
        """Open the store in a folder.

        Args:
            persist_dir: The folder.
            namespace: Name of the file.
            **kwargs: ``index_type`` and ``model``.

        Raises:
            FileNotFoundError: There is none.
        """
        return cls.from_persist_path(as_path(persist_dir, "persist_dir") / f"{namespace}.sqlite3", **kwargs)

    @classmethod
    def from_persist_path(cls, persist_path: str | Path, **kwargs: Any) -> FaissMultiModalVectorStore:
        """Open the store in a ``.sqlite3`` file.

        Args:
            persist_path: The file.
            **kwargs: ``index_type`` and ``model``.

        Raises:
            FileNotFoundError: There is none.
        """
        path = as_path(persist_path, "persist_path")
        if not path.is_file():
            raise FileNotFoundError(f"no vector store at {path}; build one there first")
        return cls(persist_dir=path.parent, namespace=path.stem, **kwargs)

    @property
    def client(self) -> Any:
        """The faiss index, or None while the store never held a vector."""
        return self._cache.index.index if self._cache.index is not None else None

    def count(self) -> int:
        """Return the number of nodes."""
        with self._database.reading() as reader:
            self._cache.follow(reader)
            return len(self._cache.index) if self._cache.index is not None else 0

    def is_empty(self) -> bool:
        """Return whether the store holds no node."""
        return self.count() == 0

    def has_texts(self) -> bool:
        """Whether full text can find any node: one with text, on an SQLite with FTS5."""
        with self._database.reading() as reader:
            return reader.has_texts()

    def document_ids(self) -> list[str]:
        """Return the ids of the documents that nodes came from; a node without a source is its own document."""
        with self._database.reading() as reader:
            return reader.document_ids()

    def metadata_keys(self) -> list[str]:
        """Return the keys under which any node has metadata other than None, in order."""
        with self._database.reading() as reader:
            return reader.metadata_keys()

    def metadata_texts(self, key: str) -> dict[str, str]:
        """Return the texts that nodes have under a metadata key, by node id; the nodes themselves are not read."""
        with self._database.reading() as reader:
            return reader.metadata_texts(key)

    def image_paths(self) -> dict[str, str]:
        """Return the ``image_path`` of images that lie in files, by node id; the nodes themselves are not read."""
        with self._database.reading() as reader:
            return reader.image_paths()

    def metadata_examples(self, key: str) -> list[MetadataExample]:
        """Return an example of each kind of value under a metadata key, in a time that does not depend on their number.

        Args:
            key: Metadata key.

        Returns:
            At most one each of: a number, a text, a number in a list, a text in a list. Empty if no node has the key.
        """
        with self._database.reading() as reader:
            return reader.metadata_examples(key)

    def get_setting(self, key: str) -> Any:
        """Return a setting recorded in the store, or None."""
        with self._database.reading() as reader:
            return reader.get_setting(key)

    def set_setting(self, key: str, value: Any) -> None:
        """Record a setting, any JSON value, beside the nodes."""
        with self._database.writing() as writer:
            writer.set_setting(key, value)

    def require_model(self, fingerprint: str) -> None:
        """Record the embedding model of an empty store, and refuse another one once it holds nodes.

        Args:
            fingerprint: Says which weights embedded the nodes; no path.

        Raises:
            ModelMismatchError: The store was filled with another model.
        """
        if self.get_setting(Setting.MODEL) != fingerprint:
            with self._database.writing() as writer:
                self._record_model(writer, fingerprint)
        self.model = fingerprint

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Add nodes with embeddings; a node id that is there already is overwritten. All nodes or none.

        Returns:
            The node ids, in order.

        Raises:
            ValueError: A node has no embedding, one of the wrong dimension or with NaN, or an id stands twice.
            ModelMismatchError: Somebody else has filled the store with another model.
            StoreError: The file cannot be written.
        """
        require_known("FaissMultiModalVectorStore.add", kwargs, ())
        if not nodes:
            return []
        with self._database.writing() as writer:
            if self.model is not None:
                self._record_model(writer, self.model)
            dimension = writer.get_setting(Setting.DIMENSION)
            new = NewNodes(nodes, dimension)
            if dimension is None:
                writer.set_setting(Setting.DIMENSION, new.vectors.shape[1])
            writer.delete(one_of("node_id", new.node_ids))
            writer.insert(new)
        self._follow_own_change()
        return new.node_ids

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Find nodes by vector, by words, or by both.

        Modes:

        - ``DEFAULT`` ranks by inner product with ``query_embedding``.
        - ``MMR`` chooses among the nearest by maximum marginal relevance, with LlamaIndex's own function: nodes come
          in the order of choice, and scores are marginal relevances. ``mmr_threshold`` is of the query or an argument:
          1 is relevance alone, 0 variety alone, 0.5 by default.
        - ``TEXT_SEARCH`` ranks by BM25 of the words of ``query_str`` in the nodes' text. Chinese and symbols
          (emoji, ``€``, ``①``) are found by single characters and by pairs of neighbours, other words whole and by
          their letters and digits. ``SPARSE`` is the same.
        - ``HYBRID`` fuses both rankings by reciprocal ranks: the score is ``alpha / (60 + rank by vector) +
          (1 - alpha) / (60 + rank by text)``, ``alpha`` 0.5 by default. ``sparse_top_k`` is how many of the text's
          ranking are looked at, ``hybrid_top_k`` how many come back, by default as ``similarity_top_k``.

        Args:
            query: The above, ``similarity_top_k``, and what restricts it: ``filters``, ``node_ids``, ``doc_ids``. The
                mode may be a string such as ``"sparse"``. With empty ``doc_ids`` no node is found; empty ``node_ids``
                are no restriction, because LlamaIndex's own retriever passes them.
            **kwargs: ``ef_search`` (hnsw) or ``nprobe`` (inverted files): breadth of an approximate search.
                ``mmr_threshold``; either ``mmr_prefetch_factor`` (4) or ``mmr_prefetch_k``: how many candidates
                ``MMR`` chooses from.

        Returns:
            Nodes, scores of the mode and node ids, best first; as many as were asked for if there are so many.

        Raises:
            TypeError: An argument is not known; the message says which one is meant.
            ValueError: There is no query embedding, or one of the wrong dimension, or the mode is not supported.
            StoreError: A text mode was asked for and this Python's SQLite has no FTS5.
        """
        require_known("FaissMultiModalVectorStore.query", kwargs, QUERY_OPTIONS)
        condition = condition_of_query(query)
        with self._database.reading() as reader:
            self._cache.follow(reader)
            ranked = Ranking(reader, self._cache.index, kwargs).rank(query, resolved(condition, reader))
            by_id = _nodes_by_id(reader, [id_ for id_, _ in ranked])
        nodes = [by_id[id_] for id_, _ in ranked]
        return VectorStoreQueryResult(
            nodes=nodes, similarities=[score for _, score in ranked], ids=[node.node_id for node in nodes]
        )

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        include_embeddings: bool = False,
    ) -> list[BaseNode]:
        """Return nodes by id, by filters, or those that meet both; all nodes if neither is given.

        Args:
            node_ids: Ids of the nodes; ids that are not there are passed over.
            filters: What metadata of the nodes must be.
            include_embeddings: Whether nodes come with their vectors, so that another store can add them.

        Returns:
            Nodes in the order of ``node_ids``, or as they were added.
        """
        node_ids = as_ids(node_ids, "node_ids")
        condition = condition_of_nodes(node_ids, filters)
        with self._database.reading() as reader:
            ids = reader.select_ids(resolved(condition, reader))
            nodes = list(_nodes_by_id(reader, ids.tolist()).values())
            if include_embeddings:
                for node, vector in zip(nodes, reader.vectors_of(ids), strict=True):
                    node.embedding = vector.tolist()
        if node_ids is None:
            return nodes
        by_id = {node.node_id: node for node in nodes}
        return [by_id[node_id] for node_id in dict.fromkeys(node_ids) if node_id in by_id]

    def get_nodes_of_document(self, ref_doc_id: str) -> list[BaseNode]:
        """Return the nodes that came from a document, as they were added; a node without a source is its own."""
        with self._database.reading() as reader:
            return list(_nodes_by_id(reader, reader.select_ids(of_document(ref_doc_id)).tolist()).values())

    def get_vectors(self, node_ids: Sequence[str]) -> tuple[list[str], Vectors]:
        """Return the stored vectors of nodes.

        Args:
            node_ids: Whose; ids that are not there are passed over.

        Returns:
            The node ids that are there, as they were added, and their vectors, shape ``(n, dimension)``.
        """
        with self._database.reading() as reader:
            return reader.vectors_of_nodes(as_ids(node_ids, "node_ids") or [])

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete all nodes that came from a document, a node without a source being its own; none is no error."""
        require_known("FaissMultiModalVectorStore.delete", delete_kwargs, ())
        self._delete(of_document(ref_doc_id))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete nodes by id, by filters, or those that meet both; ids that are not there are passed over.

        Raises:
            ValueError: Neither is given, or only filters that hold for every node because they are empty.
        """
        require_known("FaissMultiModalVectorStore.delete_nodes", delete_kwargs, ("node_ids", "filters"))
        if node_ids is None and not (filters and filters.filters):
            raise ValueError("delete_nodes needs node_ids or filters; clear() deletes every node")
        self._delete(condition_of_nodes(as_ids(node_ids, "node_ids"), filters))

    def clear(self) -> None:
        """Delete every node; the recorded model, dimension and kind of index are forgotten too."""
        with self._database.writing() as writer:
            writer.delete(EVERY_NODE)
            writer.clear_settings(keep=[Setting.FULL_TEXT, Setting.STORE_ID])
        self._follow_own_change()

    def reindex(self, kind: str = AUTO, show_progress: bool = False) -> None:
        """Build an index of another kind from the stored vectors, and keep to it.

        Queries and additions by other threads go on meanwhile, with the present index. Other processes that have the
        store open keep the kind that they have until they open it again.

        Args:
            kind: ``"flat"``: exact, time proportional to the number of vectors. ``"hnsw"``: a graph; approximate, a
                few ms at a million vectors, memory for the graph besides the vectors. A string of faiss's index
                factory, such as ``"IVF1024,SQ8"``: what it finds is ranked anew by the stored vectors. ``"auto"``:
                flat or hnsw by the number of nodes.
            show_progress: Show a progress bar.

        Raises:
            ValueError: faiss does not know the kind, it cannot search parts, or there are too few vectors to train it.
        """
        self._cache.build(kind_for(self.count()) if kind == AUTO else kind, show_progress)
        self.set_setting(Setting.INDEX_KIND, self._cache.kind)
        self._cache.write()

    def persist(self, persist_path: str | None = None, fs: Any = None) -> None:
        """Write the faiss cache, so that the next opening is fast; or copy the store to another folder.

        Nodes are on disk without it. ``StorageContext.persist(folder)`` calls it with a ``.json`` path in that folder,
        which is never written to: LlamaIndex would read it as JSON.

        Args:
            persist_path: A path in the store's own folder, or None, checkpoints it; one in another folder copies the
                store there, as ``<namespace>.sqlite3``. ``StorageContext`` names the namespace in the path,
                ``image__vector_store.json``; other paths leave the store's own.
            fs: Must be None: SQLite needs a local file.

        Raises:
            ValueError: The store is in memory and no path is given, or ``fs`` is a remote file system.
            StoreError: The files cannot be written, or there is another store of that name in the other folder, or a
                copy of this one that was written to since.
        """
        target = as_path(persist_path, "persist_path") if persist_path is not None else None
        folder = target.parent if target is not None else self._folder
        if folder is None:
            raise ValueError("the store is in memory: give persist_path, or open it with persist_dir")
        if fs is not None and "file" not in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
            raise ValueError(f"a vector store lives on a local disk, not on {type(fs).__name__}")
        if target is not None and (self._folder is None or folder.resolve() != self._folder.resolve()):
            namespace = target.name.removesuffix(_NAME_IN_STORAGE) if target.name.endswith(_NAME_IN_STORAGE) else ""
            self._database.backup(folder / f"{namespace or self.namespace}.sqlite3", self.mode)
            return
        with self._database.reading() as reader:
            self._cache.follow(reader)
        self._cache.write()
        self._database.checkpoint()

    def checkpoint(self) -> None:
        """Write the faiss cache, so that the next opening is fast; nodes are on disk without it."""
        if self.persist_dir is not None:
            self.persist()

    def close(self) -> None:
        """Write the faiss cache and close the file; the store cannot be used any more."""
        if self._database.is_closed:
            return
        self._cache.stop()
        try:
            if self._folder is not None:
                with self._database.reading() as reader:
                    self._cache.follow(reader)
                self._cache.write_if_far_ahead()
        except StoreError as error:
            # A full disk must not keep a store from being closed.
            logger.warning("the store %s is closed without its faiss cache: %s", self._name, error)
        finally:
            self._database.close()

    def __enter__(self) -> FaissMultiModalVectorStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def areindex(self, kind: str = AUTO, show_progress: bool = False) -> None:
        """As ``reindex``, in a worker thread."""
        await asyncio.to_thread(self.reindex, kind, show_progress)

    @property
    def _folder(self) -> Path | None:
        return Path(self.persist_dir).expanduser() if self.persist_dir is not None else None

    @property
    def _name(self) -> str:
        return str(self._database.path or f"{self.namespace!r} (in memory)")

    def _record_model(self, writer: Writer, fingerprint: str) -> None:
        recorded = writer.get_setting(Setting.MODEL)
        if recorded == fingerprint:
            return
        if recorded is not None and not writer.is_empty():
            raise ModelMismatchError(
                f"the store {self._name} was filled with the model {recorded}, not with {fingerprint}; "
                "open it with that model, or build the index anew in another folder"
            )
        writer.set_setting(Setting.MODEL, fingerprint)

    def _delete(self, condition: AnyCondition) -> None:
        with self._database.writing() as writer:
            writer.delete(resolved(condition, writer))
        self._follow_own_change()

    def _follow_own_change(self) -> None:
        with self._database.reading() as reader:
            self._cache.replay(reader)
            due = self._kind_that_is_due()
        if due is not None and (self._builder is None or not self._builder.is_alive()):
            self._builder = threading.Thread(target=self._build_in_background, args=(due,), daemon=True)
            self._builder.start()

    def _kind_that_is_due(self) -> str | None:
        index = self._cache.index
        if index is None:
            return None
        if self.index_type == AUTO and index.is_exact and kind_for(len(index)) != index.kind:
            return kind_for(len(index))
        return index.kind if index.needs_rebuild else None

    def _build_in_background(self, kind: str) -> None:
        logger.info("building an index of kind %s for the store %s in the background", kind, self._name)
        try:
            self.reindex(kind)
        except Exception as error:
            if not self._database.is_closed:
                logger.warning("the index of kind %s for %s could not be built: %s", kind, self._name, error)


def _nodes_by_id(reader: Reader, ids: Sequence[int]) -> dict[int, BaseNode]:
    return {id_: node_from_row(row, image) for id_, (row, image) in reader.select_rows(ids).items()}
