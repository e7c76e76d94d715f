"""An index is moved with both of its stores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from list_store import ListStore
from llama_index.core.schema import ImageNode, TextNode

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, build_index, load_index
from llama_index_mm_zhipu.index import ImageIndex
from llama_index_mm_zhipu.stores import ExternalVectorStore, export_index, import_index
from llama_index_mm_zhipu.vector_store import ModelMismatchError, StoreError

pytestmark = pytest.mark.integration


@pytest.fixture
def index(tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]) -> ImageIndex:
    """An index in memory with ten images and two texts, one of which has the id of an image."""
    texts = [TextNode(id_="text", text="发动机舱盖"), TextNode(id_=photo_nodes[0].node_id, text="红色的帽子")]
    return build_index([*photo_nodes, *texts], tiny_embedding, caption_weight=0.3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Path of a folder that is not there yet."""
    return tmp_path / "shards"


@pytest.fixture
def shards(index: ImageIndex, folder: Path) -> Path:
    """Folder with the shards of the index."""
    export_index(index, folder, nodes_per_shard=4, show_progress=False)
    return folder


def stores_in(folder: Path) -> dict[str, Any]:
    """Return the embedded stores of an index in a folder, as ``load_index`` takes them."""
    image_store = FaissMultiModalVectorStore(folder, namespace="image")
    return {"image_store": image_store, "text_store": FaissMultiModalVectorStore(folder)}


def found(index: ImageIndex) -> list[tuple[str, float | None]]:
    return [(each.node_id, each.score) for each in index.as_retriever(similarity_top_k=12).retrieve("红色的帽子")]


def test_both_stores_are_written_into_subfolders(index: ImageIndex, folder: Path) -> None:
    report = export_index(index, folder, nodes_per_shard=4, show_progress=False)
    assert (report.nodes, report.kept, report.shards) == (12, 0, 4)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")) == [
        "images/nodes-00000.parquet",
        "images/nodes-00001.parquet",
        "images/nodes-00002.parquet",
        "texts/nodes-00000.parquet",
    ]
    assert report.bytes == sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    assert folder.stat().st_mode & 0o777 == 0o700
    again = export_index(index, folder, nodes_per_shard=4, show_progress=False)
    assert (again.nodes, again.kept) == (12, 12)


def test_an_imported_index_answers_the_same(
    index: ImageIndex, shards: Path, tiny_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    stores = stores_in(tmp_path / "new")
    report = import_index(shards, load_index(embed_model=tiny_embedding, **stores), show_progress=False)
    assert (report.nodes, report.kept, report.shards) == (12, 0, 4)
    for store in stores.values():
        store.close()

    moved = load_index(tmp_path / "new", tiny_embedding)
    assert moved.caption_weight == 0.3
    assert found(moved) == found(index)
    assert import_index(shards, moved, show_progress=False).kept == 12


def test_a_single_store_of_an_index_can_be_imported(shards: Path, index: ImageIndex) -> None:
    store = FaissMultiModalVectorStore()
    assert import_index(shards / "texts", store, show_progress=False).nodes == 2
    assert store.get_nodes() == index.text_store.get_nodes()
    store.close()


def test_an_index_and_a_store_are_not_mixed_up(shards: Path, index: ImageIndex, tmp_path: Path) -> None:
    for move in (export_index, import_index):
        given: Any = (index.image_store, shards) if move is export_index else (shards, index.image_store)
        with pytest.raises(ValueError, match=r"holds the two stores of an index: give the index, or .*'images' or"):
            move(*given)
    export_index(index.image_store, tmp_path / "one", show_progress=False)
    for move in (export_index, import_index):
        given = (index, tmp_path / "one") if move is export_index else (tmp_path / "one", index)
        with pytest.raises(ValueError, match=r"one holds a single store: give index.image_store or index.text_store"):
            move(*given)


def test_anything_else_is_refused(folder: Path) -> None:
    for given in (None, "index", object()):
        wrong: Any = given
        with pytest.raises(TypeError, match="give an index or a vector store"):
            export_index(wrong, folder)
        with pytest.raises(TypeError, match="give an index or a vector store"):
            import_index(folder, wrong)
    assert not folder.exists()


def test_half_an_export_is_not_imported(shards: Path, tiny_embedding: ChineseClipEmbedding, tmp_path: Path) -> None:
    (shards / "texts" / "manifest.json").unlink()
    stores = stores_in(tmp_path / "new")
    with pytest.raises(FileNotFoundError, match=r"no manifest.json in .*texts"):
        import_index(shards, load_index(embed_model=tiny_embedding, **stores))
    assert stores["image_store"].is_empty()


@dataclass
class TwoStores:
    """Two stores without an index."""

    image_store: Any
    text_store: Any


def test_nothing_is_written_to_one_store_if_the_other_has_another_model(shards: Path) -> None:
    images, texts = FaissMultiModalVectorStore(), FaissMultiModalVectorStore(model="other")
    texts.add([TextNode(id_="a", embedding=[1.0] * 64)])
    with pytest.raises(ModelMismatchError, match=r"another store"):
        import_index(shards, TwoStores(images, texts))
    assert images.is_empty()
    texts.clear()
    assert import_index(shards, TwoStores(images, FaissMultiModalVectorStore()), show_progress=False).nodes == 12


def test_an_index_whose_text_store_is_missing_is_exported_as_empty(
    folder: Path, tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]
) -> None:
    store = FaissMultiModalVectorStore()
    index = build_index(photo_nodes, tiny_embedding, image_store=store)
    assert export_index(index, folder, show_progress=False).nodes == 10
    target = load_index(embed_model=tiny_embedding, image_store=FaissMultiModalVectorStore())
    assert import_index(folder, target, show_progress=False).nodes == 10
    store.close()


def test_an_index_over_a_store_that_does_not_list_nodes_is_refused_before_anything_is_written(
    folder: Path, tiny_embedding: ChineseClipEmbedding, index: ImageIndex
) -> None:
    target = load_index(embed_model=tiny_embedding, image_store=index.image_store, text_store=ListStore())
    assert isinstance(target.text_store, ExternalVectorStore)
    with pytest.raises(ValueError, match=r"ListStore.*does not list its nodes, so that it cannot be exported"):
        export_index(target, folder)
    assert not folder.exists()


def test_a_damaged_store_of_an_index_is_exported_again(shards: Path, index: ImageIndex) -> None:
    (shards / "texts" / "nodes-00000.parquet").write_bytes(b"damaged")
    with pytest.raises(StoreError, match=r"texts/nodes-00000.parquet is cut short"):
        import_index(shards, index, show_progress=False)
    report = export_index(index, shards, nodes_per_shard=4, show_progress=False)
    assert (report.nodes, report.kept) == (12, 10)
