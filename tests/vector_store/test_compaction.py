"""Compaction: the vectors of deleted nodes are left out of a new vector file, while the store is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import VectorStoreQuery

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store import compaction

VECTORS = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float32)


def nodes(start: int, stop: int) -> list[TextNode]:
    return [TextNode(id_=f"n{i}", text=f"文 {i}", embedding=VECTORS[i].tolist()) for i in range(start, stop)]


def size(folder: Path) -> int:
    (file,) = folder.glob("*.vectors")
    return file.stat().st_size


def agrees(store: FaissMultiModalVectorStore, alive: range) -> bool:
    """Return whether a store has the vectors of these nodes, and finds the nearest of them."""
    ids, vectors = store.get_vectors([f"n{i}" for i in range(3000)])
    found = store.query(VectorStoreQuery(query_embedding=VECTORS[7].tolist(), similarity_top_k=3)).ids
    true = sorted(alive, key=lambda i: -float(VECTORS[i] @ VECTORS[7]))[:3]
    return (
        ids == [f"n{i}" for i in alive] and np.array_equal(vectors, VECTORS[alive]) and found == [f"n{i}" for i in true]
    )


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_MIN_DELETED", 100)


def settled(store: FaissMultiModalVectorStore) -> None:
    store.wait_for_index()


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_most_nodes_deleted_or_replaced_make_the_file_smaller(tmp_path: Path, place: str) -> None:
    with FaissMultiModalVectorStore(tmp_path if place == "disk" else None) as store:
        store.add(nodes(0, 2000))
        before = size(tmp_path) if place == "disk" else 0
        store.delete_nodes([f"n{i}" for i in range(700)])
        store.add(nodes(1000, 2000))
        settled(store)
        assert agrees(store, range(700, 2000))
        if place == "disk":
            assert size(tmp_path) < before
        store.add(nodes(2000, 2100))
        assert agrees(store, range(700, 2100))
    if place == "disk":
        with FaissMultiModalVectorStore(tmp_path) as store:
            assert agrees(store, range(700, 2100))


def test_few_deletions_leave_the_file_as_it_is(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add(nodes(0, 2000))
        store.delete_nodes([f"n{i}" for i in range(900)])
        assert store._cache._builder is None


def test_a_store_object_that_has_the_former_file_open_goes_on(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store, FaissMultiModalVectorStore(tmp_path) as other:
        store.add(nodes(0, 2000))
        assert agrees(other, range(2000))
        store.delete_nodes([f"n{i}" for i in range(1500)])
        settled(store)
        assert len(list(tmp_path.glob("*.vectors"))) == 1
        assert agrees(other, range(1500, 2000))
        other.add(nodes(2000, 2010))
        assert agrees(store, range(1500, 2010))


def test_nodes_that_are_added_meanwhile_are_in_the_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_MIN_DELETED", 10**9)
    monkeypatch.setattr(compaction, "_BATCH", 100)
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add(nodes(0, 1000))
        store.delete_nodes([f"n{i}" for i in range(600)])
        added = [1000]

        def add_some() -> bool:
            store.add(nodes(added[-1], added[-1] + 10))
            added.append(added[-1] + 10)
            return False

        compaction.compact(store._database, add_some)
        assert len(added) == 5
        assert agrees(store, range(600, 1040))
        assert size(tmp_path) < 500 * 32 + 8192


def test_a_compaction_that_is_stopped_changes_nothing(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add(nodes(0, 1000))
        before = list(tmp_path.glob("*.vectors"))
        compaction.compact(store._database, lambda: True)
        assert list(tmp_path.glob("*.vectors")) == before
        assert agrees(store, range(1000))


def test_a_store_that_was_cleared_meanwhile_keeps_its_new_file(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add(nodes(0, 1000))

        def clear() -> bool:
            store.clear()
            store.add(nodes(1000, 1200))
            return False

        compaction.compact(store._database, clear)
        assert agrees(store, range(1000, 1200))
        assert len(list(tmp_path.glob("*.vectors"))) == 1
