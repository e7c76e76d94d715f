"""MUGE: images in a tsv, queries or advertising lines beside it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from llama_index_mm_zhipu.readers import MugeCaptionReader, MugeRetrievalReader, RecordError


def write_tsv(file: Path, photos: list[Path], ids: list[str]) -> None:
    lines = [f"{id_}\t{base64.b64encode(p.read_bytes()).decode()}\n" for id_, p in zip(ids, photos, strict=False)]
    file.write_text("".join(lines))


def write_jsonl(file: Path, *records: object) -> None:
    file.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


@pytest.mark.parametrize("prefix", ["MR_", ""])
def test_queries_are_captions_of_the_images_that_they_ask_for(tmp_path: Path, photos: list[Path], prefix: str) -> None:
    write_tsv(tmp_path / f"{prefix}valid_imgs.tsv", photos, ["1001", "1002"])
    queries = tmp_path / f"{prefix}valid_queries.jsonl"
    write_jsonl(queries, {"query_id": 77, "query_text": "复古帆布包", "item_ids": [1001, 1002]})
    nodes = MugeRetrievalReader(id_prefix="").load_data(tmp_path, split="valid")
    assert [(node.node_id, node.text) for node in nodes] == [("1001", "复古帆布包"), ("1002", "复古帆布包")]


def test_queries_of_the_test_split_name_no_images(tmp_path: Path, photos: list[Path]) -> None:
    write_tsv(tmp_path / "MR_test_imgs.tsv", photos, ["1001"])
    write_jsonl(tmp_path / "MR_test_queries.jsonl", {"query_id": 77, "query_text": "复古帆布包"})
    assert [node.text for node in MugeRetrievalReader().load_data(tmp_path, split="test")] == [""]


def test_advertising_lines_are_captions(tmp_path: Path, photos: list[Path]) -> None:
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


def test_nan_is_no_advertising_line_and_no_id(tmp_path: Path, photos: list[Path]) -> None:
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
