"""An index works over any vector store that keeps nodes, with what the store offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from list_store import ListStore
from llama_index.core import StorageContext
from llama_index.core.schema import ImageNode, TextNode
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, SimpleVectorStore

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, build_index, load_index
from llama_index_mm_zhipu.index import ImageIndex, IndexStore, as_index_store


@pytest.fixture
def index(tiny_embedding: ChineseClipEmbedding) -> ImageIndex:
    storage_context = StorageContext.from_defaults(vector_store=ListStore())
    return ImageIndex(
        nodes=[], embed_model=tiny_embedding, storage_context=storage_context, image_vector_store=ListStore()
    )


def found_by(index: ImageIndex, question: Any) -> list[str]:
    return [result.node.node_id for result in index.as_retriever(similarity_top_k=9).retrieve(question)]


def test_images_and_texts_are_found(index: ImageIndex, photos: list[Path]) -> None:
    images = [ImageNode(id_=photo.name, image_path=str(photo), text="图") for photo in photos[:3]]
    index.insert_nodes([*images, TextNode(id_="text", text="红色的帽子")])
    assert found_by(index, photos[1])[0] == photos[1].name
    assert sorted(found_by(index, "红色的帽子")) == sorted(["text", *(photo.name for photo in photos[:3])])


def test_a_node_replaces_the_one_that_has_its_id(index: ImageIndex, photos: list[Path]) -> None:
    for photo in photos[:2]:
        index.insert_nodes([ImageNode(id_="one", image_path=str(photo))])
    assert found_by(index, photos[1]) == ["one"]
    assert index.as_retriever().retrieve(photos[1])[0].score == pytest.approx(1, abs=1e-3)


def test_deletions_reach_both_stores(index: ImageIndex, photos: list[Path]) -> None:
    index.insert_nodes([ImageNode(id_="image", image_path=str(photos[0])), TextNode(id_="text", text="帽子")])
    index.delete_nodes(["image"])
    assert found_by(index, "帽子") == ["text"]
    index.delete_ref_doc("text")
    assert found_by(index, "帽子") == []


def test_the_caption_weight_is_followed_while_the_index_is_open(index: ImageIndex, photos: list[Path]) -> None:
    index.insert_nodes([ImageNode(id_="captioned", image_path=str(photos[0]), text="帽子")])
    assert index.caption_weight == 0.5
    index.close()


def test_a_store_of_ours_needs_no_wrapper() -> None:
    store = FaissMultiModalVectorStore()
    assert isinstance(store, IndexStore)
    assert as_index_store(store) is store


def test_a_store_without_nodes_is_refused(tiny_embedding: ChineseClipEmbedding) -> None:
    storage_context = StorageContext.from_defaults(vector_store=SimpleVectorStore())
    with pytest.raises(ValueError, match="does not hold the stores of this index"):
        ImageIndex(nodes=[], embed_model=tiny_embedding, storage_context=storage_context)


@pytest.mark.parametrize(
    ("wrong", "given"),
    [
        (ListStore, "the class ListStore"),
        ("postgresql://user:secret@127.0.0.1/slides", "of type str"),
    ],
)
def test_what_is_not_a_store_is_refused_without_showing_it(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], wrong: Any, given: str
) -> None:
    for argument in ("image_store", "text_store"):
        with pytest.raises(TypeError, match=f"^{argument} is {given}; give a vector store of LlamaIndex, such as"):
            build_index(photos[0], tiny_embedding, **{argument: wrong})


def test_swapped_stores_are_refused(tiny_embedding: ChineseClipEmbedding, photos: list[Path]) -> None:
    images, texts = FaissMultiModalVectorStore(), ListStore()
    build_index(photos[0], tiny_embedding, image_store=images, text_store=texts)
    with pytest.raises(ValueError, match=r"^text_store holds the images of an index \(.*\); swap"):
        load_index(embed_model=tiny_embedding, image_store=texts, text_store=images)
    assert found_by(load_index(embed_model=tiny_embedding, image_store=images, text_store=texts), photos[0]) != []


def test_a_folder_beside_both_stores_is_refused(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    stores = {"image_store": ListStore(), "text_store": ListStore()}
    for use in (
        lambda: build_index(photos[0], tiny_embedding, persist_dir=tmp_path, **stores),
        lambda: load_index(tmp_path, tiny_embedding, **stores),
    ):
        with pytest.raises(ValueError, match="persist_dir is not used if both image_store and text_store are given"):
            use()
    assert list(tmp_path.iterdir()) == []


def test_filters_on_images_of_another_store_are_not_compared_with_texts(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    image = ImageNode(id_="image", image_path=str(photos[0]), metadata={"颜色": "红"})
    text = TextNode(id_="text", text="帽子", metadata={"页": 1})
    index = build_index([image, text], tiny_embedding, persist_dir=tmp_path, image_store=ListStore())
    filters = MetadataFilters(filters=[MetadataFilter(key="颜色", value="红")])
    found = index.as_retriever(filters=filters).retrieve("帽子")
    assert [result.node.node_id for result in found] == ["image"]


@pytest.mark.parametrize("image_store", [ListStore, FaissMultiModalVectorStore])
def test_texts_of_images_that_no_search_finds_are_warned_of(
    tiny_embedding: ChineseClipEmbedding,
    photos: list[Path],
    caplog: pytest.LogCaptureFixture,
    image_store: type[ListStore | FaissMultiModalVectorStore],
) -> None:
    captioned = ImageNode(id_="captioned", image_path=str(photos[0]), text="红色的帽子")
    page = ImageNode(id_="page", image_path=str(photos[1]), text="保养手册", metadata={"page_text_source": "pdf"})
    build_index([captioned], tiny_embedding, image_store=image_store())
    assert "no full text search" not in caplog.text
    index = build_index([captioned, page], tiny_embedding, image_store=image_store())
    index.insert_nodes([captioned])
    warning = "has no full text search: the captions of 1 and the page texts of 1 of 2 images are not in vectors"
    assert (warning in caplog.text) == (image_store is ListStore)
    assert "found by full text" not in caplog.text
