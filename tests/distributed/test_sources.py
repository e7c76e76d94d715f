"""``DatasetSource``: its key in each run, a source that changes while it is read, and what is no source."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
from llama_index.core.schema import ImageNode
from made_parts import folder_of

from llama_index_mm_zhipu.distributed.sources import DatasetSource, sources_of
from llama_index_mm_zhipu.readers import ChineseClipReader, ColumnReader, Columns, FolderReader, JsonlReader
from llama_index_mm_zhipu.readers.base import NodeOrError
from llama_index_mm_zhipu.readers.records import RecordError

TABLE = Columns(caption="text", image="file", delimiter="\t")


@pytest.fixture
def folder(tmp_path: Path, photos: list[Path]) -> Path:
    """A folder with two images and a caption file of each."""
    folder = folder_of(photos[:2], tmp_path / "photos")
    for photo in photos[:2]:
        (folder / photo.name).with_suffix(".txt").write_text("一张照片", encoding="utf-8")
    return folder


@pytest.fixture
def jsonl(folder: Path) -> Path:
    """A JSON Lines file with two images in base64."""
    file = folder / "photos.jsonl"
    images = {path.stem: base64.b64encode(path.read_bytes()).decode() for path in sorted(folder.glob("*.jpg"))}
    lines = [json.dumps({"image_id": name, "image_base64": data, "caption": ""}) for name, data in images.items()]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


@pytest.fixture
def table(folder: Path) -> Path:
    """A table of the images, whose folder is another argument of its reader."""
    file = folder.parent / "t.tsv"
    names = sorted(path.name for path in folder.glob("*.jpg"))
    file.write_text("file\ttext\n" + "".join(f"{name}\t帽子\n" for name in names), encoding="utf-8")
    return file


def key(*args: Any, reader: Any = None, **load_kwargs: Any) -> str:
    return DatasetSource(reader or FolderReader(), *args, **load_kwargs).key


# The key


def test_the_key_names_the_path(folder: Path, jsonl: Path) -> None:
    assert key(folder).startswith("photos-")
    assert key(jsonl, reader=JsonlReader()).startswith("photos-")
    assert key(folder) != key(jsonl, reader=JsonlReader())


def test_the_key_is_a_file_name(folder: Path) -> None:
    odd = folder.rename(folder.with_name("照片 (1) *?\n" + "长" * 60))
    name, digits = key(odd).rsplit("-", 1)
    assert name == "照片__1_____" + "长" * 30
    assert len(digits) == 6


def test_the_key_does_not_depend_on_the_spelling_of_the_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "link").symlink_to(folder)
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    spelled = ["photos", Path("photos"), "photos/", "./photos/../photos", folder, "link", "~/photos"]
    assert {key(each) for each in spelled} == {key(folder)}


def test_the_key_does_not_depend_on_the_spelling_of_further_paths(
    table: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    keys = {key(table, images, reader=ColumnReader(TABLE)) for images in ("photos", Path("photos"), folder, "photos/")}
    assert len(keys) == 1


def test_the_key_does_not_depend_on_the_form_of_the_call(folder: Path) -> None:
    calls = [
        key(folder, "sidecar"),
        key(folder, captions="sidecar"),
        key(folder=folder, captions="sidecar"),
        key(captions="sidecar", folder=folder),
    ]
    assert len(set(calls)) == 1
    assert key(folder) == key(folder, None) == key(folder, captions=None)


def test_a_folder_of_the_name_of_another_argument_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key(folder, "valid", reader=ChineseClipReader())
    monkeypatch.chdir(folder.parent)
    Path("valid").mkdir()
    assert key(folder, "valid", reader=ChineseClipReader()) == before


def test_the_key_does_not_depend_on_how_errors_and_progress_are_reported(folder: Path) -> None:
    assert key(folder, reader=FolderReader(on_error="skip", show_progress=True)) == key(folder)


def test_the_key_depends_on_reader_arguments_and_prefix(folder: Path, jsonl: Path, table: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    keys = [
        key(folder),
        key(folder, "sidecar"),
        key(other),
        key(folder, reader=FolderReader(id_prefix="")),
        key(folder, reader=FolderReader(id_prefix="a")),
        key(jsonl, reader=JsonlReader()),
        key(jsonl, reader=ColumnReader(Columns(image="image"))),
        key(table, folder, reader=ColumnReader(TABLE)),
        key(table, other, reader=ColumnReader(TABLE)),
        key(table, reader=ColumnReader(TABLE)),
    ]
    assert len(set(keys)) == len(keys)


def test_a_source_is_shown_by_reader_and_path(folder: Path) -> None:
    assert repr(DatasetSource(FolderReader(), folder)) == f"DatasetSource(FolderReader, {str(folder)!r})"


# Reading


def test_a_source_yields_images_and_errors_whatever_the_reader_does_with_errors(folder: Path) -> None:
    file = folder / "bad.jsonl"
    file.write_text('{"image_id": "a"}\n[]\nnot json\n', encoding="utf-8")
    for on_error in ("raise", "skip"):
        read = list(DatasetSource(JsonlReader(on_error=on_error), file).iter_records())
        assert [type(each) for each in read] == [RecordError] * 3


@pytest.mark.parametrize("name", [".", "photos.jsonl"])
def test_a_source_can_be_read_again(folder: Path, jsonl: Path, name: str) -> None:
    [source] = sources_of(folder / name)
    read = [ids_of(source.iter_records()) for _ in range(2)]
    assert len(read[0]) == 2
    assert read[0] == read[1]


def ids_of(read: Iterator[NodeOrError]) -> list[str]:
    return [node.node_id for node in read if isinstance(node, ImageNode)]


def require_change(source: DatasetSource, file: Path) -> Iterator[None]:
    """Read a source; let the caller change it after the first image; require the error at the end."""
    read = source.iter_records()
    next(read)
    yield
    with pytest.raises(RecordError, match=r"changed while it was read; run again") as caught:
        list(read)
    assert caught.value.position == str(file)


def test_a_file_to_which_lines_are_added_while_it_is_read_is_an_error(jsonl: Path) -> None:
    for _ in require_change(DatasetSource(JsonlReader(), jsonl), jsonl):
        with jsonl.open("a", encoding="utf-8") as opened:
            opened.write("\n{}\n")


def test_a_file_that_is_replaced_while_it_is_read_is_an_error(jsonl: Path) -> None:
    for _ in require_change(DatasetSource(JsonlReader(), jsonl), jsonl):
        new = jsonl.with_suffix(".new")
        new.write_bytes(jsonl.read_bytes()[::-1])
        new.replace(jsonl)


def test_a_file_that_is_removed_while_it_is_read_is_an_error(jsonl: Path) -> None:
    read = DatasetSource(JsonlReader(), jsonl).iter_records()
    next(read)
    jsonl.unlink()
    with pytest.raises((RecordError, FileNotFoundError)):
        list(read)


def test_a_caption_file_that_changes_while_a_folder_is_read_is_an_error(folder: Path) -> None:
    file = min(folder.glob("*.txt"))
    for _ in require_change(DatasetSource(FolderReader(), folder, "sidecar"), file):
        file.write_text("另一张照片", encoding="utf-8")


def test_a_caption_file_that_appears_while_a_folder_is_read_is_an_error(folder: Path) -> None:
    file = folder / "later.txt"
    for _ in require_change(DatasetSource(FolderReader(), folder, "sidecar"), file):
        file.write_text("一张照片", encoding="utf-8")


def test_a_table_of_captions_that_changes_while_a_folder_is_read_is_an_error(folder: Path) -> None:
    file = folder.parent / "captions.csv"
    names = sorted(path.name for path in folder.glob("*.jpg"))
    file.write_text("file_name,caption\n" + "".join(f"{name},帽子\n" for name in names), encoding="utf-8")
    for _ in require_change(DatasetSource(FolderReader(), folder, captions=str(file)), file):
        file.write_text("file_name,caption\n", encoding="utf-8")


def test_images_that_appear_while_a_folder_is_read_are_for_the_next_run(folder: Path, photos: list[Path]) -> None:
    read = DatasetSource(FolderReader(), folder).iter_records()
    next(read)
    copy(photos[5], folder)
    assert len(list(read)) == 1


# What is no source


def test_paths_are_read_by_the_reader_of_their_form(folder: Path, jsonl: Path) -> None:
    upper = copy(jsonl, folder / "UPPER.NDJSON")
    given = [folder, str(jsonl), Path(upper), DatasetSource(FolderReader(), folder, "sidecar")]
    readers = [type(source.reader) for source in sources_of(given)]
    assert readers == [FolderReader, JsonlReader, JsonlReader, FolderReader]


@pytest.mark.parametrize("one", [str, Path])
def test_one_source_needs_no_list(folder: Path, one: type) -> None:
    [source] = sources_of(one(folder))
    assert source.path == folder.resolve()
    assert sources_of(source) == [source]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param(
            [ImageNode(image_path="a.jpg")], r"type ImageNode: give a folder .*are embedded by build_index", id="nodes"
        ),
        pytest.param(ImageNode(image_path="a.jpg"), r"type ImageNode.*embedded by build_index", id="node"),
        pytest.param(FolderReader(), r"DatasetSource\(FolderReader\(…\), path\)", id="reader"),
        pytest.param([JsonlReader()], r"DatasetSource\(JsonlReader\(…\), path\)", id="readers"),
        pytest.param(iter(["a"]), r"type .*iterator: give a folder", id="iterator"),
        pytest.param({"a": 1}, r"type dict: give a folder", id="dict"),
        pytest.param(None, r"type NoneType: give a folder of images, a JSON Lines file, or DatasetSource", id="None"),
        pytest.param([["a"]], r"type list", id="nested"),
        pytest.param(b"photos", r"type (bytes|int)", id="bytes"),
    ],
)
def test_anything_else_is_an_error_that_says_what_to_give(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        sources_of(given)


def test_a_file_of_another_form_needs_its_reader(tmp_path: Path) -> None:
    file = tmp_path / "manual.pdf"
    file.write_bytes(b"%PDF")
    with pytest.raises(ValueError, match=r"manual.pdf is a file: name its reader, such as DatasetSource\(PageReader"):
        sources_of(file)


@pytest.mark.parametrize("name", ["missing", "missing.jsonl", "missing.pdf"])
def test_a_path_that_does_not_exist_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=rf"no such file or folder: {tmp_path}/{name}; check the path"):
        sources_of([tmp_path / name])
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        DatasetSource(JsonlReader(), tmp_path / name)


@pytest.mark.parametrize("given", ["", " ", "https://user:s3cret@example.com/photos"])
def test_what_is_no_path_is_an_error_without_passwords(given: str) -> None:
    with pytest.raises(ValueError, match=r"source is (empty|a URL)") as caught:
        sources_of(given)
    assert "s3cret" not in str(caught.value)


def test_a_source_that_is_given_twice_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(ValueError, match=r"DatasetSource\(FolderReader, '.*photos'\) is given twice"):
        sources_of([folder, DatasetSource(FolderReader(), "photos")])


@pytest.mark.parametrize("given", [[], ()])
def test_no_source_is_an_error(given: Any) -> None:
    with pytest.raises(ValueError, match="no source is given"):
        sources_of(given)


def test_a_reader_of_another_package_is_an_error(folder: Path) -> None:
    with pytest.raises(TypeError, match="is not a reader"):
        DatasetSource(str(folder), folder)  # type: ignore[arg-type]


def test_content_is_not_shown_where_a_reader_should_be() -> None:
    with pytest.raises(TypeError) as caught:
        DatasetSource(b"\x89PNG s3cret bytes", "photos")  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)


def test_arguments_that_the_reader_does_not_take_are_an_error(folder: Path) -> None:
    with pytest.raises(TypeError, match=r"FolderReader.load_data: .* it takes folder, captions"):
        DatasetSource(FolderReader(), folder, "sidecar", 3)
    with pytest.raises(TypeError, match=r"FolderReader.load_data"):
        DatasetSource(FolderReader(), folder, caption="sidecar")
