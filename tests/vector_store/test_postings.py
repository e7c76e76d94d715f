"""Postings find the same nodes before and after they are moved, and are deleted with their nodes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store import postings
from llama_index_mm_zhipu.vector_store.conditions import id_term

MakeNode = Callable[..., TextNode]
INTERVAL = 16
SAME_TERM = ("n34050", "n146118")


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postings, "_MIN_INTERVAL", INTERVAL)


def rows_of(folder: Path, table: str) -> list[tuple[int, int]]:
    with sqlite3.connect(folder / "default.sqlite3") as database:
        return database.execute(f"select term, id from {table} order by id").fetchall()


def ids_where(store: FaissMultiModalVectorStore, key: str, value: object, operator: str = "==") -> list[str]:
    one = MetadataFilter(key=key, value=value, operator=FilterOperator(operator))  # type: ignore[arg-type]
    return [node.node_id for node in store.get_nodes(filters=MetadataFilters(filters=[one]))]


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_nodes_are_found_wherever_their_postings_are(tmp_path: Path, make_node: MakeNode, batch: int) -> None:
    nodes = [make_node(f"n{i}", ref_doc=f"d{i // 4}", parity=i % 2, number=i) for i in range(100)]
    with FaissMultiModalVectorStore(tmp_path) as store:
        for start in range(0, len(nodes), batch):
            store.add(nodes[start : start + batch])
        for i in range(0, 100, 9):
            assert [node.node_id for node in store.get_nodes([f"n{i}"])] == [f"n{i}"]
            assert f"n{i}" in [node.node_id for node in store.get_nodes_of_document(f"d{i // 4}")]
            assert ids_where(store, "number", i) == [f"n{i}"]
        assert ids_where(store, "parity", 1) == [f"n{i}" for i in range(1, 100, 2)]
        assert ids_where(store, "number", 90, ">=") == [f"n{i}" for i in range(90, 100)]
        store.add([make_node(f"n{i}", number=-i) for i in range(0, 100, 10)])
        assert store.count() == 100
        assert ids_where(store, "number", 0, "<") == [f"n{i}" for i in range(10, 100, 10)]


@pytest.mark.parametrize("batch", [1, 5, INTERVAL, 3 * INTERVAL])
def test_recent_postings_are_those_of_one_interval_at_most(tmp_path: Path, make_node: MakeNode, batch: int) -> None:
    store = FaissMultiModalVectorStore(tmp_path)
    for start in range(0, 10 * INTERVAL, batch):
        store.add([make_node(f"n{i}") for i in range(start, start + batch)])
        recent = rows_of(tmp_path, "recent_postings")
        assert len(recent) <= INTERVAL
        assert len(rows_of(tmp_path, "postings")) + len(recent) == start + batch
    store.close()


def test_intervals_grow_with_the_store_and_end_where_shorter_ones_do() -> None:
    intervals = [postings._interval(last) for last in range(0, 5000, 100)]
    assert intervals == sorted(intervals)
    assert (intervals[0], intervals[-1]) == (INTERVAL, 256)
    assert all(longer % shorter == 0 for shorter, longer in pairwise(intervals))


def test_ids_with_the_same_term_are_told_apart(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    first, second = SAME_TERM
    assert id_term(first) == id_term(second)
    store.add([make_node(first), make_node("a", ref_doc=second), make_node("b", ref_doc=first)])
    assert [node.node_id for node in store.get_nodes([first])] == [first]
    assert store.get_nodes([second]) == []
    assert [node.node_id for node in store.get_nodes_of_document(second)] == ["a"]
    store.add([make_node(second), make_node(first)])
    assert store.get_vectors([first, second])[0] == [second, first]
    store.delete(second)
    assert [node.node_id for node in store.get_nodes()] == ["b", first]


def test_deleted_nodes_leave_no_postings_and_no_values(tmp_path: Path, make_node: MakeNode) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add([make_node(f"n{i}", ref_doc=f"d{i // 4}", tags=["x", f"t{i}"], number=i / 2) for i in range(40)])
        for document in range(9):
            store.delete(f"d{document}")
        assert store.metadata_values("number", 10).numbers == [18, 19.5]
        assert store.metadata_values("tags", 10).texts == ["t36", "t37", "t38", "t39", "x"]
        store.delete("d9")
        assert store.metadata_keys() == []
    tables = ("postings", "recent_postings", "node_metadata", "metadata_values", "metadata_fields")
    with sqlite3.connect(tmp_path / "default.sqlite3") as database:
        assert [database.execute(f"select count(*) from {table}").fetchone() for table in tables] == [(0,)] * 5


def test_clearing_a_store_leaves_no_postings_and_no_values(tmp_path: Path, make_node: MakeNode) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add([make_node(f"n{i}", number=i) for i in range(40)])
        store.clear()
        assert store.metadata_keys() == []
        store.add([make_node("n1", number=1)])
        assert ids_where(store, "number", 1) == ["n1"]
    assert len(rows_of(tmp_path, "postings")) + len(rows_of(tmp_path, "recent_postings")) == 2
