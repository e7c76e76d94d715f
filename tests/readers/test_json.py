"""Streaming of JSON arrays in any layout, and positions in errors."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from tqdm.auto import tqdm

from llama_index_mm_zhipu.readers import json as json_files
from llama_index_mm_zhipu.readers.json import read_objects

RECORDS = [{"name": f"{number}.jpg", "text": '他说"好"]}, {\n' * (number % 5), "n": number} for number in range(300)]


def read(file: Path, *required: str) -> list[dict[str, object] | str]:
    """Return each object, or the message of an error."""
    return [getattr(found, "fields", None) or str(found) for found in read_objects(file, "an object", required)]


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize(
    "layout",
    [
        lambda: json.dumps(RECORDS, ensure_ascii=False),
        lambda: "\ufeff\r\n" + json.dumps(RECORDS, indent=2, ensure_ascii=False) + "\n",
        lambda: '{ "RECORDS" :\n' + json.dumps(RECORDS) + "}",
    ],
)
def test_arrays_are_read_in_all_layouts_and_chunk_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout, chunk: int
) -> None:
    monkeypatch.setattr(json_files, "_CHUNK_BYTES", chunk)
    (tmp_path / "a.json").write_text(layout(), encoding="utf-8")
    assert read(tmp_path / "a.json") == RECORDS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.json, line 1: the file ends before its array does"),
        ('{"name": "x"}', 'a.json, line 1: not an array of objects, nor one as {"RECORDS": […]}'),
        ("裙子", 'a.json, line 1: not an array of objects, nor one as {"RECORDS": […]}'),
        (
            '[\n{"name": 1},\n{"name": }]',
            "a.json, line 3: not JSON (Expecting value); the rest of the file is not read",
        ),
        ('[\n{"name": 1}', "a.json, line 2: the file ends before its array does; the rest of the file is not read"),
        ('[{"name": 1}]\n[{"name": 2}]', "a.json, line 2: there is more after the array; the rest"),
        ("{}", 'a.json, line 1: not an array of objects, nor one as {"RECORDS": […]}'),
        ("[" * 200_000, "a.json, line 1: "),
        ('[{"name": 1},\n7]', "a.json, line 2, object 2: not an object"),
        ('[{"name": 1},\n{"nam": 7}]', "a.json, line 2, object 2: not an object, but with nam"),
    ],
)
def test_errors_name_line_and_object(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    *_, last = read(tmp_path / "a.json", "name")
    assert str(last).startswith(f"{tmp_path}/{message}")


def test_the_array_may_follow_other_values(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"count": 1, "of": {"x": "]"}, "RECORDS": [{"name": 1}], "more": 2}', "utf-8")
    assert read(tmp_path / "a.json") == [{"name": 1}]


def test_objects_before_a_decoding_error_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes('[\n{"name": "一"},\n'.encode() + '{"name": "裙子"}]'.encode("gbk"))
    good, error = read(tmp_path / "a.json")
    assert good == {"name": "一"}
    assert "a.json, line 3: not UTF-8 (byte 31), but perhaps GBK" in str(error)


def test_numbers_that_cross_chunks_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text('{"of": 1.5e3, "RECORDS": [{"name": 1}]}', encoding="utf-8")
    for chunk in range(1, 30):
        monkeypatch.setattr(json_files, "_CHUNK_BYTES", chunk)
        assert read(tmp_path / "a.json") == [{"name": 1}]


def test_a_syntax_error_is_found_without_reading_the_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("[nonsense," + " " * (8 << 20), encoding="utf-8")
    with file.open("rb") as stream:
        text = json_files._Window(stream, tqdm(disable=True))
        text.require_next(json_files._BLANKS)
        text.take("[")
        with pytest.raises(ValueError, match="not JSON"):
            text.parse_value()
        assert stream.tell() <= 2 << 20


def test_another_encoding_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes('[\n{"name": "裙子"}]'.encode("gbk"))
    (error,) = read(tmp_path / "a.json")
    assert "a.json, line 2: not UTF-8 (byte 14), but perhaps GBK; convert the file with" in str(error)


def test_values_that_only_python_and_pandas_write_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '[{"nan": NaN, "low": -Infinity, "integer": 123456789012345678901234567890, "half": "\\ud800"}]',
        encoding="utf-8",
    )
    (record,) = read(tmp_path / "a.json")
    assert isinstance(record, dict)
    assert math.isnan(record.pop("nan"))
    assert record == {"low": -math.inf, "integer": 123456789012345678901234567890, "half": "\ud800"}
