"""What LlamaIndex expects of a vector store: sync and async calls, each index type, on disk and in memory."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.schema import BaseNode, ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    SimpleVectorStore,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQueryMode

from llama_index_mm_zhipu import FaissMultiModalVectorStore

SUPPORTED_MODES = (
    VectorStoreQueryMode.DEFAULT,
    VectorStoreQueryMode.TEXT_SEARCH,
    VectorStoreQueryMode.SPARSE,
    VectorStoreQueryMode.HYBRID,
    VectorStoreQueryMode.MMR,
)


class Calls:
    """The methods of a store, sync or async.

    Args:
        store: The store.
        use_async: Whether to call the async methods.
    """

    def __init__(self, store: BasePydanticVectorStore, use_async: bool) -> None:
        self.store = store
        self.use_async = use_async

    async def add(self, nodes: Sequence[BaseNode]) -> list[str]:
        return await self.store.async_add(nodes) if self.use_async else self.store.add(nodes)

    async def query(self, query: VectorStoreQuery, **options: object) -> VectorStoreQueryResult:
        return await self.store.aquery(query, **options) if self.use_async else self.store.query(query, **options)

    async def get_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        if self.use_async:
            return await self.store.aget_nodes(node_ids, filters)
        return self.store.get_nodes(node_ids, filters)

    async def delete(self, ref_doc_id: str) -> None:
        if self.use_async:
            await self.store.adelete(ref_doc_id)
        else:
            self.store.delete(ref_doc_id)

    async def delete_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> None:
        if self.use_async:
            await self.store.adelete_nodes(node_ids, filters)
        else:
            self.store.delete_nodes(node_ids, filters)

    async def clear(self) -> None:
        if self.use_async:
            await self.store.aclear()
        else:
            self.store.clear()

    async def ids(self, filters: MetadataFilters | None = None) -> list[str]:
        return [node.node_id for node in await self.get_nodes(filters=filters)]

    async def found(self, query: VectorStoreQuery) -> list[str]:
        return list((await self.query(query)).ids or [])


def node(node_id: str, x: float = 1.0, ref_doc: str | None = None, text: str = "", **metadata: object) -> TextNode:
    relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=ref_doc)} if ref_doc else {}
    return TextNode(id_=node_id, text=text, embedding=[x, 1.0], metadata=metadata, relationships=relationships)


def ask(k: int = 10, **rest: Any) -> VectorStoreQuery:
    return VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=k, **rest)


def where(key: str, value: Any, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


FILTERS: list[tuple[MetadataFilters, list[str]]] = [
    (where("page", 2, FilterOperator.GTE), ["b", "c"]),
    (where("colour", "红"), ["a"]),
    (where("colour", "红", FilterOperator.NE), ["b", "c"]),
    (where("colour", None, FilterOperator.IS_EMPTY), ["c"]),
    (where("page", 7), []),
    (MetadataFilters(filters=[where("page", 1), where("page", 3)], condition=FilterCondition.OR), ["a", "c"]),
    (MetadataFilters(filters=[where("page", 1), where("colour", "蓝")], condition=FilterCondition.NOT), ["c"]),
]


class VectorStoreConformance:
    """The tests. A subclass provides the fixture ``store``, an empty store."""

    @pytest.fixture
    def store(self) -> BasePydanticVectorStore:
        raise NotImplementedError

    @pytest.fixture(params=["sync", "async"])
    def calls(self, request: pytest.FixtureRequest, store: BasePydanticVectorStore) -> Calls:
        return Calls(store, use_async=request.param == "async")

    @pytest.fixture
    async def filled(self, calls: Calls) -> Calls:
        """A store with three nodes; each is nearer to the query than the next one."""
        await calls.add(
            [
                node("a", 3, "first", "白色的飞机", page=1, colour="红"),
                node("b", 2, "second", "飞机场", page=2, colour="蓝"),
                node("c", 1, "second", "猫", page=3),
            ]
        )
        return calls

    # Adding

    async def test_add_returns_the_ids_in_order(self, calls: Calls) -> None:
        assert await calls.add([node("b"), node("a")]) == ["b", "a"]
        assert await calls.add([]) == []
        assert await calls.ids() == ["b", "a"]

    async def test_adding_the_same_nodes_twice_changes_nothing(self, filled: Calls) -> None:
        before = [kept.model_dump() for kept in await filled.get_nodes()]
        await filled.add([node("b", 2, "second", "飞机场", page=2, colour="蓝")])
        assert sorted(await filled.ids()) == ["a", "b", "c"]
        assert await filled.found(ask()) == ["a", "b", "c"]
        assert [kept.model_dump() for kept in await filled.get_nodes(["a", "b", "c"])] == before

    async def test_adding_an_id_again_replaces_its_node(self, filled: Calls) -> None:
        await filled.add([node("a", -1, "third", "轮船", page=9)])

        (kept,) = await filled.get_nodes(["a"])
        assert (kept.get_content(), kept.metadata, kept.ref_doc_id) == ("轮船", {"page": 9}, "third")
        assert await filled.found(ask()) == ["b", "c", "a"]
        assert await filled.ids(where("colour", "红")) == []
        await filled.delete("first")
        assert sorted(await filled.ids()) == ["a", "b", "c"]

    @pytest.mark.parametrize("embedding", [None, [], [1.0], [1.0, float("nan")], [1.0, float("inf")]])
    async def test_one_bad_node_adds_none(self, filled: Calls, embedding: list[float] | None) -> None:
        bad = TextNode(id_="bad", text="x", embedding=embedding)
        with pytest.raises(ValueError, match="nothing was added"):
            await filled.add([node("a", -1), node("new"), bad])
        assert await filled.ids() == ["a", "b", "c"]
        assert await filled.found(ask()) == ["a", "b", "c"]

    async def test_image_nodes_come_back(self, calls: Calls, photos: list[Path]) -> None:
        inline = base64.b64encode(photos[0].read_bytes()).decode()
        images = [
            ImageNode(id_="inline", image=inline, text="连衣裙", embedding=[2.0, 1.0], metadata={"page": 1}),
            ImageNode(id_="file", image_path=str(photos[1]), embedding=[1.0, 1.0]),
        ]
        await calls.add(images)

        for kept in (await calls.get_nodes(), (await calls.query(ask())).nodes):
            assert [type(image) for image in kept or ()] == [ImageNode, ImageNode]
            assert [image.model_dump(exclude={"embedding"}) for image in kept or ()] == [
                image.model_dump(exclude={"embedding"}) for image in images
            ]

    async def test_concurrent_additions_are_all_kept(self, store: BasePydanticVectorStore) -> None:
        await asyncio.gather(*[store.async_add([node(f"{i}-{j}") for j in range(5)]) for i in range(8)])
        assert len((await store.aquery(ask(k=100))).ids or []) == len(await store.aget_nodes()) == 40

    # Deleting

    async def test_deleting_unknown_ids_is_no_error(self, filled: Calls) -> None:
        await filled.delete("gone")
        await filled.delete_nodes(["gone"])
        await filled.delete_nodes([])
        await filled.delete_nodes(filters=where("page", 99))
        await filled.delete_nodes(["a"], where("page", 99))
        assert await filled.ids() == ["a", "b", "c"]

    async def test_a_document_is_deleted_with_all_its_nodes(self, filled: Calls) -> None:
        await filled.delete("second")
        assert await filled.ids() == await filled.found(ask()) == ["a"]

    async def test_nodes_are_deleted_by_id(self, filled: Calls) -> None:
        await filled.delete_nodes(["c", "gone", "a"])
        assert await filled.ids() == await filled.found(ask()) == ["b"]

    async def test_nodes_are_deleted_by_ids_and_filters_together(self, filled: Calls) -> None:
        await filled.delete_nodes(["a", "b"], where("page", 2, FilterOperator.GTE))
        assert await filled.ids() == await filled.found(ask()) == ["a", "c"]

    async def test_only_clear_deletes_every_node(self, filled: Calls) -> None:
        for filters in (None, MetadataFilters(filters=[])):
            with pytest.raises(ValueError, match="needs node_ids or filters"):
                await filled.delete_nodes(filters=filters)
        assert await filled.ids() == ["a", "b", "c"]

    async def test_a_cleared_store_is_empty_and_usable(self, filled: Calls) -> None:
        await filled.clear()
        assert await filled.ids() == await filled.found(ask()) == []
        await filled.add([node("a")])
        assert await filled.ids() == await filled.found(ask()) == ["a"]

    async def test_a_deleted_node_can_be_added_again(self, filled: Calls) -> None:
        await filled.delete_nodes(["a"])
        await filled.add([node("a", 1.5)])
        assert await filled.found(ask()) == ["b", "a", "c"]

    # Getting

    async def test_get_nodes_returns_them_in_the_order_of_the_ids(self, filled: Calls) -> None:
        assert [kept.node_id for kept in await filled.get_nodes(["c", "gone", "a", "c"])] == ["c", "a"]
        assert await filled.get_nodes([]) == []

    async def test_get_nodes_without_ids_returns_them_in_the_order_of_addition(self, calls: Calls) -> None:
        await calls.add([node("z"), node("a")])
        await calls.add([node("m")])
        assert await calls.ids() == ["z", "a", "m"]

    # Filters

    @pytest.mark.parametrize(("filters", "expected"), FILTERS)
    async def test_filters_mean_the_same_in_every_call(
        self, filled: Calls, filters: MetadataFilters, expected: list[str]
    ) -> None:
        assert await filled.ids(filters) == expected
        assert await filled.found(ask(filters=filters)) == expected
        await filled.delete_nodes(filters=filters)
        assert await filled.ids() == [node_id for node_id in ("a", "b", "c") if node_id not in expected]

    async def test_filters_apply_before_the_nearest_are_counted(self, filled: Calls) -> None:
        assert await filled.found(ask(k=1, filters=where("page", 3))) == ["c"]
        assert await filled.found(ask(k=1, node_ids=["c", "gone"])) == ["c"]
        assert await filled.found(ask(k=1, doc_ids=["second"])) == ["b"]
        assert await filled.found(ask(k=1, doc_ids=["second"], node_ids=["a", "c"])) == ["c"]
        assert await filled.found(ask(doc_ids=["gone"])) == []

    async def test_empty_filters_and_node_ids_do_not_restrict_a_query(self, filled: Calls) -> None:
        empty = MetadataFilters(filters=[])
        assert await filled.found(ask(filters=empty, node_ids=[])) == ["a", "b", "c"]
        assert await filled.ids(empty) == ["a", "b", "c"]

    @pytest.mark.parametrize("mode", SUPPORTED_MODES)
    async def test_an_empty_list_of_document_ids_finds_no_node(self, filled: Calls, mode: VectorStoreQueryMode) -> None:
        assert await filled.found(ask(mode=mode, query_str="飞机 猫", doc_ids=[])) == []

    # Queries

    @pytest.mark.parametrize("mode", SUPPORTED_MODES)
    async def test_an_empty_store_finds_nothing(self, calls: Calls, mode: VectorStoreQueryMode) -> None:
        result = await calls.query(ask(mode=mode, query_str="飞机"))
        assert (result.ids, result.similarities, list(result.nodes or [])) == ([], [], [])
        assert await calls.get_nodes() == []
        await calls.delete("first")
        await calls.clear()

    def test_an_empty_store_is_true(self, store: BasePydanticVectorStore) -> None:
        assert store

    async def test_ids_nodes_and_scores_correspond(self, filled: Calls) -> None:
        result = await filled.query(ask(k=2))
        assert result.ids == [found.node_id for found in result.nodes or ()] == ["a", "b"]
        assert result.similarities == pytest.approx([3.0, 2.0])

    @pytest.mark.parametrize("mode", SUPPORTED_MODES)
    async def test_at_most_k_are_found_best_first(self, filled: Calls, mode: VectorStoreQueryMode) -> None:
        for k in (0, 1, 2, 3, 100):
            result = await filled.query(ask(k, mode=mode, query_str="飞机 猫"))
            assert len(result.ids or []) == len(set(result.ids or [])) == min(k, 3)
            assert result.similarities == sorted(result.similarities or [], reverse=True)

    @pytest.mark.parametrize("mode", SUPPORTED_MODES)
    async def test_every_mode_obeys_filters_and_ids(self, filled: Calls, mode: VectorStoreQueryMode) -> None:
        words = "飞机 猫"
        assert await filled.found(ask(mode=mode, query_str=words, filters=where("page", 2))) == ["b"]
        assert await filled.found(ask(mode=mode, query_str=words, node_ids=["c"])) == ["c"]
        assert await filled.found(ask(mode=mode, query_str=words, doc_ids=["first"])) == ["a"]

    async def test_text_search_finds_words_and_needs_no_vector(self, filled: Calls) -> None:
        mode = VectorStoreQueryMode.TEXT_SEARCH
        query = VectorStoreQuery(query_str="飞机", similarity_top_k=5, mode=mode)
        assert sorted(await filled.found(query)) == ["a", "b"]
        assert await filled.found(VectorStoreQuery(query_str="轮船", similarity_top_k=5, mode=mode)) == []

    async def test_hybrid_search_finds_by_either(self, filled: Calls) -> None:
        mode = VectorStoreQueryMode.HYBRID
        assert await filled.found(ask(k=2, query_str="猫", mode=mode)) == ["c", "a"]
        assert await filled.found(ask(k=2, query_str="猫", mode=mode, alpha=1.0)) == ["a", "b"]
        assert await filled.found(ask(k=1, query_str="猫", mode=mode, alpha=0.0)) == ["c"]

    async def test_mmr_selects_the_same_nodes_as_llama_index(self, calls: Calls) -> None:
        vectors = np.random.default_rng(0).normal(size=(31, 8))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        nodes = [
            TextNode(id_=f"n{i}", embedding=vector.tolist(), metadata={"page": i % 3})
            for i, vector in enumerate(vectors[1:])
        ]
        simple = SimpleVectorStore()
        simple.add(nodes)
        await calls.add(nodes)

        for filters, threshold in product((None, where("page", 0, FilterOperator.NE)), (None, 0.1, 0.5, 0.9, 1.0)):
            query = VectorStoreQuery(
                query_embedding=vectors[0].tolist(),
                similarity_top_k=6,
                mode=VectorStoreQueryMode.MMR,
                filters=filters,
            )
            expected = simple.query(query, mmr_threshold=threshold)
            by_option = await calls.query(query, mmr_threshold=threshold, mmr_prefetch_factor=5)
            query.mmr_threshold = threshold
            by_query = await calls.query(query, mmr_prefetch_factor=5)
            for result in (by_option, by_query):
                assert result.ids == expected.ids
                assert result.similarities == pytest.approx(expected.similarities, abs=1e-6)

    async def test_other_modes_are_errors(self, filled: Calls) -> None:
        for mode in set(VectorStoreQueryMode) - set(SUPPORTED_MODES):
            with pytest.raises(ValueError, match=f"query mode '{mode.value}' is not supported"):
                await filled.query(ask(mode=mode, query_str="猫"))

    async def test_a_vector_query_without_vector_is_an_error(self, filled: Calls) -> None:
        with pytest.raises(ValueError, match="no embedding"):
            await filled.query(VectorStoreQuery(query_str="猫", similarity_top_k=1))

    async def test_a_vector_of_another_dimension_is_an_error(self, filled: Calls) -> None:
        with pytest.raises(ValueError, match="dimension 3"):
            await filled.query(VectorStoreQuery(query_embedding=[1.0, 0.0, 0.0], similarity_top_k=1))


class TestFaissMultiModalVectorStore(VectorStoreConformance):
    """Both index types, on disk and in memory."""

    @pytest.fixture(params=["flat", "hnsw"])
    def index_type(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture(params=["durable", "memory"])
    def store(
        self, request: pytest.FixtureRequest, index_type: str, tmp_path: Path
    ) -> Iterator[FaissMultiModalVectorStore]:
        with FaissMultiModalVectorStore(tmp_path / "store" if request.param == "durable" else None) as opened:
            if index_type == "hnsw":
                opened.reindex(index_type)
            yield opened

    def test_the_index_has_the_type(self, store: FaissMultiModalVectorStore, index_type: str) -> None:
        store.add([node("a")])
        assert type(store.client).__name__ == {"flat": "IndexFlatIP", "hnsw": "IndexHNSWFlat"}[index_type]
