"""Lines of text files: line ends, byte order marks, encodings and sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_index_mm_zhipu.readers import RecordError, lines
from llama_index_mm_zhipu.readers.lines import Line, read_lines


def texts_of(file: Path) -> list[str]:
    return [line.text for line in read_lines(file) if isinstance(line, Line)]


def test_only_line_feeds_end_lines(tmp_path: Path) -> None:
    file = tmp_path / "captions.txt"
    file.write_bytes("\ufeff一只猫\r\n\n两只\r猫\u2028们\n \n末行".encode())
    assert texts_of(file) == ["一只猫", "两只\r猫\u2028们", "末行"]
    assert [line.position for line in read_lines(file) if isinstance(line, Line)] == [
        f"{file}, line {number}" for number in (1, 3, 5)
    ]


def test_lines_around_a_line_in_another_encoding_are_read(tmp_path: Path) -> None:
    file = tmp_path / "captions.txt"
    file.write_bytes("一只猫\n".encode() + "两只猫\n".encode("gbk") + b"\xff\xff\n" + "三只".encode())
    first, gbk, neither, last = read_lines(file)
    assert isinstance(first, Line)
    assert isinstance(last, Line)
    assert str(gbk) == f"{file}, line 2: not UTF-8 (byte 0), but perhaps GBK; convert the file with: " + (
        "iconv -f GB18030 -t UTF-8"
    )
    assert str(neither).endswith("line 3: not UTF-8 (byte 0); save the file as UTF-8")


def test_a_file_without_line_ends_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 1 << 20)
    file = tmp_path / "film.mp4"
    file.write_bytes(b"x" * (3 << 20))
    (error,) = read_lines(file)
    assert isinstance(error, RecordError)
    assert "line 1: longer than 1 MiB; is this a text file?" in str(error)


def test_a_progress_bar_is_shown_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "captions.txt"
    file.write_text("一只猫\n" * 1000, encoding="utf-8")
    list(read_lines(file))
    assert capsys.readouterr().err == ""
    list(read_lines(file, show_progress=True))
    assert "Reading captions.txt: 100%" in capsys.readouterr().err


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*gone\.txt"):
        list(read_lines(tmp_path / "gone.txt"))
