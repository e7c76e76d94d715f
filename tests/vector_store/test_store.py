"""Adding, querying, getting and deleting nodes: they come back unchanged, and each call is all or nothing."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.schema import (
    BaseNode,
    ImageDocument,
    ImageNode,
    IndexNode,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from llama_index_mm_zhipu import FaissMultiModalVectorStore

MakeNode = Callable[..., TextNode]


def ask(x: float, y: float, k: int = 10, **restrictions: object) -> VectorStoreQuery:
    return VectorStoreQuery(query_embedding=[x, y], similarity_top_k=k, **restrictions)  # type: ignore[arg-type]


def where(key: str, value: object, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])  # type: ignore[arg-type]


def test_the_nearest_nodes_come_first_with_their_inner_products(
    store: FaissMultiModalVectorStore, make_node: MakeNode
) -> None:
    assert store.add([make_node("a", 1, 0), make_node("b", 0.5, 0.5), make_node("c", -1, 0)]) == ["a", "b", "c"]

    result = store.query(ask(2, 0))

    assert result.ids == ["a", "b", "c"]
    assert result.similarities == pytest.approx([2, 1, -2])
    assert result.nodes is not None
    assert [node.get_content() for node in result.nodes] == ["text of a", "text of b", "text of c"]


def test_equal_scores_keep_the_order_of_addition(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    store.add([make_node(name) for name in "zyx"])
    assert store.query(ask(1, 0)).ids == ["z", "y", "x"]
    assert store.query(ask(1, 0, k=2)).ids == ["z", "y"]


@pytest.mark.parametrize(("k", "found"), [(0, 0), (1, 1), (100, 3)])
def test_at_most_similarity_top_k_nodes_are_found(
    store: FaissMultiModalVectorStore, make_node: MakeNode, k: int, found: int
) -> None:
    store.add([make_node(name) for name in "abc"])
    assert len(store.query(ask(1, 0, k=k)).ids or []) == found


def test_an_empty_store_returns_nothing(store: FaissMultiModalVectorStore) -> None:
    result = store.query(ask(1, 0))
    assert (result.nodes, result.similarities, result.ids) == ([], [], [])
    assert store.get_nodes() == []
    assert store.count() == 0
    assert store.add([]) == []
    store.delete("nothing")
    store.delete_nodes(["nothing"])


def test_a_store_is_always_true(store: FaissMultiModalVectorStore) -> None:
    assert not hasattr(type(store), "__len__")
    assert not hasattr(type(store), "__bool__")


@pytest.fixture
def of_every_class(photos: list[Path]) -> list[BaseNode]:
    """One node of each class, with all fields that it can have."""
    source = {
        NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc", metadata={"file": "a.pdf"}),
        NodeRelationship.CHILD: [RelatedNodeInfo(node_id="kid")],
    }
    image = base64.b64encode(photos[0].read_bytes()).decode()
    return [
        ImageNode(id_="path", image_path=str(photos[0]), text="连衣裙", embedding=[1, 0], relationships=source),
        ImageNode(id_="url", image_url="https://example.com/a.jpg", embedding=[1, 0]),
        ImageNode(id_="bytes", image=image, text="😀 \x00 \"'; drop table nodes", embedding=[1, 0]),
        ImageNode(id_="odd base64", image="data:image/png;base64,iVBORw0KGgo", embedding=[1, 0]),
        TextNode(
            id_="text",
            text="说明书",
            embedding=[1, 0],
            metadata={"page": 3, "tags": ["红", "蓝"], "deep": {"a": [1, None]}, "none": None, "yes": True, "x": 1.5},
            excluded_llm_metadata_keys=["page"],
            excluded_embed_metadata_keys=["tags"],
            metadata_template="{key}={value}",
            start_char_idx=5,
        ),
        IndexNode(id_="index", text="指向", index_id="other", embedding=[1, 0]),
        ImageDocument(id_="document", image_path=str(photos[1]), text="帽子", embedding=[1, 0]),
    ]


def test_nodes_come_back_unchanged(store: FaissMultiModalVectorStore, of_every_class: list[BaseNode]) -> None:
    store.add(of_every_class)

    for given, kept in zip(of_every_class, store.get_nodes(), strict=True):
        assert type(kept) is type(given)
        assert kept.model_dump(exclude={"embedding"}) == given.model_dump(exclude={"embedding"})


def test_the_given_nodes_are_not_changed(store: FaissMultiModalVectorStore, of_every_class: list[BaseNode]) -> None:
    before = [node.model_dump() for node in of_every_class]
    store.add(of_every_class)
    assert [node.model_dump() for node in of_every_class] == before


def test_an_inline_image_is_stored_once_as_bytes(tmp_path: Path, photos: list[Path]) -> None:
    data = photos[0].read_bytes()
    text = base64.b64encode(data).decode()
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add([ImageNode(id_=name, image=text, embedding=[1, 0]) for name in "ab"])

        with sqlite3.connect(tmp_path / "default.sqlite3") as database:
            assert database.execute("select data from pictures").fetchall() == [(data,)]
        store.delete_nodes(["a"])
        assert store.get_nodes(["b"])[0].image == text  # type: ignore[attr-defined]
        store.delete_nodes(["b"])
        with sqlite3.connect(tmp_path / "default.sqlite3") as database:
            assert database.execute("select count(*) from pictures").fetchone() == (0,)


def test_adding_an_id_again_replaces_its_node(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    store.add([make_node("a", 1, 0, colour="红"), make_node("b", 0, 1)])
    store.add([make_node("a", -1, 0, colour="蓝")])

    assert store.count() == 2
    assert store.query(ask(1, 0)).similarities == pytest.approx([0, -1])
    assert store.query(ask(1, 0, filters=where("colour", "红"))).ids == []
    assert store.query(ask(1, 0, filters=where("colour", "蓝"))).ids == ["a"]


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (None, "node bad has no embedding"),
        ([1.0], "node bad has a vector of dimension 1, the store's have 2"),
        ([1.0, float("nan")], "the vector of node bad holds NaN"),
    ],
)
def test_one_bad_node_adds_none_and_deletes_none(
    store: FaissMultiModalVectorStore, make_node: MakeNode, embedding: list[float] | None, message: str
) -> None:
    store.add([make_node("old")])

    with pytest.raises(ValueError, match=message) as caught:
        store.add([make_node("new"), TextNode(id_="bad", text="x", embedding=embedding)])

    assert "\n" not in str(caught.value)
    assert [node.node_id for node in store.get_nodes()] == ["old"]
    assert store.query(ask(1, 0)).ids == ["old"]


def test_giving_an_id_twice_is_an_error(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    with pytest.raises(ValueError, match="node a is given twice"):
        store.add([make_node("a"), make_node("a")])
    assert store.count() == 0


def test_invalid_queries_are_errors(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    store.add([make_node("a")])
    with pytest.raises(ValueError, match="query's vector has dimension 3"):
        store.query(VectorStoreQuery(query_embedding=[1, 0, 0], similarity_top_k=1))
    with pytest.raises(ValueError, match="the query has no embedding"):
        store.query(VectorStoreQuery(query_str="飞机", similarity_top_k=1))
    with pytest.raises(ValueError, match="query mode 'svm' is not supported"):
        store.query(ask(1, 0, mode=VectorStoreQueryMode.SVM))


def test_queries_can_be_restricted_by_ids_and_filters(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    store.add([make_node(f"n{i}", 1 - i / 10, 0, ref_doc=f"d{i % 3}", page=i) for i in range(9)])

    assert store.query(ask(1, 0, node_ids=["n7", "n3", "gone"])).ids == ["n3", "n7"]
    assert store.query(ask(1, 0, doc_ids=["d1"])).ids == ["n1", "n4", "n7"]
    assert store.query(ask(1, 0, k=2, filters=where("page", 6, FilterOperator.GTE))).ids == ["n6", "n7"]
    assert store.query(ask(1, 0, doc_ids=["d1"], filters=where("page", 4, FilterOperator.GT))).ids == ["n7"]


def test_nodes_can_be_got_by_id_and_filter(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    store.add([make_node(name, page=i) for i, name in enumerate("abc")])
    assert [node.node_id for node in store.get_nodes(["c", "gone", "a"])] == ["c", "a"]
    assert [node.node_id for node in store.get_nodes(filters=where("page", 1, FilterOperator.GTE))] == ["b", "c"]
    assert store.get_nodes([]) == []


def test_nodes_can_be_got_with_their_vectors_for_another_store(
    store: FaissMultiModalVectorStore, of_every_class: list[BaseNode], tmp_path: Path
) -> None:
    store.add(of_every_class)
    assert {node.embedding is None for node in store.get_nodes()} == {True}

    with FaissMultiModalVectorStore(tmp_path / "other") as other:
        assert other.add(store.get_nodes(include_embeddings=True)) == [node.node_id for node in of_every_class]
        assert [node.model_dump() for node in other.get_nodes(include_embeddings=True)] == [
            node.model_dump() for node in store.get_nodes(include_embeddings=True)
        ]
    last_first = [node.node_id for node in reversed(of_every_class)]
    assert [node.embedding for node in store.get_nodes(last_first, include_embeddings=True)] == [
        node.embedding for node in reversed(of_every_class)
    ]
    assert store.get_nodes(["gone"], include_embeddings=True) == []


def test_changes_while_nodes_are_listed_in_batches(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    store.add([make_node(name) for name in "abcdef"])
    batches = store.iter_nodes(2)
    assert [node.node_id for node in next(batches)] == ["a", "b"]
    # Writers are not held up between two batches.
    store.add([make_node("a", -1), make_node("new")])
    store.delete_nodes(["c"])
    rest = [(node.node_id, node.embedding) for batch in batches for node in batch]
    assert rest == [(name, [1, 0]) for name in "def"] + [("a", [-1, 0]), ("new", [1, 0])]


def test_the_state_changes_with_every_change_of_nodes(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    states = [store.state_id()]
    for change in (
        lambda: store.add([make_node("a")]),
        lambda: store.add([make_node("a")]),
        lambda: store.delete_nodes(["a"]),
        lambda: store.add([make_node("a")]),
        lambda: store.clear(),
    ):
        change()
        states.append(store.state_id())
    assert len(set(states)) == 6
    store.checkpoint()
    store.delete_nodes(["a"])
    store.set_setting("caption_weight", 0.5)
    assert store.state_id() == states[-1]


def test_settings_are_those_of_the_nodes_not_of_the_file(tmp_path: Path, make_node: MakeNode) -> None:
    with FaissMultiModalVectorStore(tmp_path, model="clip:1") as store:
        assert (store.settings(), store.dimension()) == ({"model": "clip:1"}, None)
        store.add([make_node("a")], settings={"caption_weight": 0.5, "nothing": None})
        store.reindex("hnsw")
        store.persist()
        assert (store.settings(), store.dimension()) == ({"model": "clip:1", "caption_weight": 0.5}, 2)
        store.clear()
        assert (store.settings(), store.dimension()) == ({}, None)


def test_deleted_nodes_are_not_found(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    store.add([make_node(f"n{i}", 1 - i / 10, 0, ref_doc=f"d{i % 2}", page=i) for i in range(6)])

    store.delete("d0")
    assert store.query(ask(1, 0)).ids == ["n1", "n3", "n5"]
    store.delete_nodes(["n1", "gone"])
    assert store.query(ask(1, 0)).ids == ["n3", "n5"]
    store.delete_nodes(filters=where("page", 5))
    assert store.query(ask(1, 0)).ids == ["n3"]
    store.delete_nodes(["n3"], where("page", 99))
    assert store.count() == 1
    with pytest.raises(ValueError, match="needs node_ids or filters"):
        store.delete_nodes()
    with pytest.raises(ValueError, match="needs node_ids or filters"):
        store.delete_nodes(filters=MetadataFilters(filters=[]))
    assert store.count() == 1


def test_a_cleared_store_accepts_another_dimension(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    store.require_model("one")
    store.add([make_node("a")])
    store.clear()
    assert store.query(ask(1, 0)).ids == []

    store.require_model("two")
    store.add([TextNode(id_="b", text="x", embedding=[1, 0, 0])])
    assert store.query(VectorStoreQuery(query_embedding=[1, 0, 0], similarity_top_k=5)).ids == ["b"]


async def test_async_methods_do_the_same(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    assert await store.async_add([make_node("a", ref_doc="d"), make_node("b", 0, 1), make_node("c")]) == ["a", "b", "c"]
    assert (await store.aquery(ask(1, 0, k=1))).ids == ["a"]
    assert [node.embedding for node in await store.aget_nodes(["b"], include_embeddings=True)] == [[0, 1]]
    await store.adelete("d")
    await store.adelete_nodes(["b"])
    assert [node.node_id for node in await store.aget_nodes()] == ["c"]
    await store.aclear()
    assert store.count() == 0


async def test_async_calls_do_not_block_the_event_loop(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    work = asyncio.create_task(store.async_add([make_node("a")]))
    # This thread holds the lock. A worker thread waits for it; a call in this thread would finish at once.
    with store._database._write_lock:
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not work.done()
    assert await work == ["a"]


def test_vectors_of_zeros_are_stored_and_ranked(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    store.add([make_node("zero", 0, 0), make_node("a", 1, 0), make_node("b", 0, 1)])
    assert store.query(ask(1, 0)).ids == ["a", "zero", "b"]
    result = store.query(ask(1, 0, mode=VectorStoreQueryMode.MMR))
    assert sorted(result.ids or []) == ["a", "b", "zero"]


def test_a_query_right_after_a_commit_sees_the_change(
    store: FaissMultiModalVectorStore, make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may query after a change is committed and before the thread that made it updates the index."""
    seen: list[tuple[list[str] | None, int]] = []

    def query(changed: FaissMultiModalVectorStore) -> None:
        seen.append((changed.query(ask(1, 0)).ids, changed.count()))

    monkeypatch.setattr(FaissMultiModalVectorStore, "_follow_own_change", query)
    store.add([make_node("a"), make_node("b", 0.5), make_node("c", 0.1)])
    store.delete_nodes(["a"])
    query(store)
    store.add([make_node("c", 0.9)])
    store.delete("b")
    query(store)
    store.clear()

    assert seen == [(["a", "b", "c"], 3), (["b", "c"], 2), (["c", "b"], 2), (["c"], 1), ([], 0)]


def test_threads_can_add_delete_and_query_at_once(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    errors: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for i in range(20):
                store.add([make_node(f"{worker}-{i}", float(np.cos(i)), float(np.sin(i)))])
                store.query(ask(1, 0))
                if i % 2:
                    store.delete_nodes([f"{worker}-{i}"])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert store.count() == 40
    assert len(store.query(ask(1, 0, k=100)).ids or []) == 40


def test_metadata_values_are_the_first_texts_and_the_range_of_numbers() -> None:
    store = FaissMultiModalVectorStore()
    values = ["b", "a", "b", "", 7, -2.5, True, ["d", 9], None]
    store.add([TextNode(id_=str(n), embedding=[1.0, 0.0], metadata={"key": v}) for n, v in enumerate(values)])
    found = store.metadata_values("key", 3)
    assert found.texts == ["", "a", "b"]
    assert (found.numbers[0], found.numbers[-1]) == (-2.5, 9)
    assert store.metadata_values("key", 10).texts == ["", "a", "b", "d"]
    assert store.metadata_values("unheard", 3) == ([], [])


def test_metadata_examples_are_one_of_each_type() -> None:
    store = FaissMultiModalVectorStore()
    values: list[object] = [5, 2.5, "b", "a", "", ["x", 3, None], {"k": 1}, None, True]
    store.add([TextNode(text="x", embedding=[1.0], metadata={"key": value, "other": 9}) for value in values])
    found = store.metadata_examples("key")
    assert [(example.value, example.is_text, example.is_item) for example in found] == [
        *((1, False, False), ("", True, False), (3, False, True), ("k", True, True)),
    ]
    assert [example.value for example in store.metadata_examples("other")] == [9]
    assert store.metadata_examples("unheard") == []
