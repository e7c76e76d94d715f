"""The conformance suite: what an index expects of a vector store, whichever it is.

A test module for a store subclasses ``VectorStoreConformance``, provides the fixture ``open_store``, and declares what
the store refuses. Every test either sees the answer of the embedded store or, if that is declared, an error that names
the store: a store that silently does something else fails.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from datetime import date
from itertools import pairwise, product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from filter_cases import FILTER_CASES, METADATA, where
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    TextNode,
)
from llama_index.core.vector_stores import (
    FilterOperator,
    MetadataFilters,
    SimpleVectorStore,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQueryMode
from oracle import matches
from PIL import Image
from store_calls import MODES, ODD_IDS, THREE, Calls, OpenStore, ask, node

from llama_index_mm_zhipu.images import encode_image
from llama_index_mm_zhipu.vector_store import ModelMismatchError
from llama_index_mm_zhipu.vector_store.contract import IndexStore, MovableStore


class VectorStoreConformance:
    """The tests.

    Attributes:
        modes: Query modes that the store has.
        refused_filters: Names of ``FILTER_CASES`` that the store refuses.
        max_row_bytes: Maximum size of a node; None if there is no limit that these tests meet.
        lists_nodes: Whether nodes can be found by metadata alone.
    """

    modes: ClassVar[tuple[VectorStoreQueryMode, ...]] = MODES
    refused_filters: ClassVar[frozenset[str]] = frozenset()
    max_row_bytes: ClassVar[int | None] = None
    lists_nodes: ClassVar[bool] = True

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """A function that opens a collection, always the same one for the same name."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, open_store: OpenStore) -> Any:
        """An empty store of vectors with two dimensions."""
        return open_store("nodes")

    @pytest.fixture(params=["sync", "async"])
    def calls(self, request: pytest.FixtureRequest, store: Any) -> Calls:
        return Calls(store, use_async=request.param == "async")

    @pytest.fixture
    async def filled(self, calls: Calls) -> Calls:
        """A store with three nodes; each is nearer to the query than the next one."""
        await calls.add(THREE)
        return calls

    @pytest.fixture
    def described(self, store: Any) -> Calls:
        """A store with the nodes of ``METADATA``."""
        store.add([TextNode(id_=node_id, embedding=[1.0, 1.0], metadata=METADATA[node_id]) for node_id in METADATA])
        return Calls(store, use_async=False)

    @pytest.fixture
    def filled_store(self, store: Any) -> Any:
        """A store with three nodes; each is nearer to the query than the next one."""
        store.add(THREE)
        return store

    def require_listing(self, calls: Calls) -> None:
        """Skip a test of a store that cannot list nodes, after seeing that it says so."""
        if not calls.store.lists_nodes:
            for call in (calls.store.get_nodes, lambda: calls.store.get_nodes(filters=where("page", 1))):
                with pytest.raises(ValueError, match="cannot list nodes"):
                    call()
            pytest.skip("the store refuses to list nodes")

    def require_mode(self, mode: VectorStoreQueryMode) -> None:
        if mode not in self.modes:
            pytest.skip("the store refuses this mode, as another test shows")

    # Adding

    async def test_add_returns_the_ids_in_order(self, calls: Calls) -> None:
        assert await calls.add([node("b"), node("a")]) == ["b", "a"]
        assert await calls.add([]) == []
        assert sorted(await calls.ids()) == ["a", "b"]

    async def test_adding_the_same_nodes_twice_changes_nothing(self, filled: Calls) -> None:
        self.require_listing(filled)
        before = [kept.model_dump() for kept in await filled.get_nodes()]
        await filled.add([node("b", 2, "second", "飞机场", page=2, colour="蓝")])
        assert sorted(await filled.ids()) == ["a", "b", "c"]
        assert await filled.found(ask()) == ["a", "b", "c"]
        assert [kept.model_dump() for kept in await filled.get_nodes(["a", "b", "c"])] == before

    async def test_adding_an_id_again_replaces_its_node(self, filled: Calls) -> None:
        self.require_listing(filled)
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

        for kept in (await calls.get_nodes(["inline", "file"]), (await calls.query(ask())).nodes):
            assert [type(image) for image in kept or ()] == [ImageNode, ImageNode]
            assert [image.model_dump(exclude={"embedding"}) for image in kept or ()] == [
                image.model_dump(exclude={"embedding"}) for image in images
            ]

    async def test_concurrent_additions_are_all_kept(self, store: BasePydanticVectorStore) -> None:
        await asyncio.gather(*[store.async_add([node(f"{i}-{j}") for j in range(5)]) for i in range(8)])
        assert len((await store.aquery(ask(k=100))).ids or []) == 40
        assert len(await store.aget_nodes([f"{i}-{j}" for i in range(8) for j in range(5)])) == 40

    # Deleting

    async def test_deleting_unknown_ids_is_no_error(self, filled: Calls) -> None:
        self.require_listing(filled)
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
        self.require_listing(filled)
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
        self.require_listing(calls)
        await calls.add([node("z"), node("a")])
        await calls.add([node("m")])
        assert await calls.ids() == ["z", "a", "m"]

    # Filters

    @pytest.mark.parametrize("name", FILTER_CASES)
    async def test_filters_mean_the_same_in_every_call(
        self, described: Calls, name: str, record_property: Callable[[str, object], None]
    ) -> None:
        case = FILTER_CASES[name]
        filters = case if isinstance(case, MetadataFilters) else MetadataFilters(filters=[case])
        record_property("refused", name in self.refused_filters)
        if name in self.refused_filters:
            for call in (described.get_nodes, described.delete_nodes):
                with pytest.raises(ValueError, match="cannot"):
                    await call(filters=filters)
            with pytest.raises(ValueError, match="cannot filter"):
                await described.found(ask(filters=filters))
            assert sorted(await described.ids()) == sorted(METADATA)
            return
        expected = {node_id for node_id, metadata in METADATA.items() if matches(metadata, filters)}
        assert set(await described.found(ask(filters=filters))) == expected
        if described.store.lists_nodes:
            assert set(await described.ids(filters)) == expected
            await described.delete_nodes(filters=filters)
            assert set(await described.ids()) == METADATA.keys() - expected

    async def test_filters_apply_before_the_nearest_are_counted(self, filled: Calls) -> None:
        assert await filled.found(ask(k=1, filters=where("page", 3))) == ["c"]
        assert await filled.found(ask(k=1, node_ids=["c", "gone"])) == ["c"]
        assert await filled.found(ask(k=1, doc_ids=["second"])) == ["b"]
        assert await filled.found(ask(k=1, doc_ids=["second"], node_ids=["a", "c"])) == ["c"]
        assert await filled.found(ask(doc_ids=["gone"])) == []

    async def test_empty_filters_and_node_ids_do_not_restrict_a_query(self, filled: Calls) -> None:
        self.require_listing(filled)
        empty = MetadataFilters(filters=[])
        assert await filled.found(ask(filters=empty, node_ids=[])) == ["a", "b", "c"]
        assert await filled.ids(empty) == ["a", "b", "c"]

    @pytest.mark.parametrize("mode", MODES)
    async def test_an_empty_list_of_document_ids_finds_no_node(self, filled: Calls, mode: VectorStoreQueryMode) -> None:
        self.require_mode(mode)
        assert await filled.found(ask(mode=mode, query_str="飞机 猫", doc_ids=[])) == []

    # Queries

    @pytest.mark.parametrize("mode", MODES)
    async def test_an_empty_store_finds_nothing(self, calls: Calls, mode: VectorStoreQueryMode) -> None:
        self.require_listing(calls)
        self.require_mode(mode)
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

    @pytest.mark.parametrize("mode", MODES)
    async def test_at_most_k_are_found_best_first(self, filled: Calls, mode: VectorStoreQueryMode) -> None:
        self.require_mode(mode)
        for k in (0, 1, 2, 3, 100):
            result = await filled.query(ask(k, mode=mode, query_str="飞机 猫"))
            assert len(result.ids or []) == len(set(result.ids or [])) == min(k, 3)
            assert result.similarities == sorted(result.similarities or [], reverse=True)

    @pytest.mark.parametrize("mode", MODES)
    async def test_every_mode_obeys_filters_and_ids(self, filled: Calls, mode: VectorStoreQueryMode) -> None:
        self.require_mode(mode)
        words = "飞机 猫"
        assert await filled.found(ask(mode=mode, query_str=words, filters=where("page", 2))) == ["b"]
        assert await filled.found(ask(mode=mode, query_str=words, node_ids=["c"])) == ["c"]
        assert await filled.found(ask(mode=mode, query_str=words, doc_ids=["first"])) == ["a"]

    async def test_text_search_finds_words_and_needs_no_vector(self, filled: Calls) -> None:
        mode = VectorStoreQueryMode.TEXT_SEARCH
        self.require_mode(mode)
        query = VectorStoreQuery(query_str="飞机", similarity_top_k=5, mode=mode)
        assert sorted(await filled.found(query)) == ["a", "b"]
        assert await filled.found(VectorStoreQuery(query_str="轮船", similarity_top_k=5, mode=mode)) == []

    async def test_hybrid_search_finds_by_either(self, filled: Calls) -> None:
        mode = VectorStoreQueryMode.HYBRID
        self.require_mode(mode)
        assert await filled.found(ask(k=2, query_str="猫", mode=mode)) == ["c", "a"]
        assert await filled.found(ask(k=2, query_str="猫", mode=mode, alpha=1.0)) == ["a", "b"]
        assert await filled.found(ask(k=1, query_str="猫", mode=mode, alpha=0.0)) == ["c"]

    async def test_mmr_selects_the_same_nodes_as_llama_index(self, open_store: OpenStore) -> None:
        self.require_mode(VectorStoreQueryMode.MMR)
        calls = Calls(open_store("wide", dimension=8), use_async=False)
        vectors = np.random.default_rng(0).normal(size=(31, 8))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        nodes = [
            TextNode(id_=f"n{i}", embedding=vector.tolist(), metadata={"page": i % 3})
            for i, vector in enumerate(vectors[1:])
        ]
        simple = SimpleVectorStore()
        simple.add(nodes)
        await calls.add(nodes)

        for filters, threshold in product((None, where("page", 0)), (None, 0.1, 0.5, 0.9, 1.0)):
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

    @pytest.mark.parametrize("mode", VectorStoreQueryMode)
    async def test_modes_that_the_store_lacks_are_refused_by_name(
        self, filled: Calls, mode: VectorStoreQueryMode, record_property: Callable[[str, object], None]
    ) -> None:
        record_property("refused", mode not in self.modes)
        if mode in self.modes:
            assert await filled.found(ask(mode=mode, query_str="猫"))
        else:
            with pytest.raises(ValueError, match=f"query mode '{mode.value}'.*use one of default"):
                await filled.query(ask(mode=mode, query_str="猫"))

    async def test_a_vector_query_without_vector_is_an_error(self, filled: Calls) -> None:
        with pytest.raises(ValueError, match="no embedding"):
            await filled.query(VectorStoreQuery(query_str="猫", similarity_top_k=1))

    async def test_a_vector_of_another_dimension_is_an_error(self, filled: Calls) -> None:
        with pytest.raises(ValueError, match="dimension 3"):
            await filled.query(VectorStoreQuery(query_embedding=[1.0, 0.0, 0.0], similarity_top_k=1))

    # Odd input

    @pytest.mark.parametrize("node_id", ODD_IDS, ids=lambda node_id: ascii(node_id)[:20])
    async def test_any_text_is_an_id(self, calls: Calls, node_id: str) -> None:
        await calls.add([node(node_id, 3, node_id), node("other")])
        await calls.add([node(node_id, 2, node_id)])
        assert set(await calls.ids()) == {node_id, "other"}
        assert [kept.node_id for kept in await calls.get_nodes([node_id])] == [node_id]
        assert await calls.found(ask(node_ids=[node_id])) == await calls.found(ask(doc_ids=[node_id])) == [node_id]
        await calls.delete(node_id)
        assert await calls.ids() == ["other"]
        await calls.add([node(node_id)])
        await calls.delete_nodes([node_id])
        assert await calls.ids() == ["other"]

    def test_nodes_of_every_class_and_text_come_back(self, store: Any) -> None:
        odd = "a\0b \N{GRINNING FACE}'\"\\\n%{}$1;--"
        nodes: list[BaseNode] = [
            TextNode(id_="text", text=odd, embedding=[1.0, 0.0], metadata={odd: odd, "when": 3, "nested": {"a": [1]}}),
            IndexNode(id_="index", text="飞机", index_id="other", embedding=[1.0, 0.0]),
            Node(id_="resource", text_resource=MediaResource(text="猫"), embedding=[1.0, 0.0]),
            Document(id_="document", text="文", embedding=[1.0, 0.0]),
        ]
        store.add(nodes)
        for kept in (store.get_nodes([each.node_id for each in nodes]), store.query(ask()).nodes):
            by_id = {each.node_id: each for each in kept}
            for each in nodes:
                same = by_id[each.node_id]
                assert type(same) is type(each)
                assert same.model_dump(exclude={"embedding"}) == each.model_dump(exclude={"embedding"})

    def test_a_lone_surrogate_in_an_id_stands_for_the_same_node_in_every_call(self, store: Any) -> None:
        odd = "a\ud800"
        store.add([node(odd), node("b", ref_doc=odd)])
        (kept,) = store.get_nodes([odd])
        assert kept.node_id == "a\ufffd"
        store.delete_nodes([odd])
        assert store.query(ask()).ids == ["b"]
        store.delete(odd)
        assert store.query(ask()).ids == []

    def test_images_in_documents_and_resources_are_kept(self, store: Any) -> None:
        image = encode_image(Image.new("RGB", (40, 30), "red"))
        small = base64.b64encode(image).decode()
        store.add(
            [
                Node(id_="resource", image_resource=MediaResource(data=image), embedding=[1.0, 0.0]),
                ImageDocument(id_="document", image=small, text="连衣裙", embedding=[1.0, 0.0]),
            ]
        )
        for kept in store.get_nodes(["resource", "document"]):
            assert isinstance(kept, ImageNode)
            assert kept.image == small

    def test_dates_and_numbers_of_numpy_come_back_as_json_has_them(self, store: Any) -> None:
        store.add([node("a", day=date(2026, 11, 29), n=np.int64(3))])
        (kept,) = store.get_nodes(["a"])
        assert kept.metadata == {"day": "2026-11-29", "n": 3}
        assert store.query(ask(filters=where("day", "2026-11-29"))).ids == ["a"]

    def test_a_sum_of_vectors_has_the_score_of_its_length(self, store: Any) -> None:
        # Captioned images have mean vectors, which are shorter than 1: cosines would rank them before all others.
        store.add([TextNode(id_="unit", embedding=[0.8, 0.6]), TextNode(id_="mean", embedding=[0.6, 0.3])])
        result = store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=2))
        assert result.ids == ["unit", "mean"]
        assert result.similarities == pytest.approx([0.8, 0.6])
        assert result.inner_products == pytest.approx([0.8, 0.6])

    def test_unknown_arguments_are_errors(self, filled_store: Any) -> None:
        for call in (
            lambda: filled_store.query(ask(), similarity=3),
            lambda: filled_store.add([node("a")], batch=3),
            lambda: filled_store.delete("first", force=True),
        ):
            with pytest.raises(TypeError):
                call()

    # An index asks for more than LlamaIndex does

    def test_an_index_can_use_it(self, store: Any) -> None:
        assert isinstance(store, IndexStore)
        assert store.lists_nodes == self.lists_nodes
        assert store.is_empty()
        assert store.get_setting("caption_weight") is None
        store.add([node("a")], settings={"caption_weight": 0.5, "texts_apart": True})
        assert not store.is_empty()
        assert (store.get_setting("caption_weight"), store.get_setting("texts_apart")) == (0.5, True)
        store.clear()
        assert store.is_empty()
        assert store.get_setting("caption_weight") is None
        store.checkpoint()

    def test_vectors_and_nodes_of_a_document_are_read_back(self, filled_store: Any) -> None:
        ids, vectors = filled_store.get_vectors(["c", "gone", "a"])
        assert {node_id: vector.tolist() for node_id, vector in zip(ids, vectors, strict=True)} == {
            "c": [1.0, 1.0],
            "a": [3.0, 1.0],
        }
        assert filled_store.get_vectors([])[0] == []
        if filled_store.lists_nodes:
            assert [each.node_id for each in filled_store.get_nodes_of_document("second")] == ["b", "c"]
            assert filled_store.metadata_texts("colour") == {"a": "红", "b": "蓝"}

    def test_all_nodes_are_listed_in_batches(self, store: Any) -> None:
        if not store.lists_nodes:
            pytest.skip("the store does not list nodes, as another test shows")
        assert isinstance(store, MovableStore)
        assert list(store.iter_nodes()) == []
        assert store.settings() == {}
        store.add([node(f"n{i}", i) for i in range(10)], settings={"caption_weight": 0.5})
        batches = list(store.iter_nodes(4))
        assert [len(batch) for batch in batches] == [4, 4, 2]
        assert {each.node_id: each.embedding for batch in batches for each in batch} == {
            f"n{i}": [i, 1.0] for i in range(10)
        }
        listed = [each.node_id for batch in store.iter_nodes(3, include_embeddings=False) for each in batch]
        assert listed == [f"n{i}" for i in range(10)]
        assert [each.node_id for batch in store.iter_nodes(4, after=listed[4]) for each in batch] == listed[5:]
        assert all(each.embedding is None for batch in store.iter_nodes(include_embeddings=False) for each in batch)
        assert (store.dimension(), store.count(), store.settings()) == (2, 10, {"caption_weight": 0.5})
        with pytest.raises(ValueError, match="has no node 'gone' to begin after"):
            store.iter_nodes(after="gone")
        with pytest.raises(ValueError, match="batch_size is 0"):
            store.iter_nodes(0)

    def test_the_state_changes_with_every_change_of_nodes(self, store: Any) -> None:
        def change_all() -> Iterator[None]:
            yield store.add([node("a"), node("b"), node("c")])
            yield store.add([node("a")])
            yield store.delete_nodes(["b"])
            yield store.add([node("b")])
            yield store.delete("c")
            yield store.clear()

        states = [store.state_id(), *(store.state_id() for _ in change_all())]
        if states[0] is None:
            assert set(states) == {None}
            return
        assert all(one != other for one, other in pairwise(states))
        assert len(set(states[1:-1])) == 5
        assert store.state_id() == states[-1]

    def test_full_text_is_there_only_with_texts(self, store: Any) -> None:
        assert not store.has_texts()
        store.add([node("a")])
        assert not store.has_texts()
        store.add([node("b", text="飞机")])
        assert store.has_texts() == (VectorStoreQueryMode.TEXT_SEARCH in self.modes)

    def test_vectors_of_another_model_are_refused(self, store: Any, open_store: OpenStore) -> None:
        store.require_model("one")
        store.add([node("a")])
        with pytest.raises(ModelMismatchError, match=r"one.*two"):
            store.require_model("two")
        store.require_model("one")
        store.delete_nodes(["a"])
        store.require_model("two")
        store.add([node("b")])
        with pytest.raises(ModelMismatchError, match=r"two.*one"):
            store.require_model("one")

    @pytest.mark.parametrize("size", [100_000, 1_000_000])
    def test_large_images_come_back(self, store: Any, size: int) -> None:
        image = base64.b64encode(np.random.default_rng(0).bytes(size)).decode()
        large = ImageNode(id_="large", image=image, embedding=[1.0, 0.0])
        if self.max_row_bytes is not None and size > self.max_row_bytes:
            with pytest.raises(ValueError, match=r"node large takes .* bytes.*image_storage"):
                store.add([large])
            assert store.is_empty()
            return
        store.add([large])
        assert store.get_nodes(["large"])[0].image == store.query(ask()).nodes[0].image == image

    def test_many_nodes_are_added_and_listed(self, store: Any) -> None:
        rng = np.random.default_rng(0)
        nodes = [
            TextNode(id_=f"n{i}", text="飞机", embedding=[1.0, i / 3000], metadata={"page": i}) for i in range(3000)
        ]
        for start in range(0, 3000, 1000):
            assert len(store.add(nodes[start : start + 1000])) == 1000
        by_id = {each.node_id: each for each in store.get_nodes([f"n{i}" for i in rng.permutation(3000)])}
        assert len(by_id) == 3000
        assert store.query(ask(k=500)).ids is not None
        assert len(store.query(ask(k=500)).ids) == 500
        store.delete_nodes([f"n{i}" for i in range(0, 3000, 2)])
        assert store.query(VectorStoreQuery(query_embedding=[0.0, 1.0], similarity_top_k=2)).ids == ["n2999", "n2997"]
