"""A folder of pictures becomes nodes, whatever else lies in it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from llama_index_mm_zhipu import read_folder


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
