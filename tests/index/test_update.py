"""Indexing again: what is new is embedded, what is the same is kept, and sources never replace each other."""

from __future__ import annotations

import base64
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import SimpleDirectoryReader
from llama_index.core.embeddings import MockMultiModalEmbedding
from llama_index.core.schema import Document, ImageNode, NodeWithScore, TextNode
from PIL import Image

from llama_index_mm_zhipu import (
    ChineseClipEmbedding,
    build_index,
    evaluate_retrieval,
    load_index,
    read_folder,
    read_jsonl,
)
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.index.stored_files import missing_ids
from llama_index_mm_zhipu.index.update import ImageUpdater
from llama_index_mm_zhipu.readers import PageReader
from llama_index_mm_zhipu.readers.records import CONTENT_HASH, SOURCE_LOCATION, SOURCE_ROOT, is_missing, name_in_source

ROOT = Path(__file__).parents[2]


class CountingEmbedding(MockMultiModalEmbedding):
    """Counts the images that it embeds; a vector follows from the first bytes of its image."""

    embedded: int = 0

    def get_image_embedding_batch(
        self, img_file_paths: Sequence[Any], show_progress: bool = False
    ) -> list[list[float]]:
        self.embedded += len(img_file_paths)
        return super().get_image_embedding_batch(list(img_file_paths), show_progress)

    def taken(self) -> int:
        """Return how many images were embedded since the last call."""
        count, self.embedded = self.embedded, 0
        return count


@pytest.fixture
def model() -> CountingEmbedding:
    return CountingEmbedding(embed_dim=4)


@pytest.fixture
def fill(photos: list[Path]) -> Callable[..., Path]:
    """Copies photographs into a folder, under the names given."""

    def fill(folder: Path, **names: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, number in names.items():
            shutil.copy(photos[number], folder / f"{name}.jpg")
        return folder

    return fill


def images_in(index: ImageIndex) -> list[ImageNode]:
    return [node for node in index.image_store.get_nodes() if isinstance(node, ImageNode)]


def files_in(index: ImageIndex) -> list[str]:
    return sorted(str(node.image_path) for node in images_in(index))


def as_earlier_version(nodes: list[ImageNode]) -> list[ImageNode]:
    """What readers made before ids told sources apart: ids within the source, and no location."""
    plain = []
    for node in nodes:
        name = name_in_source(node)
        metadata = {key: value for key, value in node.metadata.items() if key not in (SOURCE_LOCATION, SOURCE_ROOT)}
        plain.append(
            ImageNode(id_=name, metadata=metadata, text=node.text, image=node.image, image_path=node.image_path)
        )
    return plain


def write_jsonl(file: Path, *photos: Path) -> Path:
    lines = [
        json.dumps({"image_id": number, "image_base64": base64.b64encode(photo.read_bytes()).decode()})
        for number, photo in enumerate(photos)
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


# Two sources


def test_folders_with_files_of_one_name_do_not_replace_each_other(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    folders = [fill(tmp_path / parent / "photos", a=number) for number, parent in enumerate("xyz")]
    together = build_index(folders, model)
    assert len(images_in(together)) == 3
    one_by_one = build_index(folders[0], model)
    one_by_one.insert(folders[1])
    one_by_one.insert_nodes(read_folder(folders[2]))
    assert files_in(one_by_one) == files_in(together)


@pytest.mark.parametrize("id_prefix", ["", "mine"])
def test_nor_do_they_with_one_prefix_for_all(
    model: CountingEmbedding,
    fill: Callable[..., Path],
    tmp_path: Path,
    id_prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = (fill(tmp_path / parent, a=number, b=number + 2) for number, parent in enumerate("xy"))
    nodes = [node for folder in (first, second) for node in read_folder(folder, id_prefix=id_prefix)]
    index = build_index(nodes, model, persist_dir=tmp_path / "store")
    assert len(images_in(index)) == 4
    assert "2 images got other ids, as images of other files have theirs, such as" in caplog.text
    ids = {node.image_path: node.node_id for node in images_in(index)}
    caplog.clear()
    index.insert_nodes(read_folder(second, id_prefix=id_prefix))
    assert {node.image_path: node.node_id for node in images_in(index)} == ids
    assert not caplog.records
    index.close()


def test_jsonl_files_with_the_same_ids_do_not_replace_each_other(
    model: CountingEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    first = write_jsonl(tmp_path / "a.jsonl", *photos[:2])
    second = write_jsonl(tmp_path / "b.jsonl", *photos[2:5])
    index = build_index(read_jsonl(first), model)
    index.insert_nodes(read_jsonl(second))
    assert len(images_in(index)) == 5
    index.insert_nodes(read_jsonl(second))
    assert len(images_in(index)) == 5


def test_nodes_of_ones_own_replace_what_has_their_id_with_a_warning(
    model: CountingEmbedding, photos: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    index = build_index([ImageNode(id_=str(number), image_path=str(photos[number])) for number in range(3)], model)
    index.insert_nodes([ImageNode(id_=str(number), image_path=str(photos[number])) for number in range(3)])
    assert not caplog.records
    index.insert_nodes([ImageNode(id_=str(number), image_path=str(photos[number + 3])) for number in range(2)])
    assert len(images_in(index)) == 3
    assert f"2 images replaced images of other files that had their ids, such as 0 of {photos[0]}" in caplog.text


def test_an_image_given_twice_is_one(model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path) -> None:
    folder = fill(tmp_path / "x", a=0, b=1)
    index = build_index([folder, folder / "a.jpg", str(folder / "a.jpg")], model)
    assert len(images_in(index)) == 2
    assert model.taken() == 2


# The same images again


def test_a_second_build_embeds_nothing(
    model: CountingEmbedding,
    fill: Callable[..., Path],
    tmp_path: Path,
    photos: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = fill(tmp_path / "x", a=0, b=1, c=2)
    sources = [
        folder,
        *read_jsonl(write_jsonl(tmp_path / "a.jsonl", photos[3])),
        photos[4].read_bytes(),
        Image.open(photos[5]),
    ]
    with closing(build_index(sources, model, persist_dir=tmp_path / "store")) as index:
        before = images_in(index)
    assert model.taken() == 6
    assert "Kept" not in capsys.readouterr().err
    with closing(build_index(sources, model, persist_dir=tmp_path / "store")) as index:
        assert images_in(index) == before
        assert index.kept == 6
    assert model.taken() == 0
    assert "Kept 6 images (unchanged)." in capsys.readouterr().err


def test_a_stream_keeps_what_is_there_too(model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path) -> None:
    folder = fill(tmp_path / "x", a=0, b=1, c=2)

    def stream() -> Iterator[ImageNode]:
        yield from read_folder(folder)

    for expected in (3, 0):
        build_index(stream(), model, persist_dir=tmp_path / "store", insert_batch_size=2).close()
        assert model.taken() == expected


def test_only_what_changed_is_embedded(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path, photos: list[Path]
) -> None:
    folder = fill(tmp_path / "x", a=0, b=1, c=2)
    index = build_index(folder, model, caption_weight=0.5)
    ids = {node.image_path: node.node_id for node in images_in(index)}
    assert model.taken() == 3

    shutil.copy(photos[7], folder / "b.jpg")
    fill(folder, d=5)
    index.insert(folder)
    assert model.taken() == 2
    assert {node.image_path: node.node_id for node in images_in(index)}.items() >= ids.items()

    (folder / "a.txt").write_text("裙子", encoding="utf-8")
    index.insert_nodes(read_folder(folder, captions="sidecar"))
    assert model.taken() == 1
    assert [node.text for node in images_in(index) if node.text] == ["裙子"]


def test_new_metadata_is_written_without_embedding(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder = fill(tmp_path / "x", a=0, b=1)
    index = build_index(folder, model)
    vectors = index.image_store.get_vectors([node.node_id for node in images_in(index)])[1]
    model.taken()
    nodes = read_folder(folder)
    nodes[1].metadata["price"] = 99
    index.insert_nodes(nodes)
    assert model.taken() == 0
    assert [node.metadata.get("price") for node in images_in(index)] == [None, 99]
    found = index.image_store.get_vectors([node.node_id for node in images_in(index)])[1]
    assert sorted(found.tolist()) == sorted(vectors.tolist())


def test_vectors_that_are_given_are_taken(model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path) -> None:
    folder = fill(tmp_path / "x", a=0)
    index = build_index(folder, model)
    (node,) = read_folder(folder)
    node.embedding = [0.0, 0.0, 0.0, 1.0]
    index.insert_nodes([node])
    assert index.image_store.get_vectors([images_in(index)[0].node_id])[1].tolist() == [[0, 0, 0, 1]]
    assert len(images_in(index)) == 1


def test_without_hashes_images_are_embedded_again_and_none_is_doubled(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder = fill(tmp_path / "x", a=0, b=1)
    index = build_index(read_folder(folder, hash_contents=False), model)
    index.insert_nodes(read_folder(folder, hash_contents=False))
    assert model.taken() == 4
    assert len(images_in(index)) == 2


def test_texts_of_unchanged_files_are_not_doubled(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder, store = fill(tmp_path / "x", a=0), tmp_path / "store"
    (folder / "long.txt").write_text("红色的帽子在第二个架子上。" * 400, encoding="utf-8")
    (folder / "short.txt").write_text("裙子", encoding="utf-8")

    def texts() -> list[str]:
        documents = SimpleDirectoryReader(str(folder)).load_data()
        with closing(build_index(documents, model, persist_dir=store)) as index:
            assert len(images_in(index)) == 1
            found = {node.node_id: node.get_content() for node in index.text_store.get_nodes()}
            # The document of the last reading can be deleted by its id.
            assert {node.ref_doc_id for node in index.text_store.get_nodes()} >= {documents[-1].doc_id}
        return sorted(found)

    first = texts()
    assert len(first) > 2
    assert texts() == first
    (folder / "short.txt").write_text("裤子", encoding="utf-8")
    assert len(texts()) == len(first) + 1


def read_texts(folder: Path) -> list[Document]:
    return SimpleDirectoryReader(str(folder)).load_data()


def texts_in(index: ImageIndex) -> dict[str, str]:
    return {node.node_id: node.get_content() for node in index.text_store.get_nodes()}


def test_texts_of_a_moved_folder_are_not_doubled(model: CountingEmbedding, tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "long.txt").write_text("红色的帽子在第二个架子上。" * 400, encoding="utf-8")
    (folder / "short.txt").write_text("裙子", encoding="utf-8")
    index = build_index(read_texts(folder), model)
    first = texts_in(index)
    folder.rename(tmp_path / "y")
    for document in read_texts(tmp_path / "y"):
        index.insert(document)
    assert texts_in(index) == first
    assert all(str(tmp_path / "y") in node.metadata["file_path"] for node in index.text_store.get_nodes())
    # A copy has a file of its own.
    shutil.copytree(tmp_path / "y", tmp_path / "z")
    for document in read_texts(tmp_path / "z"):
        index.insert(document)
    assert len(texts_in(index)) == 2 * len(first)


@pytest.mark.parametrize("stream", [False, True])
def test_texts_whose_files_are_gone_or_have_changed_are_removed(
    model: CountingEmbedding, tmp_path: Path, capsys: pytest.CaptureFixture[str], stream: bool
) -> None:
    folder, other, store = tmp_path / "x", tmp_path / "x" / "inside", tmp_path / "store"
    other.mkdir(parents=True)
    for file, text in ((folder / "a.txt", "甲"), (folder / "b.txt", "乙"), (other / "c.txt", "丙")):
        file.write_text(text, encoding="utf-8")
    own = TextNode(id_="own", text="自己的", metadata={"file_path": str(folder / "b.txt")})
    documents = [*read_texts(folder), *read_texts(other), own, Document(text="没有文件")]
    build_index(documents, model, persist_dir=store).close()
    (folder / "a.txt").unlink()
    (folder / "b.txt").write_text("丁", encoding="utf-8")
    (other / "c.txt").unlink()
    given = iter(read_texts(folder)) if stream else read_texts(folder)
    with closing(build_index(given, model, persist_dir=store, remove_missing=True)) as index:
        assert sorted(texts_in(index).values()) == sorted(["丁", "丙", "自己的", "没有文件"])
    assert "Removed 2 texts (file gone or changed)." in capsys.readouterr().err


# Moved and renamed


@pytest.mark.parametrize("new", ["renamed", "elsewhere/x"])
def test_a_moved_folder_is_recognised(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path, new: str
) -> None:
    folder = fill(tmp_path / "x", a=0, b=1, c=2)
    index = build_index(folder, model)
    ids = sorted(node.node_id for node in images_in(index))
    model.taken()
    (tmp_path / new).parent.mkdir(exist_ok=True)
    folder.rename(tmp_path / new)
    for _ in range(2):
        index.insert(tmp_path / new)
        assert model.taken() == 0
        assert sorted(node.node_id for node in images_in(index)) == ids
        assert files_in(index) == [str(tmp_path / new / f"{name}.jpg") for name in "abc"]


@pytest.mark.parametrize("insert_batch_size", [1, 100])
def test_figures_of_a_moved_file_still_belong_to_its_pages(
    model: CountingEmbedding, tmp_path: Path, insert_batch_size: int
) -> None:
    (tmp_path / "x").mkdir()
    shutil.copy(ROOT / "examples" / "cases" / "car_maintenance.pdf", tmp_path / "x")
    reader = PageReader(longest_side=64, figures=True)
    settings: dict[str, Any] = {"persist_dir": tmp_path / "index", "insert_batch_size": insert_batch_size}
    index = build_index(reader.load_data(tmp_path / "x"), model, **settings)
    ids = {node.node_id for node in images_in(index)}
    index.close()
    (tmp_path / "x").rename(tmp_path / "y")
    index = build_index(reader.load_data(tmp_path / "y"), model, **settings)
    assert {node.node_id for node in images_in(index)} == ids
    parents = {node.parent_node.node_id for node in images_in(index) if node.parent_node is not None}
    assert len(parents) == 3
    assert parents < ids
    if insert_batch_size > 1:
        children = {child.node_id for node in images_in(index) for child in node.child_nodes or []}
        assert len(children) == 12
        assert children < ids


def test_a_new_folder_in_the_place_of_a_moved_one_replaces_nothing(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder = fill(tmp_path / "x", a=0)
    index = build_index(folder, model)
    folder.rename(tmp_path / "y")
    index.insert(tmp_path / "y")
    fill(folder, a=1)
    for _ in range(2):
        index.insert(folder)
        assert files_in(index) == [str(tmp_path / place / "a.jpg") for place in "xy"]


def test_a_renamed_file_keeps_its_id_and_copies_are_images_of_their_own(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder = fill(tmp_path / "x", a=0)
    index = build_index(folder, model)
    (before,) = images_in(index)
    (folder / "a.jpg").rename(folder / "b.jpg")
    shutil.copy(folder / "b.jpg", folder / "c.jpg")
    index.insert(folder)
    assert len(images_in(index)) == 2
    assert before.node_id in {node.node_id for node in images_in(index)}
    assert model.taken() == 2


def test_a_copied_folder_is_another_source(model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path) -> None:
    folder = fill(tmp_path / "x", a=0, b=1)
    index = build_index(folder, model)
    shutil.copytree(folder, tmp_path / "copy")
    index.insert(tmp_path / "copy")
    assert len(images_in(index)) == 4


def test_a_moved_jsonl_is_recognised(model: CountingEmbedding, photos: list[Path], tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", *photos[:3])
    index = build_index(read_jsonl(file), model)
    model.taken()
    file.rename(tmp_path / "b.jsonl")
    index.insert_nodes(read_jsonl(tmp_path / "b.jsonl"))
    assert len(images_in(index)) == 3
    assert model.taken() == 0


# Stores of earlier versions


def test_a_store_of_an_earlier_version_keeps_its_ids_and_doubles_none(
    model: CountingEmbedding, fill: Callable[..., Path], photos: list[Path], tmp_path: Path
) -> None:
    folder = fill(tmp_path / "x", a=0, b=1, c=2)
    fill(folder / "deep", a=3)
    file = write_jsonl(tmp_path / "a.jsonl", *photos[4:6])
    nodes = [*read_folder(folder), *read_jsonl(file)]
    build_index(as_earlier_version(nodes), model, persist_dir=tmp_path / "store").close()
    model.taken()
    with closing(load_index(tmp_path / "store", model)) as index:
        ids = sorted(node.node_id for node in images_in(index))
        assert ids == ["0", "1", "a.jpg", "b.jpg", "c.jpg", "deep/a.jpg"]
        shutil.copy(photos[8], folder / "b.jpg")
        for expected in (1, 0):
            index.insert_nodes([*read_folder(folder), *read_jsonl(file)])
            assert sorted(node.node_id for node in images_in(index)) == ids
            assert model.taken() == expected
        # Another source with the same names does not replace them.
        index.insert(fill(tmp_path / "y", a=6))
        assert len(images_in(index)) == 7


def test_a_folder_that_was_moved_since_an_earlier_version_is_recognised(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder = fill(tmp_path / "x", a=0, b=1)
    index = build_index(as_earlier_version(read_folder(folder)), model)
    model.taken()
    folder.rename(tmp_path / "y")
    index.insert(tmp_path / "y")
    assert sorted(node.node_id for node in images_in(index)) == ["a.jpg", "b.jpg"]
    assert files_in(index) == [str(tmp_path / "y" / f"{name}.jpg") for name in "ab"]
    assert model.taken() == 0


# What is gone


def test_images_whose_files_are_gone_are_removed_from_their_source_alone(
    model: CountingEmbedding,
    fill: Callable[..., Path],
    photos: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, other = fill(tmp_path / "x", a=0, b=1), fill(tmp_path / "x2", a=2)
    fill(folder / "deep", c=3)
    without_file = [photos[4].read_bytes(), Image.open(photos[5]), ImageNode(id_="own", image_path=str(photos[6]))]
    store = tmp_path / "store"
    build_index([folder, other, *without_file], model, persist_dir=store).close()
    shutil.rmtree(folder / "deep")
    (folder / "b.jpg").unlink()
    (other / "a.jpg").unlink()
    fill(other, b=7)

    build_index(folder, model, persist_dir=store).close()
    with closing(build_index(folder, model, persist_dir=store, remove_missing=True)) as index:
        assert "Removed 2 images (file gone)." in capsys.readouterr().err
        paths = {node.image_path for node in images_in(index)}
        assert len(images_in(index)) == 5
        assert {str(folder / "a.jpg"), str(other / "a.jpg"), str(photos[6])} <= paths

    # Nodes of a reader say which folder they were found in.
    with closing(build_index(read_folder(other), model, persist_dir=store, remove_missing=True)) as index:
        assert str(other / "a.jpg") not in {node.image_path for node in images_in(index)}


def test_images_that_an_earlier_version_stored_are_removed_too(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder = fill(tmp_path / "x", a=0, b=1)
    build_index(as_earlier_version(read_folder(folder)), model, persist_dir=tmp_path / "store").close()
    (folder / "b.jpg").unlink()
    with closing(build_index(folder, model, persist_dir=tmp_path / "store", remove_missing=True)) as index:
        assert [node.node_id for node in images_in(index)] == ["a.jpg"]


def test_an_empty_folder_loses_its_images_and_says_how_many(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other, store = fill(tmp_path / "x", a=0, b=1), fill(tmp_path / "y", a=2), tmp_path / "store"
    build_index([folder, other], model, persist_dir=store).close()
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="holds no images"):
        build_index(folder, model, persist_dir=store)
    capsys.readouterr()
    with closing(build_index(folder, model, persist_dir=store, remove_missing=True)) as index:
        assert files_in(index) == [str(other / "a.jpg")]
    assert "Removed 2 images (file gone)." in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_an_error_and_nothing_is_removed(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder, store = fill(tmp_path / "x", a=0, b=1), tmp_path / "store"
    nodes = read_folder(folder)
    build_index(nodes, model, persist_dir=store).close()
    folder.rename(tmp_path / "away")
    for given in (folder, [folder], nodes):
        with pytest.raises(OSError, match="x"):
            build_index(given, model, persist_dir=store, remove_missing=True)
    with closing(load_index(store, model)) as index:
        assert len(images_in(index)) == 2


def test_a_folder_that_cannot_be_looked_into_is_an_error_and_nothing_is_removed(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = fill(tmp_path / "x", a=0, b=1), tmp_path / "store"
    fill(folder / "share", c=2)
    index = build_index(folder, model, persist_dir=store)
    shutil.rmtree(folder / "share")
    (folder / "b.jpg").unlink()
    real_stat = os.stat

    def stat(path: Any, **kwargs: Any) -> os.stat_result:
        # What a network share that lost its connection answers.
        if "share" in os.fspath(path):
            raise OSError(112, "Host is down", os.fspath(path))
        return real_stat(path, **kwargs)

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(OSError, match="Host is down"):
        missing_ids(index.image_store, [folder.resolve()])
    monkeypatch.undo()
    assert len(missing_ids(index.image_store, [folder])) == 2
    index.close()


def test_nothing_is_removed_where_no_folder_is_known(
    model: CountingEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="remove_missing needs a folder"):
        build_index(photos[0].read_bytes(), model, persist_dir=tmp_path, remove_missing=True)


def test_records_of_a_file_that_is_there_are_never_missing(
    model: CountingEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", *photos[:3])
    index = build_index(read_jsonl(file), model)
    write_jsonl(file, photos[0])
    assert missing_ids(index.image_store, [tmp_path, file]) == []
    file.unlink()
    assert missing_ids(index.image_store, [tmp_path]) == []


def test_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"")
    (tmp_path / "set").mkdir()
    (tmp_path / "\uf7e9.png").write_bytes(b"")
    there = ["a.pdf", "a.pdf/3", "\uf7e9.png"]
    gone = ["b.pdf", "b.pdf/3", "set/1.jpg", "other/1.jpg", "\uf7e8.png"]
    assert [name for name in there if is_missing(str(tmp_path / name))] == []
    assert [name for name in gone if not is_missing(str(tmp_path / name))] == []
    for root, expected in (("set", False), ("a.pdf", False), ("b.jsonl", True)):
        location = f"{tmp_path / root}//a//b"
        assert is_missing(location, str(tmp_path / root)) is expected


# With the real parts


def test_answers_rest_on_moved_images(
    tiny_embedding: ChineseClipEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder = fill(tmp_path / "x", a=0, b=1, c=2)
    index = build_index(folder, tiny_embedding)
    folder.rename(tmp_path / "y")
    index.insert(tmp_path / "y")
    found: list[NodeWithScore] = index.as_retriever(similarity_top_k=1).retrieve(tmp_path / "y" / "b.jpg")
    assert found[0].score == pytest.approx(1, abs=1e-4)
    assert index.kept == 3


def test_an_evaluation_finds_images_by_the_ids_that_they_kept(
    tiny_embedding: ChineseClipEmbedding, fill: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = fill(tmp_path / "x", a=0, b=1, c=2)
    for name in "abc":
        (folder / f"{name}.txt").write_text(f"图片{name}", encoding="utf-8")
    index = build_index(read_folder(folder, captions="sidecar"), tiny_embedding, caption_weight=0)
    folder.rename(tmp_path / "y")
    nodes = read_folder(tmp_path / "y", captions="sidecar")
    index.insert_nodes(nodes)
    report = evaluate_retrieval(index, nodes)
    assert report.text_to_image.recall[10] == 1
    assert "lacks" not in caplog.text


def test_a_plan_leaves_the_given_nodes_as_they_are(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder = fill(tmp_path / "x", a=0, b=1)
    index = build_index(as_earlier_version(read_folder(folder)), model)
    nodes = read_folder(folder)
    dumps = [node.model_dump() for node in nodes]
    update = ImageUpdater(index.image_store).plan(nodes)
    assert (update.kept, len(update.to_embed), len(update.with_vectors)) == (2, 0, 2)
    assert [node.model_dump() for node in nodes] == dumps
    assert all(node.metadata[CONTENT_HASH] for node in update.with_vectors)


# Found by attacks on the first version


def test_a_folder_that_is_not_mounted_is_an_error_in_a_list_and_with_skip_too(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    share, other, store = fill(tmp_path / "share", a=0, b=1), fill(tmp_path / "x", a=2), tmp_path / "store"
    build_index([share, other], model, persist_dir=store).close()
    share.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError, match="nothing was removed"):
        build_index([share, other], model, persist_dir=store, remove_missing=True, on_error="skip")
    # Nor is it taken for a part of the folder that it was in.
    shutil.copy(other / "a.jpg", tmp_path / "cover.jpg")
    for given in (tmp_path / "cover.jpg", other):
        build_index(given, model, persist_dir=store, remove_missing=True).close()
    with closing(load_index(store, model)) as index:
        assert len(images_in(index)) == 4


def test_a_text_with_the_id_of_a_missing_image_stays(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder, store = fill(tmp_path / "x", a=0, b=1), tmp_path / "store"
    nodes = [*read_folder(folder, id_prefix=""), TextNode(id_="a.jpg", text="关于 a")]
    build_index(nodes, model, persist_dir=store).close()
    (folder / "a.jpg").unlink()
    with closing(build_index(folder, model, persist_dir=store, remove_missing=True)) as index:
        assert [node.get_content() for node in index.text_store.get_nodes()] == ["关于 a"]
        assert len(images_in(index)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_a_link_that_leads_nowhere_is_an_error_and_nothing_is_removed(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    share, folder, store = fill(tmp_path / "share", b=1), fill(tmp_path / "x", a=0), tmp_path / "store"
    (folder / "link").symlink_to(share)
    build_index(read_folder(folder, follow_links=True), model, persist_dir=store).close()
    share.rename(tmp_path / "away")
    with pytest.raises(OSError, match="the link to a folder is broken"):
        build_index(read_folder(folder, follow_links=True), model, persist_dir=store, remove_missing=True)
    with closing(load_index(store, model)) as index:
        assert len(images_in(index)) == 2


def test_an_image_reached_by_two_folders_is_one_and_follows_its_file(
    model: CountingEmbedding, fill: Callable[..., Path], photos: list[Path], tmp_path: Path
) -> None:
    folder = fill(tmp_path / "x", a=0)
    fill(folder / "sub", b=1)
    index = build_index([folder, folder / "sub", folder / "sub" / "b.jpg"], model)
    assert len(images_in(index)) == 2
    shutil.copy(photos[5], folder / "sub" / "b.jpg")
    for given in (folder / "sub", folder):
        index.insert(given)
        assert len(images_in(index)) == 2
    assert model.taken() == 3
    (folder / "sub" / "b.jpg").unlink()
    # It was read from the outer folder first.
    assert missing_ids(index.image_store, [(folder / "sub").resolve()]) == []
    assert len(missing_ids(index.image_store, [folder.resolve()])) == 1


def test_a_copy_of_an_image_that_is_not_mounted_takes_nothing_over(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    share = fill(tmp_path / "share", a=0)
    (share / "a.txt").write_text("裙子", encoding="utf-8")
    index = build_index(read_folder(share, captions="sidecar"), model)
    shutil.copy(share / "a.jpg", tmp_path / "query.jpg")
    share.rename(tmp_path / "away")
    index.insert(tmp_path / "query.jpg")
    assert sorted(node.text for node in images_in(index)) == ["", "裙子"]


def test_ids_that_nodes_of_a_reader_were_given_are_kept(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    (node,) = read_folder(fill(tmp_path / "x", a=0))
    second = node.model_copy(update={"id_": f"{node.node_id}#2", "text": "第二种说法"})
    named = node.model_copy(update={"id_": "SKU-1", "text": "货号"})
    index = build_index([node, second, named], model, caption_weight=0.5)
    for _ in range(2):
        assert {each.node_id: each.text for each in images_in(index)} == {
            node.node_id: "",
            second.node_id: "第二种说法",
            "SKU-1": "货号",
        }
        model.taken()
        index.insert_nodes([node, second, named])
        assert model.taken() == 0


def test_the_same_bytes_twice_are_one_image(model: CountingEmbedding, photos: list[Path]) -> None:
    data = [photo.read_bytes() for photo in photos[:3]]
    index = build_index([*data, data[0], Image.open(photos[4]), Image.open(photos[4])], model)
    assert len(images_in(index)) == 4


def test_one_id_for_two_images_is_an_error_before_anything_is_embedded(
    model: CountingEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    nodes = [ImageNode(id_="same", image_path=str(photo)) for photo in photos[:2]]
    with pytest.raises(ValueError, match="node same is given twice, with different images"):
        build_index(nodes, model, persist_dir=tmp_path)
    assert model.taken() == 0


def test_nodes_that_were_pickled_are_recognised(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    nodes = read_folder(fill(tmp_path / "x", a=0, b=1))
    index = build_index(as_earlier_version(nodes), model)
    index.insert_nodes(pickle.loads(pickle.dumps(nodes)))
    assert len(images_in(index)) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_an_earlier_store_is_recognised_by_another_spelling_of_its_folder(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder = fill(tmp_path / "x", a=0, b=1)
    (tmp_path / "link").symlink_to(folder)
    store = tmp_path / "store"
    build_index(as_earlier_version(read_folder(tmp_path / "link")), model, persist_dir=store).close()
    (folder / "b.jpg").unlink()
    with closing(build_index(folder, model, persist_dir=store, remove_missing=True)) as index:
        assert [node.node_id for node in images_in(index)] == ["a.jpg"]


def test_equal_images_of_a_moved_folder_keep_their_ids_by_name(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "x"
    for name in "abc":
        fill(folder / name, same=0)
    index = build_index(folder, model)
    ids = {Path(str(node.image_path)).parent.name: node.node_id for node in images_in(index)}
    folder.rename(tmp_path / "y")
    index.insert(tmp_path / "y")
    assert {Path(str(node.image_path)).parent.name: node.node_id for node in images_in(index)} == ids


def test_captions_that_are_lost_are_told(
    model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = fill(tmp_path / "x", a=0, b=1)
    (folder / "a.txt").write_text("裙子", encoding="utf-8")
    index = build_index(read_folder(folder, captions="sidecar"), model)
    caplog.clear()
    index.insert(folder)
    assert "1 image had captions in the index and came without, such as" in caplog.text


def test_texts_that_were_given_ids_keep_them(model: CountingEmbedding) -> None:
    metadata = {"file_path": "/books/a.txt"}
    nodes = [TextNode(id_="n1", text="甲", metadata=metadata), TextNode(id_="n2", text="乙", metadata=metadata)]
    index = build_index(nodes, model)
    index.insert_nodes([TextNode(id_="n1", text="乙", metadata=metadata)])
    assert {node.node_id: node.get_content() for node in index.text_store.get_nodes()} == {"n1": "乙", "n2": "乙"}
    index.insert(Document(id_="d1", text="丙", metadata=metadata))
    index.insert(Document(id_="d2", text="丙", metadata=metadata))
    index.delete_ref_doc("d2")
    assert {node.ref_doc_id for node in index.text_store.get_nodes()} == {None, "d1"}


def test_vectors_that_texts_came_with_are_taken(model: CountingEmbedding) -> None:
    metadata = {"file_path": "/books/a.txt"}
    index = build_index([TextNode(text="甲", metadata=metadata)], model)
    index.insert_nodes([TextNode(text="甲", metadata=metadata, embedding=[0.0, 0.0, 0.0, 1.0])])
    given = index.text_store.get_nodes()[-1]
    assert index.text_store.get_vectors([given.node_id])[1].tolist() == [[0, 0, 0, 1]]


@pytest.mark.parametrize("insert_batch_size", [1, 2, 256])
def test_equal_texts_of_one_file_are_all_kept(model: CountingEmbedding, insert_batch_size: int) -> None:
    def rows() -> list[Document]:
        return [Document(text="同样的一行", metadata={"file_path": "/t.csv"}) for _ in range(4)]

    index = build_index(rows(), model, insert_batch_size=insert_batch_size)
    assert index.text_store.count() == 4
    index.insert_nodes([TextNode(text=row.text, metadata=row.metadata) for row in rows()])
    assert index.text_store.count() == 4
    stream = build_index((row for row in rows()), model, insert_batch_size=insert_batch_size)
    assert stream.text_store.count() == 4


def test_parts_that_are_kept_lead_to_each_other(model: CountingEmbedding, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("红色的帽子在第二个架子上。" * 400, encoding="utf-8")
    for _ in range(2):
        documents = SimpleDirectoryReader(input_files=[str(tmp_path / "long.txt")]).load_data()
        build_index(documents, model, persist_dir=tmp_path / "store").close()
    with closing(load_index(tmp_path / "store", model)) as index:
        nodes = {node.node_id: node for node in index.text_store.get_nodes()}
    nexts = [node.next_node.node_id for node in nodes.values() if node.next_node is not None]
    assert len(nexts) == len(nodes) - 1
    assert set(nexts) <= nodes.keys()


def test_a_folder_is_inserted_in_batches(model: CountingEmbedding, fill: Callable[..., Path], tmp_path: Path) -> None:
    calls: list[int] = []

    class Watching(CountingEmbedding):
        def get_image_embedding_batch(
            self, img_file_paths: Sequence[Any], show_progress: bool = False
        ) -> list[list[float]]:
            calls.append(len(img_file_paths))
            return super().get_image_embedding_batch(img_file_paths, show_progress)

    index = build_index(fill(tmp_path / "x", a=0), Watching(embed_dim=4))
    index.insert(fill(tmp_path / "y", a=1, b=2, c=3, d=4))
    assert calls == [1, 4]
