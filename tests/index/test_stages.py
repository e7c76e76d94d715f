"""The stages of ``build_index``, read, embed and write, each used alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import BaseNode, Document, ImageNode, TextNode, TransformComponent

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index, load_index
from llama_index_mm_zhipu.embedding import embed_nodes
from llama_index_mm_zhipu.index import read_nodes
from llama_index_mm_zhipu.testing import tiny_checkpoint
from llama_index_mm_zhipu.vector_store import ModelMismatchError


class Exclaim(TransformComponent):
    """Writes captions and texts with an exclamation mark."""

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        for node in nodes:
            node.set_content(node.get_content() + "！")
        return list(nodes)


def contents(nodes: Sequence[BaseNode]) -> dict[str, str]:
    return {node.node_id: node.get_content() for node in nodes}


def embedded(nodes: Sequence[BaseNode], model: ChineseClipEmbedding) -> list[BaseNode]:
    """Embed images without their captions."""
    vectors = model.get_image_embedding_batch([node.image_path for node in nodes])  # type: ignore[attr-defined]
    return [node.model_copy(update={"embedding": vector}) for node, vector in zip(nodes, vectors, strict=True)]


def test_reading_gives_images_of_folders_and_parts_of_texts(photos: list[Path]) -> None:
    long_text = "红色的帽子。" * 300
    nodes = read_nodes(
        [photos[0].parent, Document(text=long_text)],
        transformations=[SentenceSplitter(chunk_size=100, chunk_overlap=0)],
    )
    images = [node for node in nodes if isinstance(node, ImageNode)]
    assert len(images) == len(photos)
    assert len(nodes) - len(images) > 3


def test_transformations_reach_images_and_texts(tiny_embedding: ChineseClipEmbedding, photos: list[Path]) -> None:
    image = ImageNode(id_="image", image_path=str(photos[0]), text="帽子")
    document = Document(id_="document", text="说明")
    index = build_index([image, document], tiny_embedding, transformations=[SentenceSplitter(), Exclaim()])
    assert contents(index.image_store.get_nodes()) == {"image": "帽子！"}
    assert list(contents(index.text_store.get_nodes()).values()) == ["说明！"]


def test_transformations_reach_images_that_are_inserted(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    build_index(ImageNode(id_="first", image_path=str(photos[0])), tiny_embedding, persist_dir=tmp_path).close()
    index = load_index(tmp_path, tiny_embedding, transformations=[Exclaim()])
    index.insert(ImageNode(id_="second", image_path=str(photos[1]), text="裙子"))
    assert contents(index.image_store.get_nodes()) == {"first": "", "second": "裙子！"}
    index.close()


def test_splitters_leave_images_whole(tiny_embedding: ChineseClipEmbedding, photos: list[Path]) -> None:
    caption = "红色的帽子。" * 300
    image = ImageNode(id_="image", image_path=str(photos[0]), text=caption)
    index = build_index([image], tiny_embedding, transformations=[SentenceSplitter(chunk_size=100, chunk_overlap=0)])
    assert contents(index.image_store.get_nodes()) == {"image": caption}


def test_nodes_with_vectors_are_written_as_they_are(
    tiny_embedding: ChineseClipEmbedding, plain_nodes: list[ImageNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = embedded(plain_nodes[1:4], tiny_embedding)
    index = build_index(plain_nodes[:1], tiny_embedding)
    monkeypatch.setattr("llama_index_mm_zhipu.index.write.stream_image_nodes", _must_not_embed)
    index.insert_embedded(nodes)
    names, vectors = index.image_store.get_vectors([node.node_id for node in nodes])
    assert {name: vector.tolist() for name, vector in zip(names, vectors, strict=True)} == {
        node.node_id: pytest.approx(node.embedding) for node in nodes
    }


def _must_not_embed(model: object, nodes: Sequence[BaseNode], weight: float) -> Any:
    assert not nodes
    yield from ()


def test_the_three_stages_make_the_same_index_as_build_index(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    images = [ImageNode(id_=photo.name, image_path=str(photo), text=photo.stem) for photo in photos[:4]]
    whole = build_index(images, tiny_embedding, persist_dir=tmp_path / "whole")
    parts = build_index(images[:1], tiny_embedding, persist_dir=tmp_path / "parts")
    parts.insert_embedded(embed_nodes(read_nodes(images[1:]), tiny_embedding))
    ids = [image.node_id for image in images]
    assert parts.image_store.get_vectors(ids)[1] == pytest.approx(whole.image_store.get_vectors(ids)[1], abs=1e-5)
    assert parts.caption_weight == whole.caption_weight == 0.5


def test_vectors_of_another_model_are_refused(
    tiny_embedding: ChineseClipEmbedding, plain_nodes: list[ImageNode], tmp_path: Path
) -> None:
    other = ChineseClipEmbedding(str(tiny_checkpoint(tmp_path / "other", seed=1)))
    index = build_index(plain_nodes[:1], tiny_embedding)
    with pytest.raises(ModelMismatchError, match="embed the nodes with the index's model"):
        index.insert_embedded(embed_nodes(plain_nodes[1:2], other))


def test_vectors_of_another_caption_weight_are_refused(
    tiny_embedding: ChineseClipEmbedding, plain_nodes: list[ImageNode]
) -> None:
    nodes = embedded(plain_nodes[:3], tiny_embedding)
    index = build_index(plain_nodes[3:4], tiny_embedding, caption_weight=0.5)
    with pytest.raises(ValueError, match=r"made with caption_weight 0, and those of the index with 0\.5"):
        index.insert_embedded(nodes, caption_weight=0)
    assert index.image_store.count() == 1


def test_the_first_vectors_record_their_caption_weight(
    tiny_embedding: ChineseClipEmbedding, plain_nodes: list[ImageNode]
) -> None:
    index = build_index([TextNode(text="说明")], tiny_embedding)
    assert index.caption_weight is None
    index.insert_embedded(embedded(plain_nodes[:2], tiny_embedding), caption_weight=0.25)
    assert index.caption_weight == 0.25


def test_nodes_without_vectors_are_named(tiny_embedding: ChineseClipEmbedding, plain_nodes: list[ImageNode]) -> None:
    index = build_index(plain_nodes[:1], tiny_embedding)
    with pytest.raises(ValueError, match=f"node {plain_nodes[1].node_id} has no embedding; embed_nodes"):
        index.insert_embedded(plain_nodes[1:2])
