"""The stores that are compared, behind one interface, each set up as its documentation shows."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from dataset import DIMENSION, Batch, node_id
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQuery

K = 10

# Names for stores whose users choose them.
_FILE = "vectors.faiss"
_COLLECTION = "nodes"


class Contender:
    """A store with LlamaIndex's interface. Subclasses open and close it.

    ``prepare`` and ``ids`` are separate from ``query``, so that only the query is timed.

    Attributes:
        modules: Modules that must be installed.
        install: Requirements that install them.
        filters: Whether queries can be filtered.
        deletes: Whether documents can be deleted.
        remark: Note for readers of the table.
    """

    modules: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = ""
    filters: ClassVar[bool] = True
    deletes: ClassVar[bool] = True
    remark: ClassVar[str] = ""

    store: Any

    def __init__(self) -> None:
        # Imported now, so that no measurement includes an import.
        for module in self.modules:
            importlib.import_module(module)

    @classmethod
    def is_installed(cls) -> bool:
        """Return whether its modules can be imported."""
        return all(_exists(module) for module in cls.modules)

    def open(self, folder: Path) -> None:
        """Open the store in a folder, which is created if it is missing."""
        raise NotImplementedError

    def close(self) -> None:
        """Write everything to disk and close the files."""
        raise NotImplementedError

    def settle(self) -> None:
        """Wait for what the store does in the background."""

    def add(self, batch: Batch) -> None:
        """Add the nodes of a batch."""
        self.store.add(batch.nodes)

    def prepare(self, vector: np.ndarray, filters: MetadataFilters | None = None) -> Any:
        """Return the argument of ``query``."""
        return VectorStoreQuery(query_embedding=vector.tolist(), similarity_top_k=K, filters=filters)

    def query(self, prepared: Any, **options: Any) -> Any:
        """Find the ten nearest nodes."""
        return self.store.query(prepared, **options)

    def ids(self, answer: Any) -> list[str]:
        """Return the node ids of an answer."""
        return list(answer.ids)

    def delete(self, document_id: str) -> None:
        """Delete a document's nodes."""
        self.store.delete(document_id)


class RawFaiss(Contender):
    """A flat faiss index without a store: the minimum time of an exact search."""

    modules = ("faiss",)
    install = "faiss-cpu"
    filters = False
    deletes = False
    remark = "no store: takes an array, returns row numbers; on disk only once it is closed"

    def open(self, folder: Path) -> None:
        import faiss

        self._file = folder / _FILE
        self._index = faiss.read_index(str(self._file)) if self._file.exists() else faiss.IndexFlatIP(DIMENSION)

    def close(self) -> None:
        import faiss

        faiss.write_index(self._index, str(self._file))

    def add(self, batch: Batch) -> None:
        self._index.add(batch.vectors)

    def prepare(self, vector: np.ndarray, filters: MetadataFilters | None = None) -> Any:
        return vector.reshape(1, -1)

    def query(self, prepared: Any, **options: Any) -> Any:
        return self._index.search(prepared, K)

    def ids(self, answer: Any) -> list[str]:
        _, rows = answer
        return [node_id(row) for row in rows[0].tolist() if row >= 0]


class OfficialFaiss(Contender):
    """LlamaIndex's own faiss store."""

    modules = ("llama_index.vector_stores.faiss", "faiss")
    install = "llama-index-vector-stores-faiss faiss-cpu"
    filters = False
    deletes = False
    remark = "returns row numbers, not nodes; on disk only once it is persisted"

    def open(self, folder: Path) -> None:
        import faiss
        from llama_index.vector_stores.faiss import FaissVectorStore

        self._file = folder / _FILE
        if self._file.exists():
            self.store = FaissVectorStore.from_persist_path(str(self._file))
        else:
            self.store = FaissVectorStore(faiss_index=faiss.IndexFlatIP(DIMENSION))

    def close(self) -> None:
        self.store.persist(str(self._file))

    def ids(self, answer: Any) -> list[str]:
        return [node_id(int(row)) for row in answer.ids]


class Chroma(Contender):
    """Chroma's persistent client: an HNSW index and SQLite."""

    modules = ("llama_index.vector_stores.chroma", "chromadb")
    install = "llama-index-vector-stores-chroma chromadb"
    remark = "approximate (HNSW)"

    def open(self, folder: Path) -> None:
        import chromadb
        from llama_index.vector_stores.chroma import ChromaVectorStore

        settings = chromadb.Settings(anonymized_telemetry=False)
        self._client = chromadb.PersistentClient(path=str(folder), settings=settings)
        self.store = ChromaVectorStore(chroma_collection=self._client.get_or_create_collection(_COLLECTION))

    def close(self) -> None:
        self._client.close()


class LanceDB(Contender):
    """LanceDB: columns on disk, which each query scans, as no index is created."""

    modules = ("llama_index.vector_stores.lancedb", "lancedb")
    install = "llama-index-vector-stores-lancedb lancedb"

    def open(self, folder: Path) -> None:
        from llama_index.vector_stores.lancedb import LanceDBVectorStore

        self.store = LanceDBVectorStore(uri=str(folder), table_name=_COLLECTION)

    def close(self) -> None:
        # Each call writes a version of its own, and nothing has to be closed.
        del self.store


class QdrantLocal(Contender):
    """Qdrant's local mode: numpy arrays and SQLite, in the client itself."""

    modules = ("llama_index.vector_stores.qdrant", "qdrant_client")
    install = "llama-index-vector-stores-qdrant qdrant-client"
    remark = "meant for small collections; Qdrant's server is another program"

    def open(self, folder: Path) -> None:
        from llama_index.vector_stores.qdrant import QdrantVectorStore
        from qdrant_client import QdrantClient

        self._client = QdrantClient(path=str(folder))
        self.store = QdrantVectorStore(collection_name=_COLLECTION, client=self._client)

    def close(self) -> None:
        self._client.close()


class Ours(Contender):
    """The store of this package."""

    modules = ("llama_index_mm_zhipu.vector_store",)
    install = "llama-index-mm-zhipu"

    def open(self, folder: Path) -> None:
        from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore

        self.store = FaissMultiModalVectorStore(folder)

    def settle(self) -> None:
        self.store.wait_for_index()

    def close(self) -> None:
        self.store.close()


CONTENDERS: dict[str, type[Contender]] = {
    "raw-faiss": RawFaiss,
    "official-faiss": OfficialFaiss,
    "chroma": Chroma,
    "lancedb": LanceDB,
    "qdrant-local": QdrantLocal,
    "ours": Ours,
}

IN_MILLIONS = ("raw-faiss", "ours")
"""The contenders that are measured with more than ``SMALL`` nodes; others would take hours or all memory."""

SMALL = 250_000


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        # A parent package is missing.
        return False
