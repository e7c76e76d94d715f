"""Ids, locations and hashes of records."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from llama_index.core import SimpleDirectoryReader
from llama_index.core.schema import ImageNode, MetadataMode
from llama_index.core.vector_stores import SimpleVectorStore
from PIL import Image
from published_forms import FORMS, Example, Form

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index, load_index, read_folder, read_jsonl
from llama_index_mm_zhipu.images import with_caption, with_page_text
from llama_index_mm_zhipu.index.read import IndexItem, read_nodes
from llama_index_mm_zhipu.readers import (
    ChineseClipReader,
    FolderReader,
    JsonlReader,
    MugeRetrievalReader,
    PageReader,
    RecordError,
)
from llama_index_mm_zhipu.readers.records import SOURCE_LOCATION, SOURCE_ROOT, is_missing
from llama_index_mm_zhipu.readers.tsv_datasets import TsvReader


def ids_of(nodes: list[ImageNode]) -> list[str]:
    return [node.node_id for node in nodes]


def digits(path: Path) -> str:
    """Return the hash digits in the ids of the images of a source."""
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:6]


def write_photo(folder: Path, photo: Path) -> Path:
    """Copy a photograph into a folder as ``1.jpg``."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(photo, folder / "1.jpg")
    return folder


def write_jsonl(file: Path, photo: Path) -> Path:
    """Write a JSON Lines file with a photograph under the ids 0 and 1."""
    image = base64.b64encode(photo.read_bytes()).decode()
    records = [{"image_id": number, "image_base64": image, "caption": "猫", "price": 199} for number in range(2)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return file


def write_pdf(file: Path, photo: Path) -> Path:
    """Write a PDF of one page."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.open(photo).convert("RGB").save(file)
    return file


# Ids of different sources


def test_images_in_folders_of_the_same_name_have_different_ids(tmp_path: Path, photos: list[Path]) -> None:
    first, second = (write_photo(tmp_path / place / "photos", photos[0]) for place in ("a", "b"))
    assert ids_of(read_folder(first)) == [f"photos-{digits(first)}/1.jpg"]
    assert ids_of(read_folder(second)) == [f"photos-{digits(second)}/1.jpg"]
    assert digits(first) != digits(second)


def test_equal_ids_in_different_files_become_different_node_ids(tmp_path: Path, photos: list[Path]) -> None:
    files = [write_jsonl(tmp_path / name, photos[0]) for name in ("a.jsonl", "b.jsonl", "deep/a.jsonl")]
    found = [ids_of(read_jsonl(file)) for file in files]
    assert found == [[f"{file.stem}-{digits(file)}/{number}" for number in range(2)] for file in files]
    assert len({node_id for ids in found for node_id in ids}) == 6


def test_a_single_pdf_has_the_ids_of_its_folder(tmp_path: Path, photos: list[Path]) -> None:
    files = [write_pdf(tmp_path / place / "slides.pdf", photos[0]) for place in ("a", "b")]
    reader = PageReader(longest_side=64)
    alone = [ids_of(reader.load_data(file)) for file in files]
    assert alone == [[f"{file.parent.name}-{digits(file.parent)}/slides.pdf/1"] for file in files]
    assert alone == [ids_of(reader.load_data(file.parent)) for file in files]
    by_llama_index = [SimpleDirectoryReader(file.parent, file_extractor={".pdf": reader}) for file in files]
    assert alone == [[page.node_id for page in files.load_data()] for files in by_llama_index]


# Ids of the same source by different paths


READINGS: dict[str, Callable[[Path], list[ImageNode]]] = {
    "folder": read_folder,
    "jsonl": lambda folder: read_jsonl(folder / "test.jsonl"),
    "pdf": lambda folder: PageReader(longest_side=64).load_data(folder / "slides.pdf"),
    "folder of pdf": PageReader(longest_side=64).load_data,
}


def linked(folder: Path) -> Path:
    link = folder.parent / "link"
    try:
        link.symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    return link


WAYS: dict[str, Callable[[Path], Path]] = {
    "once more": lambda folder: folder,
    "relative": lambda folder: Path(folder.name),
    "up and down": lambda folder: folder / ".." / folder.name,
    "relative, up and down": lambda folder: Path(folder.name, "deep", ".."),
    "through a link": linked,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS.keys())
def test_ids_and_locations_do_not_depend_on_how_the_path_is_written(
    read: Callable[[Path], list[ImageNode]],
    way: Callable[[Path], Path],
    tmp_path: Path,
    photos: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write_photo(tmp_path / "photos", photos[0])
    write_jsonl(folder / "test.jsonl", photos[0])
    write_pdf(folder / "slides.pdf", photos[0])
    (folder / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    expected, found = (
        [(node.node_id, node.metadata[SOURCE_LOCATION]) for node in read(path)] for path in (folder, way(folder))
    )
    assert found == expected


def test_the_working_directory_has_the_id_of_its_name(
    tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_photo(tmp_path / "photos", photos[0])
    monkeypatch.chdir(folder)
    assert ids_of(read_folder(".")) == ids_of(read_folder(folder))


# Prefixes


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_reader_supports_id_prefix(form: Form, examples: list[Example], tmp_path: Path) -> None:
    arguments = form.write(tmp_path / "data", examples[:2])
    source = Path(str(arguments[0]))
    name = source.name if source.is_dir() else source.stem
    for options, prefix in (
        ({}, f"{name}-{digits(source)}/"),
        ({"id_prefix": "mine"}, "mine/"),
        ({"id_prefix": "图片/2024"}, "图片/2024/"),
        ({"id_prefix": ""}, ""),
    ):
        nodes = form.reader(**options).load_data(*arguments)
        assert sorted(ids_of(nodes)) == sorted(f"{prefix}{form.node_id(example.number)}" for example in examples[:2])


def test_read_functions_and_pages_support_id_prefix(tmp_path: Path, photos: list[Path]) -> None:
    folder = write_photo(tmp_path / "photos", photos[0])
    file = write_jsonl(tmp_path / "test.jsonl", photos[0])
    pdf = write_pdf(tmp_path / "slides.pdf", photos[0])
    for prefix, before in (("mine", "mine/"), ("", "")):
        assert ids_of(read_folder(folder, id_prefix=prefix)) == [f"{before}1.jpg"]
        assert ids_of(read_jsonl(file, id_prefix=prefix)) == [f"{before}0", f"{before}1"]
        reader = PageReader(longest_side=64, id_prefix=prefix)
        assert ids_of(reader.load_data(pdf)) == [f"{before}slides.pdf/1"]


@pytest.mark.parametrize("id_prefix", [None, "mine", ""])
@pytest.mark.parametrize(
    ("form", "reader"), [("chinese-clip", ChineseClipReader), ("muge-retrieval", MugeRetrievalReader)]
)
def test_texts_refer_to_images_by_node_id(
    form: str, reader: type[TsvReader], id_prefix: str | None, examples: list[Example], tmp_path: Path
) -> None:
    arguments = FORMS[form].write(tmp_path, examples)
    nodes = reader(id_prefix=id_prefix).load_data(*arguments)
    texts = reader(id_prefix=id_prefix).load_texts(*arguments)  # type: ignore[arg-type]
    assert {text.text: text.image_ids for text in texts} == {node.text: (node.node_id,) for node in nodes}


# Locations


def test_the_location_of_a_file_is_its_path(tmp_path: Path, photos: list[Path]) -> None:
    write_photo(tmp_path / "photos" / "deep", photos[0])
    root = tmp_path.resolve().as_posix()
    for prefix in (None, "", "mine"):
        (node,) = read_folder(tmp_path / "photos", id_prefix=prefix)
        assert node.metadata[SOURCE_LOCATION] == f"{root}/photos/deep/1.jpg"


def test_the_location_of_a_page_is_below_its_file(tmp_path: Path, photos: list[Path]) -> None:
    file = write_pdf(tmp_path / "slides.pdf", photos[0])
    for source in (file, tmp_path):
        (page,) = PageReader(longest_side=64).load_data(source, tmp_path / "pages")
        assert page.metadata[SOURCE_LOCATION] == f"{file.resolve().as_posix()}/1"


def test_the_location_of_a_record_is_its_file_and_id(tmp_path: Path, photos: list[Path]) -> None:
    file = write_jsonl(tmp_path / "test.jsonl", photos[0])
    for prefix in (None, "", "mine"):
        locations = [node.metadata[SOURCE_LOCATION] for node in read_jsonl(file, id_prefix=prefix)]
        assert locations == [f"{file.resolve().as_posix()}//{number}" for number in range(2)]


def test_the_location_of_a_record_in_a_data_set_is_its_folder_and_id(examples: list[Example], tmp_path: Path) -> None:
    arguments = FORMS["chinese-clip"].write(tmp_path, examples[:1])
    (node,) = ChineseClipReader().load_data(*arguments)
    assert node.metadata[SOURCE_LOCATION] == f"{tmp_path.resolve().as_posix()}//1"


def test_locations_are_hidden_from_models(tmp_path: Path, photos: list[Path]) -> None:
    (first, _) = read_jsonl(write_jsonl(tmp_path / "test.jsonl", photos[0]))
    (page,) = PageReader(longest_side=64).load_data(write_pdf(tmp_path / "slides.pdf", photos[0]))
    (image,) = read_folder(write_photo(tmp_path / "photos", photos[0]))
    for node, shown in ((first, "price: 199"), (page, "page_label: 1"), (image, "file_name: 1.jpg")):
        for mode in (MetadataMode.LLM, MetadataMode.EMBED):
            content = node.get_content(mode)
            assert shown in content
            assert SOURCE_LOCATION not in content
            assert "content_hash" not in content
            assert node.metadata[SOURCE_LOCATION] not in content
        assert node.metadata[SOURCE_LOCATION] in node.get_content(MetadataMode.ALL)


def test_extra_info_is_added_to_metadata(tmp_path: Path, photos: list[Path]) -> None:
    folder = write_photo(tmp_path / "photos", photos[0])
    (node,) = FolderReader().load_data(folder, extra_info={"owner": "王", "file_name": "x"})
    assert node.metadata == {
        "owner": "王",
        "file_name": "1.jpg",
        "content_hash": hashlib.sha256(photos[0].read_bytes()).hexdigest(),
        SOURCE_LOCATION: (folder / "1.jpg").resolve().as_posix(),
        SOURCE_ROOT: folder.resolve().as_posix(),
    }
    file = write_jsonl(tmp_path / "test.jsonl", photos[0])
    for record in JsonlReader().load_data(file, extra_info={"owner": "王"}):
        assert (record.metadata["owner"], record.metadata["price"]) == ("王", 199)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any name")
def test_images_of_a_source_whose_name_is_not_utf_8_can_be_stored(
    tmp_path: Path, photos: list[Path], tiny_embedding: ChineseClipEmbedding
) -> None:
    folders = [tmp_path / os.fsdecode(name) for name in (b"\xfe", b"\xff")]
    first, second = (read_jsonl(write_jsonl(folder / os.fsdecode(b"\xff.jsonl"), photos[0])) for folder in folders)
    assert {node.node_id for node in first}.isdisjoint(node.node_id for node in second)
    locations = [node.metadata[SOURCE_LOCATION] for node in (first[0], second[0])]
    assert locations[0] != locations[1]
    for node in (*first, *second):
        assert not is_missing(node.metadata[SOURCE_LOCATION], node.metadata[SOURCE_ROOT])
    build_index(first, embed_model=tiny_embedding, persist_dir=tmp_path / "store").close()
    index = load_index(tmp_path / "store", embed_model=tiny_embedding)
    stored = {node.node_id: node.metadata for node in index.image_store.get_nodes()}
    assert stored == {node.node_id: node.metadata for node in first}
    index.close()


# Hashes


def hashes(folder: Path) -> dict[str, str]:
    return {node.node_id: node.hash for node in read_folder(folder, id_prefix="")}


def test_the_hash_of_a_file_depends_on_its_content(tmp_path: Path, photos: list[Path]) -> None:
    shutil.copy(photos[0], tmp_path / "a.jpg")
    shutil.copy(photos[1], tmp_path / "b.jpg")
    before = hashes(tmp_path)
    assert before["a.jpg"] != before["b.jpg"]
    shutil.copy(photos[2], tmp_path / "a.jpg")
    after = hashes(tmp_path)
    assert after["a.jpg"] != before["a.jpg"]
    assert after["b.jpg"] == before["b.jpg"]


def test_the_hash_of_a_line_depends_on_image_and_caption(tmp_path: Path, photos: list[Path]) -> None:
    def node_of(photo: Path, caption: str) -> ImageNode:
        record = {"image_id": 1, "image_base64": base64.b64encode(photo.read_bytes()).decode(), "caption": caption}
        (tmp_path / "test.jsonl").write_text(json.dumps(record))
        return read_jsonl(tmp_path / "test.jsonl")[0]

    nodes = [node_of(photos[0], "猫"), node_of(photos[0], "狗"), node_of(photos[1], "猫"), node_of(photos[0], "猫")]
    assert [node.hash == nodes[0].hash for node in nodes] == [True, False, False, True]
    # The cache of a pipeline compares these contents.
    contents = [node.get_content(MetadataMode.ALL) for node in nodes]
    assert len(set(contents)) == 3


def test_the_content_hash_is_hidden_from_models(tmp_path: Path, photos: list[Path]) -> None:
    shutil.copy(photos[0], tmp_path / "a.jpg")
    (node,) = read_folder(tmp_path)
    assert len(node.metadata["content_hash"]) == 64
    assert "content_hash" not in node.get_content(MetadataMode.LLM) + node.get_content(MetadataMode.EMBED)
    (unread,) = read_folder(tmp_path, hash_contents=False)
    folder = tmp_path.resolve().as_posix()
    assert unread.metadata == {"file_name": "a.jpg", "source_root": folder, "source_location": f"{folder}/a.jpg"}


def test_an_image_can_be_deleted_as_a_document(
    tmp_path: Path, photos: list[Path], tiny_embedding: ChineseClipEmbedding
) -> None:
    for photo in photos[:2]:
        shutil.copy(photo, tmp_path)
    index = build_index(read_folder(tmp_path, id_prefix=""), embed_model=tiny_embedding)
    index.delete_ref_doc(photos[0].name)
    assert [node.node_id for node in index.image_store.get_nodes()] == [photos[1].name]


# Documents


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS.keys())
def test_an_image_is_its_own_document_in_stores_of_llama_index(
    read: Callable[[Path], list[ImageNode]], tmp_path: Path, photos: list[Path]
) -> None:
    folder = write_photo(tmp_path / "photos", photos[0])
    write_photo(folder / "deep", photos[1])
    write_jsonl(folder / "test.jsonl", photos[0])
    for name in ("slides.pdf", "more.pdf"):
        write_pdf(folder / name, photos[0])
    nodes = read(folder)
    store = SimpleVectorStore()
    store.add([node.model_copy(update={"embedding": [1.0, 0.0]}) for node in nodes])

    store.delete("None")
    assert list(store.data.embedding_dict) == ids_of(nodes)
    store.delete(nodes[0].node_id)
    assert list(store.data.embedding_dict) == ids_of(nodes[1:])


def test_images_that_no_reader_read_are_their_own_documents(photos: list[Path]) -> None:
    given: list[IndexItem] = [photos[0], photos[0].read_bytes(), "https://example.com/a.jpg"]
    assert [(node.ref_doc_id, node.source_node) for node in read_nodes(given)] == [
        (node.node_id, None) for node in read_nodes(given)
    ]


def test_the_image_of_a_document_belongs_to_it(photos: list[Path]) -> None:
    (document,) = SimpleDirectoryReader(input_files=[photos[0]]).load_data()
    (node,) = read_nodes([document])
    assert node.ref_doc_id == document.doc_id != node.node_id


def test_a_copy_with_another_id_is_its_own_document(tmp_path: Path, photos: list[Path]) -> None:
    (node,) = read_folder(write_photo(tmp_path, photos[0]))
    for copy in (with_caption(node, "飞机"), with_page_text(node, "飞机", "ocr"), pickle.loads(pickle.dumps(node))):
        assert copy.ref_doc_id == node.node_id
    assert node.model_copy(update={"id_": "renamed"}).ref_doc_id == "renamed"


# Errors


def test_errors_have_a_position_and_a_reason_and_can_be_pickled() -> None:
    for error in (RecordError("a.csv, line 2", "a row without a"), pickle.loads(pickle.dumps(RecordError("a", "b")))):
        assert str(error) == f"{error.position}: {error.reason}"
