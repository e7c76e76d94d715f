"""The form of Chinese-CLIP's scripts: images by id in a tsv, captions that name ids in a jsonl."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from llama_index_mm_zhipu.readers import ChineseClipReader, RecordError


@pytest.fixture
def folder(tmp_path: Path, photos: list[Path]) -> Path:
    """Three images, of which one has two captions and one none."""
    encoded = [base64.b64encode(photo.read_bytes()).decode() for photo in photos[:3]]
    (tmp_path / "valid_imgs.tsv").write_text("".join(f"{1000 + n}\t{text}\n" for n, text in enumerate(encoded)))
    texts = [
        {"text_id": 1, "text": "一条裙子", "image_ids": [1000]},
        {"text_id": 2, "text": "红色的", "image_ids": [1000, 1001]},
        {"text_id": 3, "text": "不知道是哪张", "image_ids": []},
    ]
    (tmp_path / "valid_texts.jsonl").write_text(
        "".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8"
    )
    return tmp_path


def add(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write(line + "\n")


def test_images_with_all_their_captions(folder: Path, photos: list[Path]) -> None:
    nodes = ChineseClipReader(id_prefix="").load_data(folder, split="valid")
    assert [(node.node_id, node.text) for node in nodes] == [
        ("1000", "一条裙子\n红色的"),
        ("1001", "红色的"),
        ("1002", ""),
    ]
    assert base64.b64decode(nodes[2].image) == photos[2].read_bytes()


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("valid_imgs.tsv", "1009 kein Tab", "valid_imgs.tsv, line 4: not an image id, a tab and base64"),
        ("valid_imgs.tsv", "1009\t%%%", "valid_imgs.tsv, line 4: the image of '1009' is not base64"),
        ("valid_imgs.tsv", "1000\t/9j/", "valid_imgs.tsv, line 4: the image id '1000' comes a second time"),
        ("valid_texts.jsonl", "{", "valid_texts.jsonl, line 4: not an object with text and image_ids"),
        ("valid_texts.jsonl", '{"text": "猫", "image_ids": 7}', "valid_texts.jsonl, line 4: image_ids is not a list"),
        ("valid_texts.jsonl", '{"text": NaN, "image_ids": [1000]}', "line 4: text is not a text, but NaN"),
        (
            "valid_texts.jsonl",
            '{"text": "猫", "image_ids": [1000.0]}',
            "line 4: the image id is 1000.0, a float, under image_ids; an id is a string or an integer: write 1000",
        ),
        (
            "valid_texts.jsonl",
            '{"text": "猫", "image_ids": [77]}',
            "valid_texts.jsonl, line 4: there is no image '77' in valid_imgs.tsv",
        ),
    ],
)
def test_what_is_wrong_is_named_or_skipped(folder: Path, name: str, line: str, message: str) -> None:
    add(folder / name, line)
    with pytest.raises(RecordError) as caught:
        ChineseClipReader().load_data(folder, split="valid")
    assert message in str(caught.value)
    reader = ChineseClipReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(folder, split="valid")] == ["1000", "1001", "1002"]
    assert reader.skipped.count == 1


def test_nan_in_the_place_of_ids_is_none(folder: Path) -> None:
    add(folder / "valid_texts.jsonl", '{"text": "猫", "image_ids": NaN}')
    assert ChineseClipReader().load_texts(folder, "valid")[-1].image_ids == ()


def test_nothing_to_read_is_an_error(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*train_imgs\.tsv; there are the splits valid"):
        ChineseClipReader().load_data(folder)
    (folder / "valid_imgs.tsv").write_text("")
    (folder / "valid_texts.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"valid_imgs\.tsv holds no images; expected lines of id, tab, base64"):
        ChineseClipReader().load_data(folder, split="valid")


def test_another_key_of_ids_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "valid_texts.jsonl").write_text('{"text": "猫", "ids": [1]}\n', encoding="utf-8")
    assert ChineseClipReader().load_data(folder, "valid")[0].text == ""
    assert "valid_texts.jsonl has image_ids, but ['ids', 'text']" in caplog.text
