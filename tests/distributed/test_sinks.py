"""Sinks: Parquet shards in a folder, and an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from llama_index.core.schema import BaseNode, ImageNode
from made_parts import part, records

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore
from llama_index_mm_zhipu.distributed.checkpoint import CHECKPOINT, LOCK
from llama_index_mm_zhipu.distributed.parts import Part, SkippedImage
from llama_index_mm_zhipu.distributed.sinks import SKIPPED, IndexSink, ShardSink, StoredParts
from llama_index_mm_zhipu.embedding import embed_nodes
from llama_index_mm_zhipu.index import ImageIndex
from llama_index_mm_zhipu.stores import export_index, import_index
from llama_index_mm_zhipu.stores.transfer.manifest import MANIFEST, Shard, read_manifest
from llama_index_mm_zhipu.vector_store import ModelMismatchError, StoreError

SETTINGS = {"model": "clip:1", "caption_weight": 0.0}
OpenIndex = Callable[[Path], ImageIndex]


@pytest.fixture
def sink(tmp_path: Path) -> ShardSink:
    """Shards in a folder that exists, as with the checkpoint of a run in it."""
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / CHECKPOINT).touch()
    return ShardSink(folder, 2, "float32")


@pytest.fixture
def target() -> FaissMultiModalVectorStore:
    """An empty store in memory."""
    return FaissMultiModalVectorStore()


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {CHECKPOINT, MANIFEST}


def written(sink: ShardSink, *parts: Part) -> list[Shard]:
    """Write parts; return the files of those that have one."""
    return [shard for each in parts if (shard := sink.write(each)) is not None]


def finish(
    sink: ShardSink,
    shards: Sequence[Shard],
    skipped: Sequence[SkippedImage] = (),
    unfinished: Sequence[str] = (),
) -> None:
    sink.finish(StoredParts(shards, skipped, SETTINGS, unfinished))


def import_(folder: Path, store: Any) -> list[str]:
    """Import a folder; return the ids of the nodes in their order."""
    import_index(folder, store, show_progress=False)
    return [node.node_id for batch in store.iter_nodes() for node in batch]


# The folder


def test_a_new_folder_and_that_of_an_earlier_run_are_taken(sink: ShardSink, tmp_path: Path) -> None:
    finish(sink, written(sink, part("a")))
    sink.check()
    ShardSink(tmp_path / "new", 2, "float32").check()
    assert not (tmp_path / "new").exists()


def test_an_empty_folder_and_one_of_a_run_that_was_killed_at_once_are_taken(tmp_path: Path) -> None:
    ShardSink(tmp_path, 2, "float32").check()
    (tmp_path / LOCK).touch()
    ShardSink(tmp_path, 2, "float32").check()


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{tmp_path} holds other files, and no {CHECKPOINT}; choose another folder"):
        ShardSink(tmp_path, 2, "float32").check()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_finished_export_is_refused_and_left_as_it_is(tmp_path: Path, target: FaissMultiModalVectorStore) -> None:
    folder = tmp_path / "export"
    target.add(part("a").nodes, settings=SETTINGS)
    export_index(target, folder, show_progress=False)
    with pytest.raises(ValueError, match="holds other files"):
        ShardSink(folder, 2, "float32").check()
    assert (manifest := read_manifest(folder)) is not None
    assert manifest.is_complete


# Parts


def test_a_part_is_a_file_of_its_own(sink: ShardSink) -> None:
    [first, second] = written(sink, part("a", "b"), part("c", number=1))
    assert files(sink.folder) == {first.file, second.file}
    assert (first.file, first.nodes) == ("nodes-photos-1-000000.parquet", 2)
    assert first.bytes == (sink.folder / first.file).stat().st_size
    assert sink.has(first)


def test_a_part_without_images_has_no_file(sink: ShardSink) -> None:
    assert sink.write(part(skipped=[SkippedImage("a", "bad")])) is None
    assert files(sink.folder) == set()
    assert sink.has(None)


def test_a_part_that_is_written_again_replaces_its_file(sink: ShardSink, target: FaissMultiModalVectorStore) -> None:
    written(sink, part("a", "b"))
    finish(sink, written(sink, part("c")))
    assert len(files(sink.folder)) == 1
    assert import_(sink.folder, target) == ["c"]


def test_a_part_that_cannot_be_written_leaves_the_earlier_file(sink: ShardSink) -> None:
    [shard] = written(sink, part("a"))
    with pytest.raises(ValueError, match="twice"):
        sink.write(part("a", "a"))
    assert sink.has(shard)
    assert files(sink.folder) == {shard.file}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def change_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, change_byte, Path.unlink])
def test_a_file_that_is_damaged_or_missing_is_noticed(sink: ShardSink, damage: Callable[[Path], None]) -> None:
    first, second = written(sink, part("a"), part("b", number=1))
    damage(sink.folder / first.file)
    assert (sink.has(first), sink.has(second)) == (False, True)


# The whole


def test_a_finished_folder_can_be_imported(sink: ShardSink, target: FaissMultiModalVectorStore) -> None:
    finish(sink, written(sink, part("a", "b"), part("c", number=1)))
    assert import_(sink.folder, target) == ["a", "b", "c"]
    assert target.settings() == SETTINGS
    [node] = target.get_nodes(["b"], include_embeddings=True)
    assert isinstance(node, ImageNode)
    assert node.embedding == [1.0, 0.0]


def test_half_precision_is_written(tmp_path: Path) -> None:
    sink = ShardSink(tmp_path, 2, "float16")
    [shard] = written(sink, part("a"))
    assert pq.read_table(tmp_path / shard.file).column("vector")[0].as_py() == [np.float16(1), np.float16(0)]
    finish(sink, [shard])
    assert (manifest := read_manifest(tmp_path)) is not None
    assert (manifest.vectors, manifest.dimension) == ("float16", 2)


def test_the_order_is_that_of_the_images(sink: ShardSink, target: FaissMultiModalVectorStore) -> None:
    late, early = written(sink, part("b", number=1), part("a"))
    finish(sink, [early, late])
    assert import_(sink.folder, target) == ["a", "b"]


def test_an_unfinished_folder_cannot_be_imported(sink: ShardSink, target: FaissMultiModalVectorStore) -> None:
    written(sink, part("a"))
    with pytest.raises(StoreError, match="unfinished"):
        import_(sink.folder, target)
    assert target.count() == 0


def test_a_finished_folder_is_unfinished_from_the_first_new_part_on(
    sink: ShardSink, target: FaissMultiModalVectorStore
) -> None:
    finish(sink, written(sink, part("a"), part("b", number=1)))
    later = ShardSink(sink.folder, 2, "float32")
    later.check()
    assert import_(sink.folder, target) == ["a", "b"]
    later.write(part("c", number=1))
    with pytest.raises(StoreError, match="unfinished"):
        import_(sink.folder, target)


def test_a_folder_with_half_of_another_source_cannot_be_imported(
    sink: ShardSink, target: FaissMultiModalVectorStore, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = written(sink, part("a"), part("b", source="pages-2"))
    finish(sink, shards, unfinished=["pages-2"])
    assert "cannot be imported yet: an interrupted run has stored a part of pages-2; embed" in capsys.readouterr().err
    with pytest.raises(StoreError, match="unfinished"):
        import_(sink.folder, target)
    finish(sink, shards)
    assert import_(sink.folder, target) == ["a", "b"]


def test_files_of_parts_that_no_longer_exist_are_removed_at_the_end(
    sink: ShardSink, target: FaissMultiModalVectorStore
) -> None:
    first, second = written(sink, part("a"), part("b", number=1))
    temporary = sink.folder / f".{'0' * 32}.tmp"
    temporary.touch()
    assert second.file in files(sink.folder)
    finish(sink, [first])
    assert files(sink.folder) == {first.file}
    assert import_(sink.folder, target) == ["a"]


def test_other_files_of_the_user_stay(sink: ShardSink) -> None:
    (sink.folder / "README.txt").touch()
    finish(sink, written(sink, part("a")))
    assert "README.txt" in files(sink.folder)


def test_images_that_were_left_out_are_listed_in_a_file(sink: ShardSink) -> None:
    skipped = [SkippedImage("a.jsonl, line 3", "no image"), SkippedImage("照片-1/坏.jpg", "not an image")]
    finish(sink, written(sink, part("a")), skipped)
    assert pq.read_table(sink.folder / SKIPPED).to_pylist() == [image._asdict() for image in skipped]


def test_the_list_disappears_when_no_image_is_left_out(sink: ShardSink) -> None:
    shards = written(sink, part("a"))
    finish(sink, shards)
    assert SKIPPED not in files(sink.folder)
    finish(sink, shards, [SkippedImage("b", "bad")])
    assert SKIPPED in files(sink.folder)
    finish(sink, shards)
    assert SKIPPED not in files(sink.folder)


def test_the_list_of_skipped_images_is_not_imported(sink: ShardSink, target: FaissMultiModalVectorStore) -> None:
    finish(sink, written(sink, part("a")), [SkippedImage("b", "bad")])
    assert import_(sink.folder, target) == ["a"]


def test_a_folder_that_disappears_is_named(sink: ShardSink) -> None:
    sink.write(part("a"))
    sink.folder.rename(sink.folder.with_name("moved"))
    with pytest.raises(StoreError, match=rf"cannot write to {sink.folder}: No such file or directory"):
        sink.write(part("b", number=1))


# An index


def embedded_part(model: ChineseClipEmbedding, nodes: Sequence[BaseNode], number: int = 0) -> Part:
    embedded = embed_nodes(nodes, model, caption_weight=0)
    return Part("photos-1", number, "fingerprint", embedded.nodes, model=embedded.fingerprint)


def test_an_index_takes_the_nodes_of_parts(
    open_index: OpenIndex, torch_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    index = open_index(tmp_path)
    sink = IndexSink(index, 0.0)
    sink.check()
    assert sink.write(embedded_part(torch_embedding, records("a", "b"))) is None  # type: ignore[func-returns-value]
    sink.write(embedded_part(torch_embedding, [], 1))
    sink.finish(StoredParts([], [], {}, []))
    assert {node.node_id for node in index.image_store.get_nodes()} == {"a", "b"}
    assert index.caption_weight == 0
    assert sink.has(None)
    assert (sink.has_nodes(2), sink.has_nodes(3)) == (True, False)


def test_a_part_that_is_added_twice_is_stored_once(
    open_index: OpenIndex, torch_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    index = open_index(tmp_path)
    for _ in range(2):
        IndexSink(index, 0.0).write(embedded_part(torch_embedding, records("a", "b")))
    assert index.image_store.count() == 2


def test_an_index_does_not_take_the_vectors_of_another_model(open_index: OpenIndex, tmp_path: Path) -> None:
    index = open_index(tmp_path)
    with pytest.raises(ModelMismatchError, match="embedded with the model clip:1"):
        IndexSink(index, 0.0).write(part("a"))
    assert index.image_store.count() == 0


def test_an_index_does_not_take_vectors_of_another_caption_weight(
    open_index: OpenIndex, torch_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    index = open_index(tmp_path)
    IndexSink(index, 0.0).write(embedded_part(torch_embedding, records("a")))
    with pytest.raises(ValueError, match=r"caption_weight 0.5, and those of the index with 0.0"):
        IndexSink(index, 0.5).write(embedded_part(torch_embedding, records("b")))
