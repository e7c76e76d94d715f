"""Nodes of readers change their hash with image and caption, and are documents that can be deleted."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

from llama_index.core.schema import ImageNode, MetadataMode

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index, read_folder, read_jsonl


def hashes(folder: Path) -> dict[str, str]:
    return {node.node_id: node.hash for node in read_folder(folder, id_prefix="")}


def test_a_file_s_hash_follows_its_content(tmp_path: Path, photos: list[Path]) -> None:
    shutil.copy(photos[0], tmp_path / "a.jpg")
    shutil.copy(photos[1], tmp_path / "b.jpg")
    before = hashes(tmp_path)
    assert before["a.jpg"] != before["b.jpg"]
    shutil.copy(photos[2], tmp_path / "a.jpg")
    after = hashes(tmp_path)
    assert after["a.jpg"] != before["a.jpg"]
    assert after["b.jpg"] == before["b.jpg"]


def test_a_line_s_hash_follows_image_and_caption(tmp_path: Path, photos: list[Path]) -> None:
    def node_of(photo: Path, caption: str) -> ImageNode:
        record = {"image_id": 1, "image_base64": base64.b64encode(photo.read_bytes()).decode(), "caption": caption}
        (tmp_path / "test.jsonl").write_text(json.dumps(record))
        return read_jsonl(tmp_path / "test.jsonl")[0]

    nodes = [node_of(photos[0], "猫"), node_of(photos[0], "狗"), node_of(photos[1], "猫"), node_of(photos[0], "猫")]
    assert [node.hash == nodes[0].hash for node in nodes] == [True, False, False, True]
    # What the cache of a pipeline tells nodes apart by.
    contents = [node.get_content(MetadataMode.ALL) for node in nodes]
    assert len(set(contents)) == 3


def test_the_hash_is_hidden_from_models(tmp_path: Path, photos: list[Path]) -> None:
    shutil.copy(photos[0], tmp_path / "a.jpg")
    (node,) = read_folder(tmp_path)
    assert len(node.metadata["content_hash"]) == 64
    assert "content_hash" not in node.get_content(MetadataMode.LLM) + node.get_content(MetadataMode.EMBED)
    (unread,) = read_folder(tmp_path, hash_contents=False)
    folder = tmp_path.resolve().as_posix()
    assert unread.metadata == {"file_name": "a.jpg", "source_root": folder, "source_location": f"{folder}/a.jpg"}


def test_a_image_can_be_deleted_as_a_document(
    tmp_path: Path, photos: list[Path], tiny_embedding: ChineseClipEmbedding
) -> None:
    for photo in photos[:2]:
        shutil.copy(photo, tmp_path)
    index = build_index(read_folder(tmp_path, id_prefix=""), embed_model=tiny_embedding)
    index.delete_ref_doc(photos[0].name)
    assert [node.node_id for node in index.image_store.get_nodes()] == [photos[1].name]
