"""The article's jsonl is read as it is met in the wild; bad lines are named."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from llama_index_mm_zhipu import read_jsonl
from llama_index_mm_zhipu.readers import JsonlReader, RecordError


@pytest.fixture
def picture(photos: list[Path]) -> str:
    return base64.b64encode(photos[0].read_bytes()).decode()


def write(path: Path, *records: object, start: str = "") -> Path:
    path.write_text(start + "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
    return path


def test_pictures_captions_and_ids_are_read(tmp_path: Path, picture: str) -> None:
    file = write(
        tmp_path / "test.jsonl",
        {"image_id": "1", "image_base64": picture, "caption": "一只猫"},
        {"image_id": 2, "image_base64": f"data:image/jpeg;base64,{picture}", "caption": ["两只猫", "猫们"]},
        {"image_id": "3", "image_base64": picture, "caption": None},
        {"image_id": "1", "image_base64": picture, "caption": "猫在睡觉"},
        start="\ufeff",
    )

    nodes = read_jsonl(file)

    assert [(node.node_id, node.text) for node in nodes] == [
        ("1", "一只猫\n猫在睡觉"),
        ("2", "两只猫\n猫们"),
        ("3", ""),
    ]
    assert {node.image for node in nodes} == {picture}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no json", "line 2: not an object with image_id"),
        ('{"image_id": "1"}', "line 2: not an object with image_id"),
        ('{"image_id": "1", "image_base64": "%%%"}', "line 2: the picture of '1' is not base64"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, picture: str, line: str, message: str) -> None:
    file = write(tmp_path / "bad.jsonl", {"image_id": "0", "image_base64": picture, "caption": ""})
    with file.open("a", encoding="utf-8") as lines:
        lines.write(line)
    with pytest.raises(ValueError, match=rf"bad\.jsonl, {message}") as caught:
        read_jsonl(file)
    assert "\n" not in str(caught.value)


def test_an_empty_or_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"empty\.jsonl holds no pictures; expected lines with image_id"):
        read_jsonl(write(tmp_path / "empty.jsonl"))
    with pytest.raises(FileNotFoundError, match=r"no such file: .*gone\.jsonl"):
        read_jsonl(tmp_path / "gone.jsonl")


def test_what_is_no_picture_and_no_utf_8_is_named(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text('{"image_id": 1, "image_base64": null, "caption": "猫"}', encoding="utf-8")
    with pytest.raises(RecordError, match=r"test\.jsonl, line 1: the picture of '1' is None, not base64"):
        read_jsonl(file)
    file.write_bytes("一张图片".encode("gbk"))
    with pytest.raises(RecordError, match=r"test\.jsonl, line 1: not UTF-8 \(byte \d\), but perhaps GBK; convert"):
        read_jsonl(file)


def test_bad_lines_can_be_skipped_and_are_counted(
    tmp_path: Path, picture: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = base64.b64encode(b"no picture").decode()
    file = write(
        tmp_path / "mixed.jsonl",
        {"image_id": 1, "image_base64": picture, "caption": "猫"},
        "a string",
        {"image_id": 2, "image_base64": text},
        {"image_id": 3, "image_base64": picture},
    )
    reader = JsonlReader(on_error="skip")
    assert [node.node_id for node in reader.lazy_load_data(file)] == ["1", "3"]
    assert reader.skipped_count == 2
    assert ["line 2" in reader.skipped[0], "line 3" in reader.skipped[1]] == [True, True]
    assert "no picture that Pillow can read" in reader.skipped[1]
    assert "skipped 2 of 4 records" in caplog.text


def test_pictures_come_as_they_are_asked_for(tmp_path: Path, picture: str) -> None:
    good = {"image_id": 1, "image_base64": picture}
    pictures = iter(JsonlReader().lazy_load_data(write(tmp_path / "test.jsonl", good, "a string")))
    assert next(pictures).node_id == "1"
    with pytest.raises(RecordError, match="line 2"):
        next(pictures)


def test_the_first_good_line_of_an_id_brings_the_picture(tmp_path: Path, picture: str) -> None:
    file = write(
        tmp_path / "test.jsonl",
        {"image_id": "1", "image_base64": "%%%", "caption": "一只猫"},
        {"image_id": 1, "image_base64": picture, "caption": "猫在睡觉"},
    )
    reader = JsonlReader(on_error="skip")
    (node,) = reader.load_data(file)
    assert (node.node_id, node.text, reader.skipped_count) == ("1", "一只猫\n猫在睡觉", 1)


@pytest.mark.parametrize("image_id", [None, "", " ", True, [1], 1.5, "\ud800"])
def test_what_is_no_id_is_named(tmp_path: Path, picture: str, image_id: object) -> None:
    record = {"image_id": image_id, "image_base64": picture}
    (tmp_path / "test.jsonl").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(RecordError, match=r"test\.jsonl, line 1: the picture id is "):
        JsonlReader().load_data(tmp_path / "test.jsonl")


def test_halves_of_characters_are_replaced(tmp_path: Path, picture: str) -> None:
    record = {"image_id": "1", "image_base64": picture, "caption": "a\ud800 \ud83d\ude00"}
    (tmp_path / "test.jsonl").write_text(json.dumps(record), encoding="utf-8")
    (node,) = JsonlReader().load_data(tmp_path / "test.jsonl")
    assert node.text == "a\ufffd 😀"


def test_what_is_nested_too_deep_is_named(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(RecordError, match=r"line 1: not an object with image_id"):
        JsonlReader().load_data(tmp_path / "test.jsonl")
