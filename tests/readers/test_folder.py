"""A folder of pictures becomes nodes, whatever else lies in it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from llama_index_mm_zhipu import read_folder
from llama_index_mm_zhipu.readers import FolderReader, RecordError


def test_pictures_are_found_sorted_and_named_by_their_path(tmp_path: Path, photos: list[Path]) -> None:
    (tmp_path / "slides").mkdir()
    shutil.copy(photos[0], tmp_path / "slides" / "b.JPG")
    shutil.copy(photos[1], tmp_path / "a.jpeg")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "paper.pdf").write_text("no picture either")

    nodes = read_folder(tmp_path)

    assert [node.node_id for node in nodes] == ["a.jpeg", "slides/b.JPG"]
    assert [node.image_path for node in nodes] == [str(tmp_path / "a.jpeg"), str(tmp_path / "slides" / "b.JPG")]
    assert [node.metadata["file_name"] for node in nodes] == ["a.jpeg", "slides/b.JPG"]
    assert [node.node_id for node in read_folder(tmp_path, recursive=False)] == ["a.jpeg"]


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no pictures"):
        read_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_folder(tmp_path / "nowhere")


def test_hidden_files_and_what_is_no_picture_are_left_out(tmp_path: Path, photos: list[Path]) -> None:
    shutil.copy(photos[0], tmp_path / "a.jpg")
    (tmp_path / "._a.jpg").write_bytes(b"of macOS")
    (tmp_path / ".thumbnails").mkdir()
    shutil.copy(photos[0], tmp_path / ".thumbnails" / "b.jpg")
    (tmp_path / "film.mpg").write_bytes(b"a film")
    assert [node.node_id for node in read_folder(tmp_path)] == ["a.jpg"]


def test_paths_hold_from_every_folder(tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(photos[0], tmp_path / "a.jpg")
    monkeypatch.chdir(tmp_path)
    (node,) = read_folder(".")
    assert node.image_path == str(tmp_path / "a.jpg")
    assert node.hash == read_folder(tmp_path)[0].hash


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any name")
def test_a_name_that_is_no_utf_8_is_named(tmp_path: Path, photos: list[Path]) -> None:
    shutil.copy(photos[0], os.path.join(os.fsencode(tmp_path), b"\xff.jpg"))  # noqa: PTH118
    with pytest.raises(ValueError, match=r"the name of .*\.jpg is not UTF-8; rename the file"):
        read_folder(tmp_path)


# Captions


@pytest.fixture
def folder(tmp_path: Path, photos: list[Path]) -> Path:
    for photo, name in zip(photos, ("a.jpg", "b.jpg", "deep/c.jpg", "d.jpg"), strict=False):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, tmp_path / "photos" / name)
    return tmp_path / "photos"


def test_captions_beside_the_pictures(folder: Path) -> None:
    (folder / "a.txt").write_text("\ufeff一条裙子\n\n红色的\n", encoding="utf-8")
    (folder / "b.json").write_text('{"caption": "帽子"}', encoding="utf-8")
    (folder / "deep" / "c.json").write_text('["外套", "蓝色"]', encoding="utf-8")
    found = {node.node_id: node.text for node in read_folder(folder, captions="sidecar")}
    assert found == {"a.jpg": "一条裙子\n红色的", "b.jpg": "帽子", "d.jpg": "", "deep/c.jpg": "外套\n蓝色"}
    assert {node.text for node in read_folder(folder)} == {""}


def test_captions_in_a_table(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    table.write_text(
        '\ufefffile_name,caption\n./a.jpg,"裙子, 红色"\n\ndeep\\c.jpg,外套\na.jpg,"两行\n说明"\n', encoding="utf-8"
    )
    found = {node.node_id: node.text for node in read_folder(folder, captions=table)}
    assert found == {"a.jpg": "裙子, 红色\n两行 说明", "b.jpg": "", "d.jpg": "", "deep/c.jpg": "外套"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "裙子很好看".encode("gbk"), r"a\.txt, line 1: not UTF-8 \(byte \d\), but perhaps GBK; convert"),
        ("a.json", b"{\n,", r"a\.json, line 2: not JSON"),
        ("a.json", b'{"name": "x"}', r"a\.json, line 1: not a caption, nor an object with caption"),
    ],
)
def test_a_bad_file_beside_a_picture_is_named_or_skipped(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(RecordError, match=message):
        read_folder(folder, captions="sidecar")
    reader = FolderReader(on_error="skip")
    assert [node.node_id for node in reader.load_data(folder, "sidecar")] == ["b.jpg", "d.jpg", "deep/c.jpg"]
    assert reader.skipped_count == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,caption\na.jpg,裙子", r"captions\.csv, line 1: there is no column file_name, but \['name'"),
        ("file_name,caption\n\na.jpg", r"captions\.csv, line 3: a row without caption"),
        ("file_name,caption\nx.jpg,裙子", r"captions\.csv, line 2: there is no picture x\.jpg in"),
        ('file_name,caption\na.jpg,"裙"子', r"captions\.csv, line 2: not a row of a CSV"),
    ],
)
def test_a_bad_table_is_named(folder: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "captions.csv").write_text(content, encoding="utf-8")
    with pytest.raises(RecordError, match=message):
        read_folder(folder, captions=tmp_path / "captions.csv")


def test_columns_may_have_other_names(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("图片,说明\na.jpg,裙子\n", encoding="utf-8")
    reader = FolderReader(name_column="图片", caption_column="说明")
    assert reader.load_data(folder, tmp_path / "captions.csv")[0].text == "裙子"
