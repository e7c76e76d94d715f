"""Behaviour common to all readers: errors, skipped records, arguments."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from llama_index.core import SimpleDirectoryReader
from llama_index.core.readers.base import BaseReader

from llama_index_mm_zhipu import read_jsonl
from llama_index_mm_zhipu.readers import JsonlReader


@pytest.fixture
def file(demo_folder: Path, tmp_path: Path) -> Path:
    """A file of two valid lines, 25 invalid ones and a valid one."""
    records = [
        {"image_id": node.node_id, "image_base64": node.image}
        for node in read_jsonl(demo_folder / "test.jsonl", id_prefix="")
    ]
    lines = [json.dumps(record) for record in records[:3]]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines[:2], *["no json"] * 25, lines[2]]), encoding="utf-8")
    return tmp_path / "a.jsonl"


def test_all_skipped_records_are_counted_and_the_first_listed(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    reader = JsonlReader(on_error="skip")
    assert len(reader.load_data(file)) == 3
    assert (reader.skipped.count, len(reader.skipped)) == (25, 20)
    assert list(reader.skipped) == [f"{file}, line {number}" for number in range(3, 23)]
    assert f"skipped 25 of 28 records: {file}, line 3: not an object with image_id, " in caplog.text
    assert caplog.text.rstrip().endswith("; and 5 more")
    assert len(reader.load_data(file)) == 3
    assert reader.skipped.count == 25


def test_skipped_records_are_logged_when_reading_stops_early(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    nodes = JsonlReader(on_error="skip").lazy_load_data(file)
    for _ in range(3):
        next(nodes)
    assert not caplog.records
    nodes.close()
    assert "skipped 25 of 28 records" in caplog.text


def test_if_all_records_are_skipped_the_error_has_the_first_reason(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("no json\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"holds no images; .*; skipped 1 record, first .*line 1: not an object"):
        JsonlReader(on_error="skip").load_data(tmp_path / "a.jsonl")


def test_an_unknown_value_of_on_error_is_an_error() -> None:
    with pytest.raises(ValueError, match="on_error is 'Raise'; it must be 'raise' or 'skip'"):
        JsonlReader(on_error="Raise")  # type: ignore[arg-type]


async def test_readers_work_as_readers_of_llama_index(file: Path) -> None:
    reader = JsonlReader(id_prefix="", on_error="skip")
    assert isinstance(reader, BaseReader)
    assert [node.node_id for node in await reader.aload_data(file)] == ["1", "2", "3"]
    (first, *_) = SimpleDirectoryReader(file.parent, file_extractor={".jsonl": reader}).load_data()
    assert (first.node_id, first.metadata["file_name"]) == ("1", "a.jsonl")


def test_a_path_may_begin_with_a_tilde(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(file.parent))
    monkeypatch.setenv("USERPROFILE", str(file.parent))
    assert len(JsonlReader(on_error="skip").load_data("~/a.jsonl")) == 3
