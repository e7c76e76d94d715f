"""Chinese-CLIP's data sets and MUGE: images in a TSV, texts in a JSON Lines file."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from llama_index_mm_zhipu.readers import ChineseClipReader, MugeCaptionReader, MugeRetrievalReader, RecordError

# Chinese-CLIP


@pytest.fixture
def chinese_clip(tmp_path: Path, photos: list[Path]) -> Path:
    """Three images: one with two captions, one with one, one without."""
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


def add_line(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write(line + "\n")


def test_chinese_clip_images_have_all_their_captions(chinese_clip: Path, photos: list[Path]) -> None:
    nodes = ChineseClipReader(id_prefix="").load_data(chinese_clip, split="valid")
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
        ("valid_imgs.tsv", "1000\t/9j/", "valid_imgs.tsv, line 4: the image id '1000' is listed twice"),
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
def test_invalid_lines_of_chinese_clip_are_errors_or_skipped(
    chinese_clip: Path, name: str, line: str, message: str
) -> None:
    add_line(chinese_clip / name, line)
    with pytest.raises(RecordError) as caught:
        ChineseClipReader().load_data(chinese_clip, split="valid")
    assert message in str(caught.value)
    reader = ChineseClipReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(chinese_clip, split="valid")] == ["1000", "1001", "1002"]
    assert reader.skipped.count == 1


def test_nan_instead_of_image_ids_means_no_images(chinese_clip: Path) -> None:
    add_line(chinese_clip / "valid_texts.jsonl", '{"text": "猫", "image_ids": NaN}')
    assert ChineseClipReader().load_texts(chinese_clip, "valid")[-1].image_ids == ()


def test_a_missing_split_or_an_empty_file_is_an_error(chinese_clip: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*train_imgs\.tsv; there are the splits valid"):
        ChineseClipReader().load_data(chinese_clip)
    (chinese_clip / "valid_imgs.tsv").write_text("")
    (chinese_clip / "valid_texts.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"valid_imgs\.tsv holds no images; expected lines of id, tab, base64"):
        ChineseClipReader().load_data(chinese_clip, split="valid")


def test_a_wrong_key_of_image_ids_is_a_warning(chinese_clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    (chinese_clip / "valid_texts.jsonl").write_text('{"text": "猫", "ids": [1]}\n', encoding="utf-8")
    assert ChineseClipReader().load_data(chinese_clip, "valid")[0].text == ""
    assert "valid_texts.jsonl has image_ids, but ['ids', 'text']" in caplog.text


# MUGE


def write_tsv(file: Path, photos: list[Path], ids: list[str]) -> None:
    lines = [f"{id_}\t{base64.b64encode(p.read_bytes()).decode()}\n" for id_, p in zip(ids, photos, strict=False)]
    file.write_text("".join(lines))


def write_jsonl(file: Path, *records: object) -> None:
    file.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


@pytest.mark.parametrize("prefix", ["MR_", ""])
def test_muge_queries_are_captions_of_their_images(tmp_path: Path, photos: list[Path], prefix: str) -> None:
    write_tsv(tmp_path / f"{prefix}valid_imgs.tsv", photos, ["1001", "1002"])
    queries = tmp_path / f"{prefix}valid_queries.jsonl"
    write_jsonl(queries, {"query_id": 77, "query_text": "复古帆布包", "item_ids": [1001, 1002]})
    nodes = MugeRetrievalReader(id_prefix="").load_data(tmp_path, split="valid")
    assert [(node.node_id, node.text) for node in nodes] == [("1001", "复古帆布包"), ("1002", "复古帆布包")]


def test_muge_queries_of_the_test_split_have_no_images(tmp_path: Path, photos: list[Path]) -> None:
    write_tsv(tmp_path / "MR_test_imgs.tsv", photos, ["1001"])
    write_jsonl(tmp_path / "MR_test_queries.jsonl", {"query_id": 77, "query_text": "复古帆布包"})
    assert [node.text for node in MugeRetrievalReader().load_data(tmp_path, split="test")] == [""]


def test_advertising_texts_of_muge_are_captions(tmp_path: Path, photos: list[Path]) -> None:
    write_tsv(tmp_path / "IC_train.tsv", photos, ["ab12", "cd34"])
    write_jsonl(
        tmp_path / "IC_train.jsonl",
        {"image_id": "ab12", "text": ["文案一", "文案二"]},
        {"image_id": "cd34"},
        ["no object"],
    )
    with pytest.raises(RecordError, match=r"IC_train\.jsonl, line 3: not an object with image_id and text"):
        MugeCaptionReader().load_data(tmp_path)
    nodes = MugeCaptionReader(id_prefix="", on_error="skip").load_data(tmp_path)
    assert [(node.node_id, node.text) for node in nodes] == [("ab12", "文案一\n文案二"), ("cd34", "")]


def test_nan_in_muge_is_neither_a_caption_nor_an_id(tmp_path: Path, photos: list[Path]) -> None:
    write_tsv(tmp_path / "IC_train.tsv", photos, ["1", "2"])
    write_jsonl(
        tmp_path / "IC_train.jsonl",
        {"image_id": 1, "text": float("nan")},
        {"image_id": 2, "text": ["文案", float("nan")]},
        {"image_id": 2.0, "text": "文案"},
        {"image_id": 2, "text": [{"zh": "文案"}]},
    )
    reader = MugeCaptionReader(on_error="skip")
    assert [node.text for node in reader.load_data(tmp_path)] == ["", "文案"]
    file = tmp_path / "IC_train.jsonl"
    assert list(reader.skipped) == [f"{file}, line 3", f"{file}, line 4"]
    no_id, no_text = reader.skipped.values()
    assert no_id.startswith("the image id is 2.0, a float, under image_id; an id is a string or an")
    assert no_text == "text holds {'zh': '文案'}, an object, not a caption or a list of captions"
