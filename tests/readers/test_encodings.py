"""Detection of encodings, and reading with a given encoding."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tqdm.auto import tqdm

from llama_index_mm_zhipu.readers import encodings
from llama_index_mm_zhipu.readers.encodings import (
    as_utf_8,
    detect_encoding,
    normalize_encoding,
    resolve_encoding,
)
from llama_index_mm_zhipu.readers.lines import Line, read_lines

TEXT = "编号,说明\r\n一,𠮷野家的碗\r\n二,“好看”的裙子\r\n"


@pytest.mark.parametrize(
    ("codec", "detected"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", "utf-16"),
        ("gb18030", "gb18030"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_each_encoding_is_detected_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, detected: str | None, chunk: int
) -> None:
    monkeypatch.setattr(encodings, "_CHUNK_BYTES", chunk)
    file = tmp_path / "a.csv"
    file.write_bytes(TEXT.encode(codec))
    assert detect_encoding(file) == detected
    lines = list(read_lines(file, encoding=detected))
    assert [line.text for line in lines if isinstance(line, Line)] == TEXT.split("\r\n")[:-1]


def test_detected_gbk_is_a_warning_and_given_gbk_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "goods.csv"
    file.write_bytes("一条裙子\n".encode("gbk") * 1000)
    assert resolve_encoding(file, "gb18030") == "gb18030"
    assert caplog.messages == []
    assert resolve_encoding(file, None) == "gb18030"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{file} is not UTF-8 and is read as GB18030 (GBK)" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        # The whole file is valid GB18030, but would be read as nonsense: "裙子" as "瑁欏瓙".
        "裙子裙子\n".encode() + b"\xb0\xa1\n" + "红色红色\n".encode(),
        "裙子\n".encode() + b"\xff\xff\n",
        "裙子\n".encode("gbk") + b"\x81\n",
        b"",
    ],
)
def test_a_damaged_file_is_read_as_utf_8(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert detect_encoding(tmp_path / "a.txt") is None


@pytest.mark.parametrize("encoding", ["gbkk", "", "base64", "a\0b"])
def test_an_invalid_encoding_is_an_error(encoding: str) -> None:
    with pytest.raises(ValueError, match=r"^encoding is .*, which is not a text encoding .*'gb18030' \(GBK"):
        normalize_encoding(encoding)


def test_names_of_encodings_are_normalized(tmp_path: Path) -> None:
    assert {normalize_encoding(name) for name in ("utf8", "UTF-8", "utf-8-sig", "U8")} == {"utf-8"}
    assert normalize_encoding("CP936") == "gbk"
    assert normalize_encoding(None) is None


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf-8", "line 2: not UTF-8 (byte 1); give another encoding, such as encoding='gb18030', or none to have it"),
        ("ascii", "line 2: not ascii; give another encoding, such as encoding='gb18030', or none to have it"),
        ("gb18030", "line 2: not gb18030; give another encoding, such as encoding='utf-8', or none to have it"),
    ],
)
def test_a_line_in_another_encoding_than_given_is_an_error(tmp_path: Path, encoding: str, message: str) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"one\nx\xff\nthree\n")
    first, error, last = read_lines(file, encoding=encoding)
    assert isinstance(first, Line)
    assert isinstance(last, Line)
    assert message in str(error)


def test_utf_16_without_a_byte_order_mark_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a,b\n1,2\n")
    (error,) = read_lines(tmp_path / "a.txt", encoding="utf-16")
    assert "line 1: not utf-16" in str(error)


def test_the_progress_bar_counts_bytes_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("裙子\n".encode("utf-16") * 5000)
    with file.open("rb") as stream, tqdm(total=0, disable=False) as bar:
        as_utf_8(stream, "utf-16", bar).read()
        assert bar.n == file.stat().st_size
