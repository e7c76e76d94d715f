"""Any other store behind an index: what it surely does is used, and what it may fake is refused."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest
from conformance import VectorStoreConformance
from filter_cases import FILTER_CASES, where
from index_conformance import IndexConformance
from list_store import ListStore, StoreWithoutFilters, StoreWithoutLookup
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode, VectorStoreQueryResult
from store_calls import OpenStore, ask, node

from llama_index_mm_zhipu.stores import ExternalVectorStore
from llama_index_mm_zhipu.vector_store import StoreError

_EQUALITY = ("== ", "in ", "key ", "SQL in a", "SQL that", "Chinese", "and", "or")
EXPRESSED = {name for name in FILTER_CASES if name.startswith(_EQUALITY)} - {
    "== list",
    "SQL in a key, negated",
    "SQL in a text",
}


@pytest.mark.integration
class TestAnyStore(VectorStoreConformance):
    """A store of which nothing is known."""

    modes = (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR)
    refused_filters = frozenset(FILTER_CASES) - EXPRESSED
    lists_nodes = False

    @pytest.fixture
    def open_store(self) -> OpenStore:
        def open_(name: str, dimension: int = 2) -> ExternalVectorStore:
            return ExternalVectorStore(ListStore())

        return open_


def test_a_store_that_ignores_filters_is_found_out() -> None:
    store = ExternalVectorStore(StoreWithoutFilters())
    store.add([node("a", page=1), node("b", page=2)])
    assert len(store.query(ask()).ids or []) == 2
    for restricted in (ask(filters=where("page", 1)), ask(node_ids=["a"]), ask(doc_ids=["a"])):
        with pytest.raises(ValueError, match="StoreWithoutFilters cannot filter by metadata"):
            store.query(restricted)


def test_a_store_without_lookup_replaces_nodes_that_are_their_own_documents() -> None:
    store = ExternalVectorStore(StoreWithoutLookup())
    store.add([node("a", text="一"), node("b")])
    store.add([node("a", text="二")])
    assert [found.get_content() for found in store.query(ask()).nodes or []] == ["", "二"]
    store.add([node("part", ref_doc="document")])
    with pytest.raises(ValueError, match="cannot replace single nodes of a document; delete the document"):
        store.add([node("part", ref_doc="document")])
    store.delete("document")
    for call in (lambda: store.get_nodes(["a"]), lambda: store.delete_nodes(["a"])):
        with pytest.raises(ValueError, match=r"StoreWithoutLookup cannot .* it does not have that method"):
            call()
    store.delete("a")
    assert store.query(ask()).ids == ["b"]


def test_nodes_of_another_program_are_refused() -> None:
    inner = ListStore()
    inner.add([node("foreign")])
    store = ExternalVectorStore(inner)
    with pytest.raises(StoreError, match=r"holds nodes that were not written through an index.*foreign"):
        store.query(ask())
    with pytest.raises(StoreError, match="a collection of its own"):
        store.add([node("a")])


def test_an_error_of_the_store_names_it() -> None:
    class BrokenStore(ListStore):
        def query(self, query: VectorStoreQuery, **kwargs: object) -> VectorStoreQueryResult:
            raise ConnectionError("no route to host")

    with pytest.raises(StoreError, match="BrokenStore cannot be searched: ConnectionError: no route to host"):
        ExternalVectorStore(BrokenStore()).query(ask())


@pytest.mark.parametrize("message", ["404 Not Found", "Collection nodes does not exist"])
def test_nodes_that_were_not_added_are_an_error(message: str) -> None:
    class BrokenStore(ListStore):
        def add(self, nodes: Sequence[BaseNode], **kwargs: object) -> list[str]:
            raise RuntimeError(message)

    with pytest.raises(StoreError, match=f"BrokenStore cannot add nodes: RuntimeError: {message}"):
        ExternalVectorStore(BrokenStore()).add([node("a")])


@pytest.mark.parametrize(
    ("error", "is_empty"),
    [
        (ValueError("Collection [nodes] does not exist."), True),
        (RuntimeError("Table vectors was not found"), True),
        (RuntimeError("NotFoundError(404, 'index_not_found_exception', 'no such index [nodes]')"), True),
        (ValueError("Table is not initialized. Please add data first."), True),
        (RuntimeError("404 Not Found"), False),
        (RuntimeError("host not found"), False),
        (ConnectionError("index server: host not found"), False),
    ],
    ids=str,
)
def test_a_store_without_its_collection_is_empty_and_one_out_of_reach_is_an_error(
    error: Exception, is_empty: bool
) -> None:
    class MissingStore(ListStore):
        def query(self, query: VectorStoreQuery, **kwargs: object) -> VectorStoreQueryResult:
            raise error

    store = ExternalVectorStore(MissingStore())
    if is_empty:
        assert store.query(ask()).ids == []
        return
    with pytest.raises(StoreError, match="MissingStore cannot be searched"):
        store.query(ask())


def test_errors_hold_neither_passwords_nor_images() -> None:
    image = base64.b64encode(bytes(range(100))).decode()

    class BrokenStore(ListStore):
        def query(self, query: VectorStoreQuery, **kwargs: object) -> VectorStoreQueryResult:
            raise RuntimeError(f"redis://user:geheim@host/0 refuses {image} (api_key='geheim', Token: geheim)")

    with pytest.raises(StoreError, match=r"redis://…host/0 refuses …") as raised:
        ExternalVectorStore(BrokenStore()).query(ask())
    assert "geheim" not in str(raised.value)
    assert image[:50] not in str(raised.value)


def test_too_many_values_are_refused() -> None:
    store = ExternalVectorStore(ListStore())
    store.add([node("a", page=1)])
    assert store.query(ask(node_ids=[*map(str, range(99)), "a"])).ids == ["a"]
    with pytest.raises(ValueError, match="filter by 101 values"):
        store.query(ask(node_ids=[*map(str, range(100)), "a"]))


@pytest.mark.integration
class TestIndexOverAnyStore(IndexConformance):
    """An index over stores of which nothing is known."""

    modes = (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR)

    @pytest.fixture
    def open_store(self) -> OpenStore:
        stores: dict[str, ListStore] = {}

        def open_(name: str, dimension: int = 2) -> ExternalVectorStore:
            return ExternalVectorStore(stores.setdefault(name, ListStore()))

        return open_
