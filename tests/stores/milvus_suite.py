"""What ``ExternalVectorStore`` does over Milvus: tests for Milvus Lite and for a server."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeAlias

import pytest
from conformance import VectorStoreConformance
from filter_cases import group, one, where
from index_conformance import IndexConformance
from llama_index.core.schema import ImageNode, TextNode
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilters, VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.vector_stores.milvus import MilvusVectorStore
from pymilvus import DataType, MilvusClient
from reopening_conformance import ReopeningConformance
from store_calls import ODD_IDS, ask, node

from llama_index_mm_zhipu.stores import ExternalVectorStore
from llama_index_mm_zhipu.vector_store.errors import StoreError

OpenMilvus: TypeAlias = Callable[..., Any]
"""Opens a collection by name with vectors of a dimension (2 by default), and further arguments of the store."""


@contextmanager
def open_milvus(uri: str) -> Iterator[OpenMilvus]:
    """Return a function that opens collections, and drop these at the end.

    Args:
        uri: Path of a file of Milvus Lite, or URL of a server.
    """
    stores: list[MilvusVectorStore] = []
    special: set[str] = set()

    def open_(name: str, dimension: int = 2, **options: Any) -> ExternalVectorStore:
        collection = f"{name}_{dimension}" if not options else f"{name}_special"
        special.update([collection] if options else [])
        options = {"uri": uri, "use_async_client": False, **options}
        stores.append(MilvusVectorStore(collection_name=collection, dim=dimension, **options))
        return ExternalVectorStore(stores[-1])

    yield open_
    client = MilvusClient(uri)
    for name in client.list_collections():
        if name in special:
            client.drop_collection(name)
        else:
            # A server takes seconds to make a collection: tests share those with usual options.
            client.delete(name, filter="not (id in [])")
    for each in (client, *(store.client for store in stores)):
        each.close()


class OpensMilvus:
    """A test module provides the fixture ``milvus``, a function that opens collections."""

    @pytest.fixture
    def open_store(self, milvus: OpenMilvus) -> OpenMilvus:
        return milvus


class MilvusConformance(OpensMilvus, VectorStoreConformance):
    """Conformance."""

    modes: ClassVar[tuple[VectorStoreQueryMode, ...]] = (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR)
    refused_filters: ClassVar[frozenset[str]] = frozenset(
        {
            "contains, in a text",
            "text_match",
            "text_match, no wildcards",
            "text_match_insensitive",
            "SQL in a text",
        }
    )
    max_row_bytes: ClassVar[int | None] = 65_536


class MilvusReopening(OpensMilvus, ReopeningConformance):
    """Two objects over one collection."""


class MilvusIndex(OpensMilvus, IndexConformance):
    """Both collections of an index."""

    modes: ClassVar[tuple[VectorStoreQueryMode, ...]] = MilvusConformance.modes


class MilvusTests(OpensMilvus):
    """What is special about Milvus."""

    def test_a_plain_store_reads_the_nodes(self, open_store: OpenMilvus) -> None:
        nodes = [
            TextNode(id_="text", text="飞机", embedding=[3.0, 1.0], metadata={"页": 1}),
            ImageNode(id_="image", text="猫", image_url="http://x/y.jpg", embedding=[2.0, 1.0]),
            TextNode(id_="empty", embedding=[1.0, 1.0]),
        ]
        store = open_store("nodes")
        store.add(nodes)
        plain = store.store
        found = plain.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=3))
        assert found.ids == ["text", "image", "empty"]
        for kept in (found.nodes, sorted(plain.get_nodes(found.ids), key=lambda each: found.ids.index(each.node_id))):
            assert [each.model_dump(exclude={"embedding"}) for each in kept] == [
                each.model_dump(exclude={"embedding"}) for each in nodes
            ]
        plain.delete("text")
        assert store.query(ask()).ids == ["image", "empty"]

    def test_a_released_collection_is_loaded_when_it_is_opened(self, open_store: OpenMilvus) -> None:
        # Milvus Lite has released every collection of a file that another process wrote.
        store = open_store("nodes")
        store.add([node("a")])
        store.client.release_collection(store.store.collection_name)
        assert open_store("nodes").query(ask()).ids == ["a"]

    def test_a_row_may_be_as_large_as_the_server_takes(self, open_store: OpenMilvus) -> None:
        store = open_store("nodes")

        def large(note: int, text: int = 65_535) -> TextNode:
            return TextNode(id_="a", text="长" * (text // 3), embedding=[1.0, 1.0], metadata={"note": "x" * note})

        fits = 1
        while not self._is_refused(store, large(2 * fits)):
            fits *= 2
        for step in [2**i for i in range(16)][::-1]:
            fits += 0 if self._is_refused(store, large(fits + step)) else step
        assert 30_000 < fits < 33_000
        store.add([large(fits)])
        assert len(store.get_nodes(["a"])[0].metadata["note"]) == fits
        assert len(store.get_nodes(["a"])[0].get_content()) == 21_845
        for node_, message in (
            (large(fits + 1), r"node a takes 65,537 bytes, .* at most 65,536;.*nothing was added"),
            (large(1, 65_538), r"node a takes 65,538 bytes for its text, .* at most 65,535;"),
        ):
            with pytest.raises(ValueError, match=message):
                store.add([node("other"), node_])
        assert store.count() == 1

    @staticmethod
    def _is_refused(store: ExternalVectorStore, node_: TextNode) -> bool:
        try:
            store.add([node_])
        except ValueError:
            return True
        return False

    def test_cosine_collections_return_inner_products(self, open_store: OpenMilvus) -> None:
        store = open_store("nodes", similarity_metric="COSINE")
        store.add([TextNode(id_="unit", embedding=[0.8, 0.6]), TextNode(id_="mean", embedding=[0.6, 0.3])])
        result = store.query(VectorStoreQuery(query_embedding=[2.0, 0.0], similarity_top_k=2))
        assert (result.ids, result.similarities) == (["unit", "mean"], pytest.approx([1.6, 1.2]))
        assert store.query(ask(k=1)).ids == ["unit"]
        with pytest.raises(ValueError, match="cannot find node zero, whose vector is zero, by COSINE"):
            store.add([node("other"), TextNode(id_="zero", embedding=[0.0, 0.0])])
        assert store.count() == 2
        # The metric of the collection counts, not that of the object.
        again = open_store("nodes", similarity_metric="IP")
        assert again.query(ask(k=1)).similarities == pytest.approx([0.8])

    def test_collections_that_cannot_be_used_are_refused(self, open_store: OpenMilvus) -> None:
        with pytest.raises(ValueError, match=r"nodes.*\" at 127.* cannot rank nodes by L2.*similarity_metric='IP'"):
            open_store("nodes", similarity_metric="L2")
        open_store("two", batch_size=9).add([node("a")])
        with pytest.raises(StoreError, match=r"two.*\" at 127.* has vectors of dimension 2, .* dim=3"):
            open_store("two", dimension=3, batch_size=9)
        with pytest.raises(ValueError, match="cannot keep nodes in the fields doc_id, id, price, text"):
            open_store("fields", scalar_field_names=["price"], scalar_field_types=[DataType.INT64])
        filled = open_store("filled")
        filled.store.add([node("a")])
        with pytest.raises(ValueError, match="cannot find nodes that MilvusVectorStore itself added, such as a; "):
            open_store("filled")

    @pytest.mark.parametrize("metric", ["IP", "COSINE"])
    def test_a_node_of_another_program_beside_ours_is_an_error_that_names_it(
        self, open_store: OpenMilvus, metric: str
    ) -> None:
        store = open_store("nodes", similarity_metric=metric)
        store.add([node("a")])
        store.store.add([node("foreign")])
        with pytest.raises(
            ValueError, match="cannot find nodes that MilvusVectorStore itself added, such as foreign; "
        ):
            store.query(ask())
        store.delete_nodes(["foreign"])
        assert store.query(ask()).ids == ["a"]

    def test_contains_looks_into_lists_unless_there_are_texts(self, open_store: OpenMilvus) -> None:
        store = open_store("nodes")
        store.add([node("a", tags=["红", "x"]), node("b", tags=["蓝"]), node("c", title="x")])
        assert [each.node_id for each in store.get_nodes(filters=where("tags", "x", FilterOperator.CONTAINS))] == ["a"]
        assert store.get_nodes(filters=where("none", "x", FilterOperator.TEXT_MATCH)) == []
        store.add([node("d", tags="xyz")])
        with pytest.raises(ValueError, match=r"cannot filter by text_match, or by contains on a text \(key 'tags'\)"):
            store.get_nodes(filters=where("tags", "x", FilterOperator.CONTAINS))

    def test_numbers_compare_exactly(self, open_store: OpenMilvus) -> None:
        values = [0, 0.5, 1, 2.0, -1.5, 2**53, 2**53 + 1, -(2**63), 2**63 - 1, 1e300, -1e-7, 10**400, True]
        store = open_store("nodes")
        store.add([node(f"n{i}", value=value, items=[value]) for i, value in enumerate(values)])

        def found(value: Any, operator: FilterOperator, key: str = "value") -> list[Any]:
            return [values[int(each.node_id[1:])] for each in store.get_nodes(filters=where(key, value, operator))]

        for asked in (*values[:-1], 3, 1.0, 1e17, math.inf):
            for operator, compare in (
                (FilterOperator.EQ, lambda value, asked: value == asked),
                (FilterOperator.NE, lambda value, asked: value != asked),
                (FilterOperator.GT, lambda value, asked: value > asked),
                (FilterOperator.LTE, lambda value, asked: value <= asked),
            ):
                if abs(asked) < 1e308:
                    assert found(asked, operator) == [value for value in values if compare(value, asked)], asked
            if abs(asked) < 1e308:
                assert found([asked], FilterOperator.ANY, "items") == [value for value in values if value == asked]
        some = [0.5, 2, 1e300]
        assert found(some, FilterOperator.IN) == found(some, FilterOperator.ANY, "items") == some
        assert found(some, FilterOperator.NIN) == [value for value in values if value not in some]

    def test_filters_take_any_text(self, open_store: OpenMilvus) -> None:
        odd = [*ODD_IDS[:-1], *map(chr, range(32)), "\\", '\\"', '"', "\\n", "\\u0041", "\u2028", "{x}", "\ufeff", ""]
        texts = list(dict.fromkeys(odd))
        store = open_store("nodes")
        store.add([node(f"n{i}", **{"key": text, f"k{text}": [text]}) for i, text in enumerate(texts)])
        for i, text in enumerate(texts):
            alike = [one("key", text), one("key", [text, "?"], FilterOperator.IN), one(f"k{text}", [text])]
            found = store.get_nodes(filters=group(FilterCondition.AND, *alike))
            assert [each.node_id for each in found] == [f"n{i}"], ascii(text)
            less = {each.metadata["key"] for each in store.get_nodes(filters=where("key", text, FilterOperator.LT))}
            assert less == {other for other in texts if other < text}

    def test_many_ids_and_pages(self, open_store: OpenMilvus) -> None:
        ids = [f"飞机-{i:05d}-{'x' * 20}" for i in range(12_000)]
        store = open_store("nodes")
        store.add([TextNode(id_=id_, embedding=[1.0, i / 12_000]) for i, id_ in enumerate(ids)])
        assert store.count() == 12_000
        assert [each.node_id for each in store.get_nodes()] == ids
        assert len(store.get_nodes(ids[:10_500])) == 10_500
        assert store.query(ask(k=3, node_ids=ids[:10_500])).ids
        assert len(store.query(ask(k=20_000)).ids) == 12_000
        store.delete_nodes(ids[:10_500])
        assert store.count() == 1_500
        store.clear()
        assert store.is_empty()

    def test_hnsw_finds_as_many_as_asked(self, open_store: OpenMilvus) -> None:
        index = {"index_type": "HNSW", "M": 8, "efConstruction": 64}
        store = open_store("nodes", index_config=index, search_config={"ef": 10})
        store.add([node(f"n{i}", i) for i in range(300)])
        result = store.query(ask(k=200))
        assert len(result.ids) == 200
        assert result.ids[:3] == ["n299", "n298", "n297"]

    def test_deeply_nested_filters_hold_or_are_refused(self, open_store: OpenMilvus) -> None:
        store = open_store("nodes")
        store.add([node("a", page=1), node("b", page=2)])
        name = repr(store).removeprefix("ExternalVectorStore(").removesuffix(")")
        for depth in (40, 98):
            filters = where("page", 1)
            for _ in range(depth):
                filters = group(FilterCondition.NOT, filters)
            # Milvus Lite takes some 50 levels.
            assert self._ids_or_error(store, filters) in (
                "a",
                f"{name} does not take the filter; give fewer nested conditions",
            )

    @staticmethod
    def _ids_or_error(store: ExternalVectorStore, filters: MetadataFilters) -> str:
        try:
            return " ".join(each.node_id for each in store.get_nodes(filters=filters))
        except StoreError as error:
            return str(error)

    def test_a_closed_store_says_so(self, open_store: OpenMilvus) -> None:
        store = open_store("nodes")
        store.close()
        with pytest.raises(StoreError, match="was closed"):
            store.count()

    def test_errors_hold_no_token(self, open_store: OpenMilvus, caplog: pytest.LogCaptureFixture) -> None:
        store = open_store("dropped", token="root:secret")
        store.client.drop_collection(store.store.collection_name)
        calls: list[Callable[[], object]] = [
            store.count,
            lambda: store.add([node("a", title="private")]),
            lambda: store.query(ask(filters=where("title", "private"))),
            lambda: store.delete("private"),
            lambda: open_store("dropped", token="root:secret", dimension=3).add([node("a", title="private")]),
        ]
        for call in calls:
            with pytest.raises((StoreError, ValueError)) as raised:
                call()
            shown = f"{raised.value} {raised.value.__cause__} {store!r} {caplog.text}"
            assert "secret" not in shown
            assert "private" not in shown
