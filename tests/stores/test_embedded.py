"""An index over given embedded stores passes the conformance suite of indexes."""

from __future__ import annotations

from pathlib import Path

import pytest
from index_conformance import IndexConformance
from store_calls import OpenStore

from llama_index_mm_zhipu import FaissMultiModalVectorStore

pytestmark = pytest.mark.integration


class TestIndexOverEmbeddedStores(IndexConformance):
    """Embedded stores that are given like those of a server."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        def open_(name: str, dimension: int = 2) -> FaissMultiModalVectorStore:
            return FaissMultiModalVectorStore(tmp_path / "store", namespace=name)

        return open_
