"""JSON Lines files of images in base64, including irregular and invalid lines."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from llama_index_mm_zhipu import read_jsonl
from llama_index_mm_zhipu.readers import ColumnReader, Columns, JsonlReader, RecordError


@pytest.fixture
def image(photos: list[Path]) -> str:
    return base64.b64encode(photos[0].read_bytes()).decode()


def write(path: Path, *records: object, start: str = "") -> Path:
    path.write_text(start + "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
    return path


def test_images_captions_and_ids_are_read(tmp_path: Path, image: str) -> None:
    file = write(
        tmp_path / "test.jsonl",
        {"image_id": "1", "image_base64": image, "caption": "一只猫"},
        {"image_id": 2, "image_base64": f"data:image/jpeg;base64,{image}", "caption": ["两只猫", "猫们"]},
        {"image_id": "3", "image_base64": image, "caption": None},
        {"image_id": "1", "image_base64": image, "caption": "猫在睡觉"},
        start="\ufeff",
    )

    nodes = read_jsonl(file, id_prefix="")

    assert [(node.node_id, node.text) for node in nodes] == [
        ("1", "一只猫\n猫在睡觉"),
        ("2", "两只猫\n猫们"),
        ("3", ""),
    ]
    assert {node.image for node in nodes} == {image}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no json", "line 2: not an object with image_id"),
        ('{"image_id": "1"}', "line 2: not an object with image_id"),
        ('{"image_id": "1", "image_base64": "%%%"}', "line 2: the image of '1' is not base64"),
    ],
)
def test_an_invalid_line_is_an_error_with_its_number(tmp_path: Path, image: str, line: str, message: str) -> None:
    file = write(tmp_path / "bad.jsonl", {"image_id": "0", "image_base64": image, "caption": ""})
    with file.open("a", encoding="utf-8") as lines:
        lines.write(line)
    with pytest.raises(ValueError, match=rf"bad\.jsonl, {message}") as caught:
        read_jsonl(file)
    assert "\n" not in str(caught.value)


def test_an_empty_or_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"empty\.jsonl holds no images; expected lines with image_id"):
        read_jsonl(write(tmp_path / "empty.jsonl"))
    with pytest.raises(FileNotFoundError, match=r"no such file: .*gone\.jsonl"):
        read_jsonl(tmp_path / "gone.jsonl")


def test_missing_images_and_other_encodings_are_errors(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text('{"image_id": 1, "image_base64": null, "caption": "猫"}', encoding="utf-8")
    with pytest.raises(RecordError, match=r"test\.jsonl, line 1: the image of '1' is None, not base64"):
        read_jsonl(file)
    file.write_bytes("一张图片".encode() + "\n一张图片".encode("gbk"))
    reader = JsonlReader(on_error="skip")
    with pytest.raises(ValueError, match="holds no images"):
        reader.load_data(file)
    assert list(reader.skipped) == [f"{file}, line 1", f"{file}, line 2"]
    assert re.match(r"not UTF-8 \(byte \d\), but perhaps GBK; convert", reader.skipped[f"{file}, line 2"])


def test_invalid_lines_can_be_skipped(tmp_path: Path, image: str, caplog: pytest.LogCaptureFixture) -> None:
    text = base64.b64encode(b"no image").decode()
    file = write(
        tmp_path / "mixed.jsonl",
        {"image_id": 1, "image_base64": image, "caption": "猫"},
        "a string",
        {"image_id": 2, "image_base64": text},
        {"image_id": 3, "image_base64": image},
    )
    reader = JsonlReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.lazy_load_data(file)] == ["1", "3"]
    assert reader.skipped.count == 2
    assert list(reader.skipped) == [f"{file}, line 2", f"{file}, line 3"]
    assert "not an image that Pillow can read" in reader.skipped[f"{file}, line 3"]
    assert "skipped 2 of 4 records" in caplog.text


def test_images_are_read_lazily(tmp_path: Path, image: str) -> None:
    good = {"image_id": 1, "image_base64": image}
    file = write(tmp_path / "test.jsonl", good, "a string")
    images = iter(JsonlReader(id_prefix="").lazy_load_data(file))
    assert next(images).node_id == "1"
    with pytest.raises(RecordError, match="line 2"):
        next(images)


def test_the_image_is_taken_from_the_first_valid_line_of_an_id(tmp_path: Path, image: str) -> None:
    file = write(
        tmp_path / "test.jsonl",
        {"image_id": "1", "image_base64": "%%%", "caption": "一只猫"},
        {"image_id": 1, "image_base64": image, "caption": "猫在睡觉"},
    )
    reader = JsonlReader(id_prefix="", on_error="skip")
    (node,) = reader.load_data(file)
    assert (node.node_id, node.text, reader.skipped.count) == ("1", "一只猫\n猫在睡觉", 1)


def test_an_id_with_two_images_is_an_error(tmp_path: Path, photos: list[Path]) -> None:
    first, second = (base64.b64encode(photo.read_bytes()).decode("ascii") for photo in photos[:2])
    file = write(
        tmp_path / "test.jsonl",
        {"image_id": 1, "image_base64": first, "caption": "裙子"},
        {"image_id": 1, "image_base64": first, "caption": "长裙"},
        {"image_id": 1, "image_base64": second, "caption": "帽子"},
    )
    with pytest.raises(RecordError, match="line 3: the image_id '1' is listed twice, with different images"):
        read_jsonl(file)


@pytest.mark.parametrize(
    ("image_id", "message"),
    [
        (None, "null, under image_id; an id is a string or an integer, and is missing here"),
        (float("nan"), "NaN, under image_id; an id is a string or an integer, and is missing here"),
        (float("-inf"), "-Infinity, under image_id; an id is a string or an integer, and is missing here"),
        ("", "'', a string, under image_id; an id is a string or an integer, and is empty here"),
        (" ", "' ', a string, under image_id; an id is a string or an integer, and is empty here"),
        (True, "true, a boolean, under image_id; an id is a string or an integer"),
        ([1], "[1], a list, under image_id; an id is a string or an integer"),
        ({"id": 1}, "{'id': 1}, an object, under image_id; an id is a string or an integer"),
        (1.5, "1.5, a float, under image_id; an id is a string or an integer"),
        (
            1.0,
            "1.0, a float, under image_id; an id is a string or an integer: write 1 (in pandas, astype(int), or "
            "astype('Int64') where ids are missing)",
        ),
        (
            6.222021234567891e18,
            "6.222021234567891e+18, a float, under image_id; an id is a string or an integer: write it as a string, as "
            "a float of this size has lost digits (in pandas, read the column as str)",
        ),
        ("\ud800", "'\\ud800', under image_id, with half of a character"),
    ],
)
def test_an_invalid_id_is_an_error(tmp_path: Path, image: str, image_id: object, message: str) -> None:
    record = {"image_id": image_id, "image_base64": image}
    (tmp_path / "test.jsonl").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(RecordError) as caught:
        JsonlReader().load_data(tmp_path / "test.jsonl")
    assert str(caught.value) == f"{tmp_path / 'test.jsonl'}, line 1: the image id is {message}"


def test_halves_of_surrogate_pairs_in_captions_are_replaced(tmp_path: Path, image: str) -> None:
    record = {"image_id": "1", "image_base64": image, "caption": "a\ud800 \ud83d\ude00"}
    (tmp_path / "test.jsonl").write_text(json.dumps(record), encoding="utf-8")
    (node,) = JsonlReader().load_data(tmp_path / "test.jsonl")
    assert node.text == "a\ufffd 😀"


def test_too_deep_nesting_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(RecordError, match=r"line 1: not an object with image_id"):
        JsonlReader().load_data(tmp_path / "test.jsonl")


# NaN and other values that Python and pandas write instead of captions and images


@pytest.mark.parametrize("caption", [float("nan"), float("inf"), None, [float("nan")], [], "", False])
def test_null_nan_and_false_mean_no_caption(tmp_path: Path, image: str, caption: object) -> None:
    (node,) = read_jsonl(write(tmp_path / "a.jsonl", {"image_id": 1, "image_base64": image, "caption": caption}))
    assert node.text == ""


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        (True, "caption holds true, a boolean, not a caption or a list of captions"),
        ({"zh": "裙子"}, "caption holds {'zh': '裙子'}, an object, not a caption"),
        (["裙子", ["红"]], "caption holds ['红'], a list, not a caption"),
    ],
)
def test_an_invalid_caption_is_an_error(tmp_path: Path, image: str, caption: object, message: str) -> None:
    file = write(tmp_path / "a.jsonl", {"image_id": 1, "image_base64": image, "caption": caption})
    with pytest.raises(RecordError) as caught:
        read_jsonl(file)
    assert f"a.jsonl, line 1: {message}" in str(caught.value)


def test_numbers_are_captions(tmp_path: Path, image: str) -> None:
    (node,) = read_jsonl(write(tmp_path / "a.jsonl", {"image_id": 1, "image_base64": image, "caption": [2024, "款"]}))
    assert node.text == "2024\n款"


def test_nan_instead_of_an_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"a\.jsonl, line 1: the image of '1' is NaN, not base64"):
        read_jsonl(write(tmp_path / "a.jsonl", {"image_id": 1, "image_base64": float("nan")}))


# Other keys


def test_other_keys_become_metadata(tmp_path: Path, image: str) -> None:
    record = {"image_id": 1, "image_base64": image, "caption": "裙子", "price": 199, "tags": ["红", float("nan")]}
    first, second = read_jsonl(write(tmp_path / "a.jsonl", record, {"image_id": 2, "image_base64": image}))
    assert {key: first.metadata[key] for key in ("price", "tags")} == {"price": 199, "tags": ["红", None]}
    assert list(second.metadata) == ["content_hash", "source_root", "source_location"]
    (tmp_path / "a.jsonl").write_text(f'{{"image_id": 1, "image_base64": "{image}", "a": 1e999}}')
    assert read_jsonl(tmp_path / "a.jsonl")[0].metadata["a"] is None
    record["content_hash"] = "x"
    with pytest.raises(RecordError, match=r"a\.jsonl, line 1: the key 'content_hash' is one of this package's own"):
        read_jsonl(write(tmp_path / "a.jsonl", record))


@pytest.mark.parametrize(
    ("record", "columns"),
    [
        ({"title": "裙子", "img": "IMAGE"}, "caption='title', base64='img'"),
        ({"id": 7, "image": "IMAGE", "caption": "裙子"}, "caption='caption', base64='image', id='id'"),
        (
            {"商品编号": "7", "标题": "裙子", "图": "data:image/png;base64,IMAGE"},
            "caption='标题', base64='图', id='商品编号'",
        ),
        ({"sku": "7", "url": "https://img.example.cn/a.jpg", "text": ["裙子"]}, "caption='text', url='url', id='sku'"),
        ({"image_id": 7, "pic": "IMAGE", "caption": "裙子"}, "caption='caption', base64='pic', id='image_id'"),
        ({"image_base64": "IMAGE", "caption": "裙子"}, "caption='caption', base64='image_base64'"),
    ],
)
def test_the_error_suggests_a_column_reader_that_reads_other_keys(
    tmp_path: Path, image: str, record: dict[str, object], columns: str
) -> None:
    record = {key: value.replace("IMAGE", image) if isinstance(value, str) else value for key, value in record.items()}
    file = write(tmp_path / "goods.jsonl", record)
    with pytest.raises(RecordError) as caught:
        read_jsonl(file)
    keys, call = str(caught.value).split("; read other keys with ")
    assert (
        keys == f"{file}, line 1: not an object with image_id, image_base64 and caption, but with {', '.join(record)}"
    )
    assert call == f"ColumnReader(Columns({columns})).load_data({str(file)!r})"
    (node,) = eval(call, {"ColumnReader": ColumnReader, "Columns": Columns})
    assert node.text == "裙子"


def test_the_suggested_call_has_gaps_for_unknown_columns(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"ColumnReader\(Columns\(caption=…, base64=…\)\)"):
        read_jsonl(write(tmp_path / "a.jsonl", {"price": 5}))
    file = write(tmp_path / "a.json", {"file": "a.jpg", "说明": "裙子"})
    with pytest.raises(RecordError) as caught:
        read_jsonl(file)
    assert "caption='说明', image='file')).load_data(" in str(caught.value)
    assert str(caught.value).endswith("a.jsonl', images=…) after renaming it to a.jsonl")


def test_captions_under_another_key_are_a_warning(tmp_path: Path, image: str, caplog: pytest.LogCaptureFixture) -> None:
    (node,) = read_jsonl(write(tmp_path / "a.jsonl", {"image_id": 1, "image_base64": image, "text": "裙子"}))
    assert (node.text, node.metadata["text"]) == ("", "裙子")
    assert "no line of" in caplog.text
    assert "ColumnReader(Columns(caption='text', base64='image_base64', id='image_id'))" in caplog.text


@pytest.mark.parametrize("encoding", ["gbk", "utf-16", "utf-8-sig"])
def test_other_encodings_are_read(tmp_path: Path, image: str, encoding: str) -> None:
    line = json.dumps({"image_id": 1, "image_base64": image, "caption": "一条裙子"}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_bytes(line.encode(encoding))
    assert read_jsonl(tmp_path / "a.jsonl")[0].text == "一条裙子"
    assert read_jsonl(tmp_path / "a.jsonl", encoding=encoding)[0].text == "一条裙子"
