"""The stores that are compared, behind one interface, each set up as its documentation shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contender import COLLECTION, FEW, FILE, Contender
from contenders_faiss import RawFaiss, RawHNSW, RawIVF, RawPQ, RawRaBitQ
from contenders_native import DuckDB, Zvec, ZvecHNSW, ZvecInt8
from dataset import DIMENSION, node_id
from llama_index.core.vector_stores.types import BasePydanticVectorStore


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

        self._file = folder / FILE
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
    max_nodes = FEW
    why_not_more = "it adds 1,300 nodes a second at 100,000, and fewer the larger the graph"
    remark = "approximate (HNSW)"

    def open(self, folder: Path) -> None:
        import chromadb
        from llama_index.vector_stores.chroma import ChromaVectorStore

        settings = chromadb.Settings(anonymized_telemetry=False)
        self._client = chromadb.PersistentClient(path=str(folder), settings=settings)
        self.store = ChromaVectorStore(chroma_collection=self._client.get_or_create_collection(COLLECTION))

    def close(self) -> None:
        self._client.close()


class LanceDB(Contender):
    """LanceDB: columns on disk, which each query scans, as no index is created."""

    modules = ("llama_index.vector_stores.lancedb", "lancedb")
    install = "llama-index-vector-stores-lancedb lancedb"

    def open(self, folder: Path) -> None:
        from llama_index.vector_stores.lancedb import LanceDBVectorStore

        self.store = LanceDBVectorStore(uri=str(folder), table_name=COLLECTION)

    def close(self) -> None:
        # Each call writes a version of its own, and nothing has to be closed.
        del self.store


class QdrantLocal(Contender):
    """Qdrant's local mode: numpy arrays and SQLite, in the client itself."""

    modules = ("llama_index.vector_stores.qdrant", "qdrant_client")
    install = "llama-index-vector-stores-qdrant qdrant-client"
    max_nodes = FEW
    why_not_more = "it adds 1,000 nodes a second and takes 80 ms to 1 s for a query of 100,000"
    remark = "meant for small collections; Qdrant's server is another program"

    def open(self, folder: Path) -> None:
        from llama_index.vector_stores.qdrant import QdrantVectorStore
        from qdrant_client import QdrantClient

        self._client = QdrantClient(path=str(folder))
        self.store = QdrantVectorStore(collection_name=COLLECTION, client=self._client)

    def close(self) -> None:
        self._client.close()


class MilvusLite(Contender):
    """Milvus Lite, in the process."""

    modules = ("llama_index.vector_stores.milvus", "milvus_lite")
    install = "llama-index-vector-stores-milvus milvus-lite"
    max_nodes = FEW
    why_not_more = "on two busy cores, it adds 1,700 nodes a second and takes 0.9 to 1.6 s for a query of 100,000"

    def open(self, folder: Path) -> None:
        self.store = milvus_store(str(folder / "milvus.db"))
        self._client = self.store.client
        # The store loads a collection only when it creates one.
        self._client.load_collection(COLLECTION)

    def settle(self) -> None:
        # Until then, each query reads the log of what was added.
        self._client.flush(COLLECTION)

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
    "raw-hnsw": RawHNSW,
    "raw-ivf": RawIVF,
    "raw-ivf-rabitq": RawRaBitQ,
    "raw-ivf-pq": RawPQ,
    "official-faiss": OfficialFaiss,
    "chroma": Chroma,
    "lancedb": LanceDB,
    "qdrant-local": QdrantLocal,
    "milvus-lite": MilvusLite,
    "duckdb": DuckDB,
    "zvec-flat": Zvec,
    "zvec-hnsw": ZvecHNSW,
    "zvec-hnsw-int8": ZvecInt8,
    "ours": Ours,
}


def milvus_store(uri: str) -> BasePydanticVectorStore:
    """Return LlamaIndex's store of Milvus with its defaults, for the URL of a server or a file of Milvus Lite."""
    from llama_index.vector_stores.milvus import MilvusVectorStore

    return MilvusVectorStore(uri=uri, collection_name=COLLECTION, dim=DIMENSION)
