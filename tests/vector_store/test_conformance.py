"""The embedded store passes the conformance suite with each index type, on disk or in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import VectorStoreConformance
from llama_index.core.schema import TextNode
from reopening_conformance import ReopeningConformance
from store_calls import OpenStore, node

from llama_index_mm_zhipu import FaissMultiModalVectorStore


class TestFaissMultiModalVectorStore(VectorStoreConformance):
    """A flat index in memory, and the approximate ones on disk."""

    @pytest.fixture(params=["flat", "hnsw", pytest.param("ivf", marks=pytest.mark.integration)])
    def index_type(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def open_store(self, index_type: str, tmp_path: Path) -> Iterator[OpenStore]:
        stores: list[FaissMultiModalVectorStore] = []

        def open_(name: str, dimension: int = 2) -> FaissMultiModalVectorStore:
            store = FaissMultiModalVectorStore(None if index_type == "flat" else tmp_path / name)
            if index_type == "hnsw":
                store.reindex(index_type)
            elif index_type == "ivf":
                # It is trained with vectors, which then may be deleted.
                vectors = np.random.default_rng(0).uniform(size=(500, dimension)).tolist()
                trained_with = store.add([TextNode(embedding=vector) for vector in vectors])
                store.reindex(index_type)
                store.delete_nodes(trained_with)
            stores.append(store)
            return store

        yield open_
        for store in stores:
            store.close()

    def test_the_index_has_the_type(self, store: Any, index_type: str) -> None:
        store.add([node("a")])
        assert (
            type(store.client).__name__
            == {
                "flat": "IndexFlatIP",
                "hnsw": "IndexHNSWFlat",
                "ivf": "IndexIVFPQFastScan",
            }[index_type]
        )


class TestReopening(ReopeningConformance):
    """On disk."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Iterator[OpenStore]:
        stores: list[FaissMultiModalVectorStore] = []

        def open_(name: str) -> FaissMultiModalVectorStore:
            stores.append(FaissMultiModalVectorStore(tmp_path / name))
            return stores[-1]

        yield open_
        for store in stores:
            store.close()
