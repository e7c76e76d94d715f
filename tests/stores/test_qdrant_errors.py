"""Errors of a server of Qdrant say what happened, to which collection and what to do, without keys and values."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from llama_index.core.schema import ImageNode, TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient
from qdrant_rest import QdrantServer
from serving import serving
from waiting import PATIENCE

from llama_index_mm_zhipu.stores import ExternalVectorStore
from llama_index_mm_zhipu.stores.qdrant.calls import calls_of
from llama_index_mm_zhipu.stores.qdrant.filters import MAX_DEPTH
from llama_index_mm_zhipu.vector_store.errors import StoreError

pytestmark = pytest.mark.integration

KEY = "geheim-4711"


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    server = QdrantServer()
    with serving(server):
        yield server


class OddServer(ThreadingHTTPServer):
    """Answers every request alike, after the test allows it.

    Attributes:
        answer: Status and content of all answers.
        may_answer: Set while requests are answered.
    """

    daemon_threads = True

    def __init__(self, status: int, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _OddHandler)
        self.answer = status, content
        self.may_answer = threading.Event()
        self.may_answer.set()

    def client(self, timeout: float = PATIENCE) -> QdrantClient:
        return QdrantClient(url=f"http://127.0.0.1:{self.server_port}", check_compatibility=False, timeout=int(timeout))

    def handle_error(self, *args: object) -> None:
        """Do not print that a client went away, whose timeout was over."""


class _OddHandler(BaseHTTPRequestHandler):
    server: OddServer

    def do_GET(self) -> None:
        self.server.may_answer.wait()
        status, content = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Do not print requests."""


def failure(client: QdrantClient) -> str:
    """Return the message of the error of a call."""
    with pytest.raises(StoreError) as raised, calls_of(client).reporting('Qdrant collection "nodes"'):
        client.collection_exists("nodes")
    assert raised.value.__suppress_context__
    return str(raised.value)


@pytest.mark.filterwarnings("ignore:Api key is used")
def test_a_server_that_stops_is_named() -> None:
    server = QdrantServer()
    with serving(server):
        store = ExternalVectorStore(QdrantVectorStore("nodes", client=server.client(api_key=KEY)))
        store.add([TextNode(id_="a", embedding=[1.0, 0.0])])
    for call in (store.count, store.get_nodes, lambda: store.add([TextNode(id_="b", embedding=[1.0, 0.0])])):
        with pytest.raises(
            StoreError, match=r'collection "nodes" at 127\.0\.0\.1:\d+: cannot reach the server'
        ) as raised:
            call()
        assert KEY not in str(raised.value) + repr(store)


def test_a_wrong_key_is_not_shown(server: QdrantServer) -> None:
    server.key = "right"
    with pytest.warns(UserWarning, match="insecure"):
        client = server.client(api_key=KEY)
    message = failure(client)
    assert message == 'Qdrant collection "nodes": the server answered HTTP 401; give QdrantClient the right api_key'


def test_a_server_without_answer_runs_into_the_timeout() -> None:
    server = OddServer(200, b"")
    server.may_answer.clear()
    with serving(server):
        assert "no answer in time; try again, or give the client a longer time" in failure(server.client(timeout=1))
        server.may_answer.set()


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (200, b"<html>hello</html>", "the answer is not that of a Qdrant server"),
        (200, b"{}", "the answer is not that of a Qdrant server"),
        (500, b'{"status": {"error": "Service internal error: disk full"}}', "HTTP 500: Service internal error: disk"),
        (502, b"<html>Bad gateway</html>", "the server answered HTTP 502; see the log"),
        (
            400,
            b'{"status": {"error": "Index required for \\"secret\\" of x"}}',
            "HTTP 400: Index required for '…' of x",
        ),
        (404, b"nothing here", "check the collection's name and the client's URL"),
        (413, b'{"status": {"error": "Payload too large"}}', "give image_storage=… for images"),
    ],
)
def test_answers_that_are_errors_are_explained(status: int, content: bytes, message: str) -> None:
    server = OddServer(status, content)
    with serving(server):
        assert message in failure(server.client())


def test_grpc_without_a_server_is_explained() -> None:
    client = QdrantClient(host="127.0.0.1", port=1, grpc_port=1, prefer_grpc=True, check_compatibility=False)
    with (
        pytest.raises(StoreError, match=r"gRPC call failed \(UNAVAILABLE\); check the server"),
        calls_of(client).reporting("the store"),
    ):
        client.get_collections()
    client.close()


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"location": ":memory:"}, "in memory"),
        ({}, "at localhost:6333"),
        ({"url": "http://user:secret@example.com:7000/path"}, "at example.com:7000"),
        ({"url": "https://example.com"}, "at example.com:6333"),
        ({"host": "example.com", "port": 7000}, "at example.com:7000"),
    ],
)
def test_errors_name_the_place_without_its_password(options: dict[str, Any], place: str) -> None:
    assert calls_of(QdrantClient(check_compatibility=False, **options)).place == place


def test_what_a_node_holds_is_not_shown(server: QdrantServer) -> None:
    store = ExternalVectorStore(QdrantVectorStore("nodes", client=server.client()))
    store.add([TextNode(id_="a", embedding=[1.0, 0.0])])
    server.local.delete_collection("nodes")
    server.local.create_collection("nodes", {})
    with pytest.raises(StoreError, match='collection "nodes" at') as raised:
        store.add([TextNode(id_="b", text="secret", embedding=[1.0, 0.0], metadata={"x": "secret"})])
    assert "secret" not in str(raised.value)


def test_the_deepest_filters_reach_the_server(server: QdrantServer) -> None:
    store = ExternalVectorStore(QdrantVectorStore("nodes", client=server.client()))
    store.add([TextNode(id_="a", embedding=[1.0, 0.0], metadata={"title": "SU7"})])
    title = MetadataFilter(key="title", value="su7", operator=FilterOperator.TEXT_MATCH_INSENSITIVE)
    filters = MetadataFilters(filters=[title])
    for _ in range(MAX_DEPTH - 3):
        filters = MetadataFilters(filters=[filters, title])
    assert [node.node_id for node in store.get_nodes(filters=filters)] == ["a"]


def test_large_nodes_are_sent_in_several_requests(server: QdrantServer) -> None:
    image = base64.b64encode(bytes(3 * 2**20)).decode()
    store = ExternalVectorStore(QdrantVectorStore("nodes", client=server.client(), batch_size=4))
    store.add([ImageNode(id_=f"n{i}", image=image, embedding=[1.0, 0.0]) for i in range(3)])
    store.add([TextNode(id_=f"t{i}", embedding=[1.0, 0.0]) for i in range(10)])
    assert server.requests.count("PUT points") == 3 + 3
    assert store.count() == 13


@pytest.mark.parametrize("index_doc_id", [True, False])
def test_payload_indexes_are_created_for_documents_and_settings(server: QdrantServer, index_doc_id: bool) -> None:
    store = ExternalVectorStore(QdrantVectorStore("nodes", client=server.client(), index_doc_id=index_doc_id))
    store.add([TextNode(id_="a", embedding=[1.0, 0.0])])
    documents = {"doc_id": "keyword"} if index_doc_id else {}
    assert server.indexes["nodes"] == {"_mm_zhipu.searchable": "bool", "_mm_zhipu.recorded": "keyword", **documents}


@pytest.mark.parametrize("with_indexes", [True, False])
def test_points_of_a_plain_store_are_found_with_and_without_indexes(server: QdrantServer, with_indexes: bool) -> None:
    if with_indexes:
        ExternalVectorStore(QdrantVectorStore("nodes", client=server.client())).add(
            [TextNode(id_="a", embedding=[1.0, 0.0])]
        )
    QdrantVectorStore("nodes", client=server.client()).add([TextNode(embedding=[1.0, 0.0])])
    with pytest.raises(ValueError, match="holds points that ExternalVectorStore did not add"):
        ExternalVectorStore(QdrantVectorStore("nodes", client=server.client()))


def test_a_query_takes_few_requests(server: QdrantServer) -> None:
    store = ExternalVectorStore(QdrantVectorStore("nodes", client=server.client()))
    store.add([TextNode(id_="a", embedding=[1.0, 0.0])])
    server.requests.clear()
    assert store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=3)).ids == ["a"]
    assert server.requests == ["POST points/query", "POST points"]
