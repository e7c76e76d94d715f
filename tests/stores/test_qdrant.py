"""``ExternalVectorStore`` over Qdrant's local mode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance import OpenStore, ReopeningConformance, VectorStoreConformance
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

from llama_index_mm_zhipu.stores import ExternalVectorStore

pytestmark = pytest.mark.integration


def open_collection(client: QdrantClient, name: str = "nodes") -> ExternalVectorStore:
    return ExternalVectorStore(QdrantVectorStore(name, client=client))


class TestQdrant(VectorStoreConformance):
    refused_filters = frozenset({">= text", "< text"})

    @pytest.fixture
    def open_store(self) -> Iterator[OpenStore]:
        client = QdrantClient(":memory:")

        def open_(name: str, dimension: int = 2) -> ExternalVectorStore:
            return open_collection(client, name)

        yield open_
        client.close()


class TestReopening(ReopeningConformance):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Iterator[OpenStore]:
        clients: list[Any] = []

        def open_(name: str) -> ExternalVectorStore:
            try:
                return open_collection(clients[-1], name)
            except (RuntimeError, IndexError):
                clients.append(QdrantClient(path=str(tmp_path)))
            return open_collection(clients[-1], name)

        yield open_
        clients[-1].close()
