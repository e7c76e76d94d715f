"""Indexes of other types are built while queries go on, are kept in files, and do not change what is found."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, VectorStoreQuery

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store import ann, index_cache, ivf
from llama_index_mm_zhipu.vector_store.ann import AnnIndex

Nodes = Callable[..., list[TextNode]]
VECTORS = np.random.default_rng(3).standard_normal((4000, 8)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


def nodes(start: int, stop: int) -> list[TextNode]:
    return [
        TextNode(id_=f"n{i}", text=f"文 {i}", embedding=VECTORS[i].tolist(), metadata={"tenth": i % 10})
        for i in range(start, stop)
    ]


def nearest(number: int, k: int, among: range = range(4000)) -> list[str]:
    order = sorted(among, key=lambda i: (-float(VECTORS[i] @ VECTORS[number]), i))
    return [f"n{i}" for i in order[:k]]


def ask(store: FaissMultiModalVectorStore, number: int, k: int = 5, **query: object) -> list[str]:
    options = {"search_breadth": 200}
    asked = VectorStoreQuery(query_embedding=VECTORS[number].tolist(), similarity_top_k=k, **query)  # type: ignore[arg-type]
    return store.query(asked, **options).ids or []


@pytest.fixture(params=["durable", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FaissMultiModalVectorStore]:
    with FaissMultiModalVectorStore(tmp_path if request.param == "durable" else None) as opened:
        yield opened


@pytest.mark.parametrize("index_type", ["hnsw", "flat", "ivf", "IVF8,Flat", "SQ8", "HNSW16,SQ8"])
def test_every_index_type_finds_the_nearest_with_exact_scores(
    store: FaissMultiModalVectorStore, index_type: str
) -> None:
    store.add(nodes(0, 1000))
    store.reindex(index_type)
    store.add(nodes(1000, 1200))
    store.delete_nodes(["n77"])

    assert store.count() == 1199
    result = store.query(VectorStoreQuery(query_embedding=VECTORS[5].tolist(), similarity_top_k=5), search_breadth=8)
    alive = [i for i in range(1200) if i != 77]
    assert result.ids == nearest(5, 5, alive)  # type: ignore[arg-type]
    assert result.similarities == pytest.approx([float(VECTORS[int(i[1:])] @ VECTORS[5]) for i in result.ids], abs=1e-5)


def test_a_reopened_store_has_the_same_index_type_with_and_without_its_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add(nodes(0, 500))
        store.reindex("hnsw")
    with FaissMultiModalVectorStore(tmp_path) as store:
        assert type(store.client).__name__ == "IndexHNSWFlat"
        store.add(nodes(500, 600))
        assert ask(store, 550) == nearest(550, 5, range(600))
    assert not caplog.records
    for file in tmp_path.glob("*.faiss"):
        file.unlink()
    with FaissMultiModalVectorStore(tmp_path) as store:
        assert type(store.client).__name__ == "IndexHNSWFlat"
        assert ask(store, 550) == nearest(550, 5, range(600))


def test_the_index_type_of_an_empty_store_can_be_set(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.reindex("hnsw")
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add(nodes(0, 50))
        assert type(store.client).__name__ == "IndexHNSWFlat"
        store.clear()
        store.add(nodes(0, 50))
        assert type(store.client).__name__ == "IndexFlatIP"


def test_an_index_type_that_is_trained_needs_nodes(store: FaissMultiModalVectorStore) -> None:
    with pytest.raises(ValueError, match="the store is empty: add nodes before"):
        store.reindex("IVF8,Flat")
    store.add(nodes(0, 10))
    assert ask(store, 5) == nearest(5, 5, range(10))


@pytest.mark.parametrize("index_type", ["nonsense", "IVF512,Flat"])
def test_an_index_type_that_cannot_be_built_leaves_the_store_unchanged(
    store: FaissMultiModalVectorStore, index_type: str
) -> None:
    store.add(nodes(0, 100))
    with pytest.raises(ValueError, match=f"index of type '{index_type}'"):
        store.reindex(index_type)
    assert type(store.client).__name__ == "IndexFlatIP"
    assert ask(store, 5) == nearest(5, 5, range(100))


def test_queries_and_changes_go_on_while_an_index_is_built(
    store: FaissMultiModalVectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(nodes(0, 3000))
    builder = threading.Thread(target=store.reindex, args=("hnsw",))
    changed, add = threading.Event(), AnnIndex.add

    def add_after_the_changes(index: AnnIndex, ids: np.ndarray, vectors: np.ndarray) -> None:
        assert threading.current_thread() is not builder or changed.wait(60)
        add(index, ids, vectors)

    monkeypatch.setattr(AnnIndex, "add", add_after_the_changes)
    builder.start()
    assert ask(store, 7)[0] == "n7"
    store.add(nodes(3000, 3500))
    store.delete_nodes([f"n{i}" for i in range(2000, 2500)])
    assert ask(store, 3100)[0] == "n3100"
    changed.set()
    builder.join()

    assert type(store.client).__name__ == "IndexHNSWFlat"
    assert store.count() == 3000
    assert ask(store, 3100)[0] == "n3100"
    assert not set(ask(store, 2100, k=100)) & {f"n{i}" for i in range(2000, 2500)}


def test_many_vectors_are_found_while_they_are_encoded_in_the_background(
    store: FaissMultiModalVectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivf, "_MANY_RECENT", 100)
    monkeypatch.setattr(ivf, "_ENCODED_AT_ONCE", 50)
    store.add(nodes(0, 500))
    store.reindex("ivf")
    for start in range(500, 3500, 300):
        store.add(nodes(start, start + 300))
        assert ask(store, start + 299, k=1) == [f"n{start + 299}"]
    store.wait_for_index()

    codes = store._cache.index.index  # type: ignore[union-attr]
    assert (codes.faiss_index.ntotal, codes.ntotal) == (3500, 3500)
    assert [ask(store, number, k=1) for number in (0, 700, 3499)] == [["n0"], ["n700"], ["n3499"]]


def test_auto_builds_a_graph_in_the_background_above_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann, "AUTO_TYPES", ((1000, "flat"), (10**9, "hnsw")))
    with FaissMultiModalVectorStore(tmp_path, index_type="auto") as store:
        store.add(nodes(0, 1000))
        assert store._cache._builder is None
        store.add(nodes(1000, 1100))
        store.wait_for_index()
        assert type(store.client).__name__ == "IndexHNSWFlat"
        assert ask(store, 1050) == nearest(1050, 5, range(1100))


def test_a_graph_of_mostly_deleted_nodes_is_rebuilt(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add(nodes(0, 3000))
        store.reindex("hnsw")
        store.delete_nodes([f"n{i}" for i in range(2000)])
        store.wait_for_index()
        assert store.client.ntotal == store.count() == 1000
        assert ask(store, 2500) == nearest(2500, 5, range(2000, 3000))


def test_deletions_are_followed_by_the_next_query_or_many_at_once(
    store: FaissMultiModalVectorStore, make_node: Callable[..., TextNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_cache, "_FEW_CHANGES", 3)
    index = store._cache
    store.add([make_node(f"n{i}") for i in range(10)])
    store.delete_nodes(["n0", "n1"])
    assert len(index.index or ()) == 10
    assert store.count() == 8 == len(index.index or ())
    store.delete_nodes(["n2", "unknown"])
    store.delete_nodes(["n3"])
    assert len(index.index or ()) == 8
    store.delete_nodes(["n4"])
    assert len(index.index or ()) == 5


def test_closing_aborts_a_build_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann, "AUTO_TYPES", ((1000, "flat"), (10**9, "hnsw")))
    monkeypatch.setattr(index_cache, "_BATCH", 16)
    store = FaissMultiModalVectorStore(tmp_path, index_type="auto")
    store.add(nodes(0, 4000))
    store.close()
    assert store._cache._builder is not None
    store._cache._builder.join()
    with FaissMultiModalVectorStore(tmp_path) as again:
        assert ask(again, 3999) == nearest(3999, 5)


@pytest.mark.parametrize("index_type", ["flat", "hnsw", "SQ8"])
@pytest.mark.parametrize("tenth", [None, 3])
def test_a_filtered_query_returns_all_matching_nodes_if_asked_for(
    store: FaissMultiModalVectorStore, index_type: str, tenth: int | None
) -> None:
    store.add(nodes(0, 2000))
    store.reindex(index_type)
    filters = None if tenth is None else MetadataFilters(filters=[MetadataFilter(key="tenth", value=tenth)])
    expected = 2000 if tenth is None else 200
    assert len(ask(store, 1, k=3000, filters=filters)) == expected
    among = [i for i in range(2000) if tenth is None or i % 10 == tenth]
    assert ask(store, 1, filters=filters) == nearest(1, 5, among)  # type: ignore[arg-type]


def test_closing_after_a_small_change_does_not_write_the_faiss_file_again(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add(nodes(0, 2000))
        store.reindex("hnsw")
    (file,) = tmp_path.glob("*.faiss")
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add(nodes(2000, 2010))
    assert list(tmp_path.glob("*.faiss")) == [file]
    with FaissMultiModalVectorStore(tmp_path) as store:
        assert store.count() == 2010
        store.persist()
    assert list(tmp_path.glob("*.faiss")) != [file]


def test_a_checkpoint_writes_the_faiss_file_after_many_changes_only(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.reindex("hnsw")
        store.add(nodes(0, 1000))
        store.checkpoint()
        assert not list(tmp_path.glob("*.faiss"))
        store.add(nodes(1000, 1001))
        store.checkpoint()
        (file,) = tmp_path.glob("*.faiss")
        store.add(nodes(1001, 1100))
        store.checkpoint()
        assert list(tmp_path.glob("*.faiss")) == [file]
    with FaissMultiModalVectorStore(tmp_path) as store:
        assert ask(store, 1050) == nearest(1050, 5, range(1100))


def test_a_store_object_follows_after_the_log_of_deletions_was_truncated(tmp_path: Path) -> None:
    reader = FaissMultiModalVectorStore(tmp_path)
    with FaissMultiModalVectorStore(tmp_path) as writer:
        writer.add(nodes(0, 100))
        assert reader.count() == 100
        writer.delete_nodes([f"n{i}" for i in range(50)])
        writer.persist()
        writer.delete_nodes(["n99"])
    assert reader.count() == 49
    assert ask(reader, 60) == nearest(60, 5, range(50, 99))
    reader.close()


def test_an_index_that_an_interrupt_left_inconsistent_is_rebuilt(store: FaissMultiModalVectorStore) -> None:
    store.add(nodes(0, 100))
    # Ctrl-C between the addition to faiss and that of the ids leaves this state.
    store.client.add(VECTORS[:3])
    store.add(nodes(100, 200))
    assert store.client.ntotal == store.count() == 200
    assert ask(store, 150) == nearest(150, 5, range(200))


def test_a_progress_bar_is_shown_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add(nodes(0, 100))
        store.reindex("hnsw", show_progress=True)
    assert "Building hnsw index" in capsys.readouterr().err
