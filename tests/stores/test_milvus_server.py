"""A real Milvus server behind an index."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import pytest
from llama_index.core.schema import TextNode
from milvus_server import MilvusServer, call_when_ready, install_server, reason_to_skip
from milvus_suite import MilvusConformance, MilvusIndex, MilvusReopening, MilvusTests, OpenMilvus, open_milvus
from store_calls import ask, node
from waiting import PATIENCE, wait_until

from llama_index_mm_zhipu.vector_store.errors import StoreError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A server that runs during the tests of this module."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    server = MilvusServer(install_server(tmp_path_factory.mktemp("package")), tmp_path_factory.mktemp("data"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def milvus(milvus_server: MilvusServer) -> Iterator[OpenMilvus]:
    """A function that opens collections on the server, which are empty after the test."""
    with open_milvus(milvus_server.uri) as opened:
        yield opened


class TestMilvusServer(MilvusConformance):
    """Conformance."""


class TestReopening(MilvusReopening):
    """Two objects over one collection."""


class TestIndex(MilvusIndex):
    """An index over two collections."""


class TestMilvus(MilvusTests):
    """What is special about Milvus."""


def test_answers_that_are_larger_than_a_message_are_read_in_parts(milvus: OpenMilvus) -> None:
    store = milvus("nodes")
    nodes = [
        TextNode(id_=f"n{i:04d}", text="x" * 60_000, embedding=[1.0, 1.0], metadata={"note": "y" * 30_000})
        for i in range(700)
    ]
    store.add(nodes)
    assert [each.node_id for each in store.get_nodes()] == [each.node_id for each in nodes]
    assert len(store.get_nodes([each.node_id for each in nodes])) == 700
    assert len(store.query(ask(k=700)).nodes) == 700


def test_a_killed_server_loses_nothing_that_was_acknowledged(milvus_server: MilvusServer, milvus: OpenMilvus) -> None:
    store = milvus("nodes")
    acknowledged: list[str] = []
    errors: list[Exception] = []

    def add() -> None:
        try:
            for i in range(1_000_000):
                acknowledged.extend(store.add([node(f"{i}-{j}", title="private") for j in range(10)]))
        except Exception as error:
            errors.append(error)

    writer = threading.Thread(target=add)
    writer.start()
    assert wait_until(lambda: len(acknowledged) >= 100)
    milvus_server.kill()
    writer.join(PATIENCE)
    (error,) = errors
    assert isinstance(error, StoreError)
    assert re.search(r'nodes_2" at 127.0.0.1:\d+ cannot be reached', str(error))
    assert "private" not in str(error)
    with pytest.raises(StoreError, match="cannot be reached"):
        store.query(ask())

    milvus_server.start()
    call_when_ready(store.count)
    ids = [each.node_id for each in store.get_nodes()]
    assert len(ids) == len(set(ids)) == store.count()
    assert set(acknowledged) <= set(ids)
    store.add([node("later", 99)])
    assert store.query(ask(k=1)).ids == ["later"]
