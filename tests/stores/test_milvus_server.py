"""A real Milvus server behind an index."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from milvus_server import MilvusServer, install_server, reason_to_skip
from milvus_suite import MilvusConformance, MilvusReopening, MilvusTests, OpenMilvus, open_milvus

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A server that runs during the tests of this module."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    server = MilvusServer(install_server(tmp_path_factory.mktemp("package")), tmp_path_factory.mktemp("data"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def milvus(server: MilvusServer) -> Iterator[OpenMilvus]:
    """A function that opens collections on the server, which are dropped after the test."""
    with open_milvus(server.uri) as opened:
        yield opened


class TestMilvusServer(MilvusConformance):
    """Conformance."""


class TestReopening(MilvusReopening):
    """Two objects over one collection."""


class TestMilvus(MilvusTests):
    """What is special about Milvus."""
