"""``ExternalVectorStore`` over Qdrant's local mode passes the conformance suite, also through its REST API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance import VectorStoreConformance
from index_conformance import IndexConformance
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient
from qdrant_rest import QdrantServer
from reopening_conformance import ReopeningConformance
from serving import serving
from store_calls import OpenStore

from llama_index_mm_zhipu.stores import ExternalVectorStore

pytestmark = pytest.mark.integration

REFUSED = frozenset({">= text", "< text"})


def open_collection(client: QdrantClient, name: str) -> ExternalVectorStore:
    return ExternalVectorStore(QdrantVectorStore(name, client=client))


class TestLocalMode(VectorStoreConformance):
    """In memory."""

    refused_filters = REFUSED

    @pytest.fixture
    def open_store(self) -> Iterator[OpenStore]:
        client = QdrantClient(":memory:")

        def open_(name: str, dimension: int = 2) -> ExternalVectorStore:
            return open_collection(client, name)

        yield open_
        client.close()


class TestRestApi(VectorStoreConformance):
    """In memory, behind HTTP."""

    refused_filters = REFUSED

    @pytest.fixture
    def open_store(self) -> Iterator[OpenStore]:
        server = QdrantServer()
        with serving(server):
            client = server.client()

            def open_(name: str, dimension: int = 2) -> ExternalVectorStore:
                return open_collection(client, name)

            yield open_
            client.close()


class TestReopening(ReopeningConformance):
    """In a folder, which has one client at a time."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Iterator[OpenStore]:
        clients = [QdrantClient(path=str(tmp_path))]

        def open_(name: str) -> ExternalVectorStore:
            try:
                return open_collection(clients[-1], name)
            except RuntimeError:
                # Closing a store closed its client.
                clients.append(QdrantClient(path=str(tmp_path)))
                return open_collection(clients[-1], name)

        yield open_
        clients[-1].close()


class TestReopeningThroughRest(ReopeningConformance):
    """Behind HTTP, with a client for each store."""

    @pytest.fixture
    def open_store(self) -> Iterator[OpenStore]:
        server = QdrantServer()
        with serving(server):
            yield lambda name: open_collection(server.client(), name)


class TestIndex(IndexConformance):
    """Both collections of an index in memory."""

    @pytest.fixture
    def open_store(self) -> Iterator[OpenStore]:
        client = QdrantClient(":memory:")

        def open_(name: str, dimension: int = 2) -> ExternalVectorStore:
            return open_collection(client, name)

        yield open_
        client.close()

    def score_tolerance(self, mode: VectorStoreQueryMode) -> float:
        # BM25 with a fixed average length, as test_qdrant_text.py measures.
        by_text = (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE)
        return 3.0 if mode in by_text else 0.1 if mode == VectorStoreQueryMode.HYBRID else 1e-4
