"""A table of PostgreSQL gives an index what the embedded store gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from conformance import OpenStore, ReopeningConformance, VectorStoreConformance
from llama_index.vector_stores.postgres import PGVectorStore
from postgres_server import PostgresServer

from llama_index_mm_zhipu.stores import ExternalVectorStore

pytestmark = pytest.mark.integration

_numbers = count()

HNSW = {"hnsw_m": 16, "hnsw_ef_construction": 64, "hnsw_ef_search": 40}


@pytest.fixture
def schema(postgres: PostgresServer) -> Iterator[str]:
    """A schema of its own for each test."""
    name = f"test_{next(_numbers)}"
    yield name
    postgres.run_sql(f'drop schema if exists "{name}" cascade')


@pytest.fixture
def pg_store(postgres: PostgresServer, schema: str) -> Callable[..., PGVectorStore]:
    """A function that returns LlamaIndex's store of a table by its name."""

    def make(name: str = "nodes", dimension: int = 2, **settings: Any) -> PGVectorStore:
        urls = {"connection_string": postgres.url(), "async_connection_string": postgres.url(driver="asyncpg")}
        values = {"table_name": name, "schema_name": schema, "embed_dim": dimension}
        return PGVectorStore.from_params(**{**urls, **values, **settings})

    return make


@pytest.fixture
def open_store(pg_store: Callable[..., PGVectorStore]) -> Iterator[OpenStore]:
    """A function that opens a table."""
    stores: list[ExternalVectorStore] = []

    def open_(name: str = "nodes", dimension: int = 2, **settings: Any) -> ExternalVectorStore:
        stores.append(ExternalVectorStore(pg_store(name, dimension, **settings)))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


class TestPostgres(VectorStoreConformance):
    """With LlamaIndex's default settings: no index on the vectors, and metadata as ``json``."""

    @pytest.fixture
    def open_store(self, open_store: OpenStore) -> OpenStore:
        return open_store


class TestPostgresWithIndex(VectorStoreConformance):
    """With an HNSW index by cosine, which LlamaIndex makes by default, and metadata as ``jsonb``."""

    @pytest.fixture
    def open_store(self, open_store: OpenStore) -> OpenStore:
        def open_(name: str, dimension: int = 2) -> ExternalVectorStore:
            return open_store(name, dimension, use_jsonb=True, hnsw_kwargs=dict(HNSW), hybrid_search=True)

        return open_


class TestReopening(ReopeningConformance):
    """Several objects for one table."""

    @pytest.fixture
    def open_store(self, open_store: OpenStore) -> OpenStore:
        return open_store
