"""Wukong: addresses and captions, ids made of file and row, images that were downloaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from llama_index_mm_zhipu.readers import RecordError, WukongReader

ROWS = 'https://img.example.cn/a.jpg,"周末露营, 一家三口"\nhttps://img.example.cn/b.jpg,带\r回车\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "wukong_100m_7.csv"
    path.write_bytes(("\ufeffurl,caption\r\n" + ROWS).encode())
    return path


def test_addresses_and_captions(file: Path) -> None:
    nodes = WukongReader(id_prefix="").load_data(file)
    assert [(node.node_id, node.image_url, node.text) for node in nodes] == [
        ("007/00000", "https://img.example.cn/a.jpg", "周末露营, 一家三口"),
        ("007/00001", "https://img.example.cn/b.jpg", "带 回车"),
    ]


def test_downloaded_images(file: Path, tmp_path: Path, photos: list[Path]) -> None:
    (tmp_path / "images" / "007").mkdir(parents=True)
    shutil.copy(photos[0], tmp_path / "images" / "007" / "00001.jpg")
    reader = WukongReader(id_prefix="", on_error="skip")
    (node,) = reader.load_data(file, tmp_path / "images")
    assert node.node_id == "007/00001"
    assert node.image_path == str(tmp_path / "images" / "007" / "00001.jpg")
    assert list(reader.skipped) == [f"{file}, line 2"]
    assert reader.skipped[f"{file}, line 2"].startswith("there is no image")


def test_bad_rows_keep_their_number(file: Path) -> None:
    with file.open("ab") as lines:
        lines.write("只有一列\n".encode() + "猫,狗".encode("gbk") + b"\n" + b"https://img.example.cn/c.jpg,c\n")
    reader = WukongReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(file)] == ["007/00000", "007/00001", "007/00004"]
    assert reader.skipped[f"{file}, line 4"] == "a row without caption"
    assert reader.skipped[f"{file}, line 5"].startswith("not UTF-8")


def test_another_header_is_named(file: Path) -> None:
    file.write_text("a,b\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"wukong_100m_7\.csv, line 1: there is no column url nor caption, but"):
        WukongReader().load_data(file)


def test_rows_are_counted_as_a_csv_has_them(file: Path) -> None:
    file.write_text(
        'url,caption\nhttps://a.example.cn/0.jpg,"两\n行"\nhttps://a.example.cn/1.jpg,b\n', encoding="utf-8"
    )
    found = {node.node_id: node.text for node in WukongReader(id_prefix="").load_data(file)}
    assert found == {"007/00000": "两 行", "007/00001": "b"}


def test_equal_rows_are_nodes_of_their_own(file: Path) -> None:
    file.write_text("url,caption\n" + "https://a.example.cn/0.jpg,b\n" * 2, encoding="utf-8")
    first, second = WukongReader().load_data(file)
    assert first.hash != second.hash


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "http://[bad/a.jpg"])
def test_what_is_no_address_is_named(file: Path, url: str) -> None:
    file.write_text(f"url,caption\n{url},猫\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"line 2: .* is not an http URL of an image"):
        WukongReader().load_data(file)


def test_a_file_without_number_lends_its_name(tmp_path: Path) -> None:
    (tmp_path / "wukong.csv").write_text("url,caption\nhttps://a.example.cn/0.jpg,b\n", encoding="utf-8")
    (node,) = WukongReader(id_prefix="").load_data(tmp_path / "wukong.csv")
    assert node.node_id == "wukong/00000"
