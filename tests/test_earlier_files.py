"""Files that an earlier version wrote still open: stores, indexes, the caption cache and serialised components.

``tests/data/make_earlier_files.py`` made the files and describes them.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import StorageContext, load_index_from_storage
from llama_index.core.schema import ImageNode, TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from llama_index_mm_zhipu import (
    ChineseClipEmbedding,
    FaissMultiModalVectorStore,
    ZhipuMultiModal,
    build_index,
    load_index,
    read_folder,
)
from llama_index_mm_zhipu.index import ImageIndex
from llama_index_mm_zhipu.ingestion import ImageCaptioner
from llama_index_mm_zhipu.query import ImageReranker
from llama_index_mm_zhipu.testing import MockGLMServer
from llama_index_mm_zhipu.vector_store import ModelMismatchError

ARCHIVE = Path(__file__).parent / "data" / "earlier_files.tar.gz"
KEY = "id.secret"


@pytest.fixture
def earlier(tmp_path: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a copy of the files, and the model by which their vectors were made."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "model").symlink_to(demo_folder / "model", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def expected(earlier: Path) -> dict[str, Any]:
    """What the earlier version found in the files."""
    found: dict[str, Any] = json.loads((earlier / "expected.json").read_text(encoding="utf-8"))
    return found


@contextmanager
def loaded(folder: str, embed_model: ChineseClipEmbedding) -> Iterator[ImageIndex]:
    index = load_index(folder, embed_model)
    yield index
    index.close()


def where(key: str, value: Any, operator: str = "==") -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=FilterOperator(operator))])


def ids_where(store: FaissMultiModalVectorStore, key: str, value: Any, operator: str = "==") -> list[str]:
    return [node.node_id for node in store.get_nodes(filters=where(key, value, operator))]


def require_same(index: ImageIndex, expected: dict[str, Any]) -> None:
    """Check that an index holds and finds what the earlier version held and found."""
    images, texts = index.image_store, index.text_store
    assert index.caption_weight == expected["caption_weight"]
    assert images.get_setting("model") == expected["model"]
    assert [node.to_dict() for store in (images, texts) for node in store.get_nodes()] == expected["nodes"]
    retriever = index.as_retriever(similarity_top_k=10, vector_store_query_mode="default")
    for words, ranking in expected["queries"].items():
        found = retriever.retrieve(words)
        assert [result.node.node_id for result in found] == [node_id for node_id, _ in ranking]
        assert [result.score for result in found] == pytest.approx([score for _, score in ranking], abs=1e-3)


# The trained demo model: vectors of questions that are computed now are compared with stored vectors.


@pytest.mark.parametrize(("folder", "weight"), [("captioned", 0.5), ("mixed", 0.0)])
def test_an_index_is_loaded_with_its_nodes_scores_and_caption_weight(
    earlier: Path, expected: dict[str, Any], demo_embedding: ChineseClipEmbedding, folder: str, weight: float
) -> None:
    assert demo_embedding.fingerprint == expected[folder]["model"]
    with loaded(folder, demo_embedding) as index:
        require_same(index, expected[folder])
        assert index.caption_weight == weight
    with loaded(folder, demo_embedding) as index:
        require_same(index, expected[folder])


def test_an_index_is_loaded_from_a_storage_context(
    earlier: Path, expected: dict[str, Any], demo_embedding: ChineseClipEmbedding
) -> None:
    storage = StorageContext.from_defaults(
        vector_store=FaissMultiModalVectorStore("captioned"),
        image_store=FaissMultiModalVectorStore("captioned", namespace="image"),
        persist_dir="captioned",
    )
    index = load_index_from_storage(storage, embed_model=demo_embedding)
    assert isinstance(index, ImageIndex)
    require_same(index, expected["captioned"])
    index.close()


def test_captions_that_are_not_in_the_vectors_are_found_by_full_text(
    earlier: Path, demo_embedding: ChineseClipEmbedding
) -> None:
    with loaded("mixed", demo_embedding) as index:
        found = index.as_retriever(image_similarity_top_k=1).retrieve("红苹果")
        assert [result.node.node_id for result in found if isinstance(result.node, ImageNode)] == ["apple"]


def test_metadata_of_every_type_is_filtered(earlier: Path, demo_embedding: ChineseClipEmbedding) -> None:
    with loaded("captioned", demo_embedding) as index:
        images, texts = index.image_store, index.text_store
        assert ids_where(images, "tags", "白色", "contains") == ids_where(images, "year", 2024) == ["inline"]
        assert ids_where(images, "sold", 1) == ids_where(images, "price", 12.5) == ["relative"]
        assert len(ids_where(images, "price", 5, ">=")) == 7
        assert ids_where(texts, "when", "2026-01-02") == ids_where(texts, "when", "2026", ">") == ["text"]
        assert texts.metadata_keys() == ["deep", "page", "when"]


def test_images_that_were_moved_and_have_not_changed_are_not_embedded_again(
    earlier: Path, expected: dict[str, Any], demo_embedding: ChineseClipEmbedding
) -> None:
    with loaded("captioned", demo_embedding) as index:
        before = dict(zip(*index.image_store.get_vectors(list_of_ids(index)), strict=True))
    # The folder of the images had another path.
    index = build_index(read_folder("album", captions="album/captions.csv"), demo_embedding, persist_dir="captioned")
    after = dict(zip(*index.image_store.get_vectors(list_of_ids(index)), strict=True))
    assert index.kept == 6
    assert before.keys() == after.keys()
    assert all((before[node_id] == after[node_id]).all() for node_id in before)
    assert index.caption_weight == expected["captioned"]["caption_weight"]
    index.close()


def list_of_ids(index: ImageIndex) -> list[str]:
    return [node.node_id for node in index.image_store.get_nodes()]


def test_nodes_are_added_to_and_deleted_from_an_index(earlier: Path, demo_embedding: ChineseClipEmbedding) -> None:
    with loaded("captioned", demo_embedding) as index:
        index.insert_nodes([ImageNode(id_="new", image_path="album/lemon.jpg", text="柠檬"), TextNode(text="很甜。")])
        index.delete_ref_doc("manual")
    with loaded("captioned", demo_embedding) as index:
        assert list_of_ids(index)[-1] == "new"
        assert [node.get_content() for node in index.text_store.get_nodes()] == ["很甜。"]
        nearest = index.as_retriever(image_similarity_top_k=2, vector_store_query_mode="default").retrieve("柠檬")
        assert "new" in [result.node.node_id for result in nearest]


# Parts of an index


def test_a_store_that_was_never_closed_keeps_its_nodes_and_its_type_of_index(
    earlier: Path, expected: dict[str, Any]
) -> None:
    assert (earlier / "goods" / "goods.sqlite3-wal").stat().st_size > 0
    for _ in range(2):
        with FaissMultiModalVectorStore.from_persist_dir("goods", "goods") as store:
            assert [node.to_dict() for node in store.get_nodes(include_embeddings=True)] == expected["goods"]["nodes"]
            result = store.query(VectorStoreQuery(query_embedding=[1.0, 1.0, 0.0], similarity_top_k=20))
            assert [list(pair) for pair in zip(result.ids or (), result.similarities or (), strict=True)] == [
                [node_id, pytest.approx(score)] for node_id, score in expected["goods"]["query"]
            ]
            assert type(store.client).__name__ == "IndexHNSWFlat"
            words = VectorStoreQuery(query_str="换过 SU7", similarity_top_k=5, mode=VectorStoreQueryMode.TEXT_SEARCH)
            assert sorted(store.query(words).ids or ()) == ["n5", "n7"]
            assert ids_where(store, "even", 1) == ["n0", "n2", "n4", "n6"]
            assert ids_where(store, "colours", ["红"]) == ["n1", "n4", "n7"]
            with pytest.raises(ModelMismatchError, match="filled with the model model sha256:1, not with another"):
                store.require_model("another")


def test_a_store_that_was_never_closed_takes_further_nodes(earlier: Path) -> None:
    with FaissMultiModalVectorStore("goods", namespace="goods", model="model sha256:1") as store:
        store.add([TextNode(id_="new", text="新商品", embedding=[0.0, 3.0, 0.0])])
        store.delete_nodes(["n7"])
    with FaissMultiModalVectorStore("goods", namespace="goods") as store:
        nearest = VectorStoreQuery(query_embedding=[1.0, 1.0, 0.0], similarity_top_k=2)
        assert store.query(nearest).ids == ["new", "n6"]


def test_cached_captions_are_not_asked_for_again(earlier: Path, expected: dict[str, Any]) -> None:
    nodes = [ImageNode(id_=name, image_path=f"album/{name}.jpg") for name in expected["captions"]]
    with MockGLMServer() as server:
        llm = ZhipuMultiModal(model="glm-4v-plus", api_key=KEY, api_base=server.url)
        captioned = ImageCaptioner(llm=llm, cache_path="captions.sqlite3")(nodes)
        assert server.requests == []
    assert {node.node_id: node.get_content() for node in captioned} == expected["captions"]


def test_serialised_components_are_read(earlier: Path) -> None:
    serialised: dict[str, Any] = json.loads((earlier / "components.json").read_text(encoding="utf-8"))
    llm = ZhipuMultiModal.from_dict(serialised["ZhipuMultiModal"], api_key=KEY)
    read = {
        "ZhipuMultiModal": llm,
        "ImageCaptioner": ImageCaptioner.from_dict(serialised["ImageCaptioner"], llm=llm),
        "GLMRerank": ImageReranker.from_dict(serialised["GLMRerank"], llm=llm),
        "ChineseClipEmbedding": ChineseClipEmbedding.from_dict(serialised["ChineseClipEmbedding"]),
        "FaissMultiModalVectorStore": FaissMultiModalVectorStore.from_dict(serialised["FaissMultiModalVectorStore"]),
    }
    assert read.keys() == serialised.keys()
    for name, component in read.items():
        now = json.loads(json.dumps(component.to_dict()))
        # Fields may have been added.
        assert {field: now.get(field) for field in serialised[name]} == serialised[name]
