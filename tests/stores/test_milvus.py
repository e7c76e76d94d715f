"""Milvus Lite behind an index. ``test_milvus_server.py`` runs the same tests on a server, which refuses more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from milvus_suite import MilvusConformance, MilvusIndex, MilvusReopening, MilvusTests, OpenMilvus, open_milvus

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file."""
    return str(tmp_path_factory.mktemp("milvus") / "milvus.db")


@pytest.fixture
def milvus(uri: str) -> Iterator[OpenMilvus]:
    """A function that opens collections in the file, which are empty after the test."""
    with open_milvus(uri) as opened:
        yield opened


class TestMilvusLite(MilvusConformance):
    """Conformance."""


class TestReopening(MilvusReopening):
    """Two objects over one collection."""


class TestIndex(MilvusIndex):
    """An index over two collections."""


class TestMilvus(MilvusTests):
    """What is special about Milvus."""
