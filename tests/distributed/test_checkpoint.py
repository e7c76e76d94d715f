"""``Checkpoint``: parts, their files, skipped images, and settings, each recorded whole or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest
from made_parts import part

from llama_index_mm_zhipu.distributed.checkpoint import CHECKPOINT, Checkpoint, PartEntry, stored_fingerprints
from llama_index_mm_zhipu.distributed.parts import SkippedImage
from llama_index_mm_zhipu.stores.transfer.manifest import Shard
from llama_index_mm_zhipu.vector_store import StoreError

PHOTOS, PAGES = "photos-1", "pages-2"
SHARD = Shard("nodes-photos-1-000000.parquet", 2, 1234, "ab" * 32)
NO_IMAGE = SkippedImage("c", "no image")


def places(entries: Iterable[PartEntry]) -> list[tuple[str, int]]:
    return [(entry.source, entry.number) for entry in entries]


def test_a_part_is_found_as_it_was_stored(checkpoint: Checkpoint) -> None:
    checkpoint.add(part("a", "b", skipped=[NO_IMAGE]), SHARD, {})
    assert list(checkpoint.entries([PHOTOS])) == [PartEntry(PHOTOS, 0, 2, 1, 0, SHARD)]
    assert checkpoint.entry(PHOTOS, 0).shard == SHARD
    assert list(checkpoint.skipped([PHOTOS])) == [NO_IMAGE]


def test_images_without_the_result_of_a_stage_are_counted_apart(checkpoint: Checkpoint) -> None:
    unread = SkippedImage("a", "too large", stage="ImageOcr")
    checkpoint.add(part("a", "b", skipped=[unread, NO_IMAGE]), SHARD, {})
    assert list(checkpoint.entries([PHOTOS])) == [PartEntry(PHOTOS, 0, 2, 1, 1, SHARD)]
    assert list(checkpoint.skipped([PHOTOS])) == [unread, NO_IMAGE]


def test_a_part_of_an_index_has_no_file(checkpoint: Checkpoint) -> None:
    checkpoint.add(part("a"), None, {})
    assert list(checkpoint.entries([PHOTOS])) == [PartEntry(PHOTOS, 0, 1, 0, 0, None)]


def test_what_is_recorded_survives_the_process(checkpoint: Checkpoint) -> None:
    checkpoint.set_settings({"model": "clip:1"})
    checkpoint.add(part("a", skipped=[NO_IMAGE]), SHARD, {"precision": "fp32"})
    # As after a kill: the file is not closed.
    with closing(Checkpoint(checkpoint.path)) as other:
        assert list(other.entries([PHOTOS])) == list(checkpoint.entries([PHOTOS]))
        assert other.settings() == {"model": "clip:1", "precision": "fp32"}
        assert list(other.skipped([PHOTOS])) == [NO_IMAGE]


def test_a_part_is_recorded_whole_or_not_at_all(checkpoint: Checkpoint) -> None:
    checkpoint.add(part("a", "b", skipped=[NO_IMAGE]), SHARD, {"precision": "fp32"})
    with pytest.raises(TypeError):
        checkpoint.add(part("a"), None, {"precision": "bf16", "other": object()})
    assert list(checkpoint.entries([PHOTOS])) == [PartEntry(PHOTOS, 0, 2, 1, 0, SHARD)]
    assert (checkpoint.settings(), list(checkpoint.skipped([PHOTOS]))) == ({"precision": "fp32"}, [NO_IMAGE])


def test_a_part_that_is_stored_again_replaces_the_earlier_one(checkpoint: Checkpoint) -> None:
    checkpoint.add(part("a", "b", skipped=[NO_IMAGE]), SHARD, {})
    checkpoint.add(part("x", skipped=[SkippedImage("y", "no file")]), None, {})
    assert list(checkpoint.entries([PHOTOS])) == [PartEntry(PHOTOS, 0, 1, 1, 0, None)]
    assert list(checkpoint.skipped([PHOTOS])) == [SkippedImage("y", "no file")]


def test_parts_come_in_the_order_of_the_images(checkpoint: Checkpoint) -> None:
    for number in (10, 2, 0):
        checkpoint.add(part("a", number=number, skipped=[SkippedImage(str(number), "bad")]), None, {})
    assert places(checkpoint.entries([PHOTOS])) == [(PHOTOS, 0), (PHOTOS, 2), (PHOTOS, 10)]
    assert [image.name for image in checkpoint.skipped([PHOTOS])] == ["0", "2", "10"]


def test_sources_come_in_the_order_that_is_asked_for(checkpoint: Checkpoint) -> None:
    checkpoint.add(part("a"), None, {})
    checkpoint.add(part("a", source=PAGES, skipped=[NO_IMAGE]), None, {})
    assert places(checkpoint.entries([PAGES, PHOTOS])) == [(PAGES, 0), (PHOTOS, 0)]
    assert places(checkpoint.entries([PHOTOS])) == [(PHOTOS, 0)]
    assert list(checkpoint.skipped([PHOTOS])) == []


def test_sources_keep_the_order_in_which_they_were_first_given(checkpoint: Checkpoint) -> None:
    checkpoint.begin_sources([PHOTOS, PAGES])
    # Parts arrive in any order, and are replaced later.
    for source in (PAGES, PHOTOS, PAGES):
        checkpoint.add(part("a", source=source), None, {})
    checkpoint.begin_sources(["other-3", PAGES])
    assert checkpoint.sources() == [PHOTOS, PAGES, "other-3"]


def test_a_source_is_unfinished_until_its_end(checkpoint: Checkpoint) -> None:
    checkpoint.begin_sources([PHOTOS, PAGES])
    checkpoint.end_source(PHOTOS, 1)
    assert checkpoint.unfinished_sources() == [PAGES]
    checkpoint.end_source(PAGES, 0)
    assert checkpoint.unfinished_sources() == []
    checkpoint.begin_sources([PHOTOS])
    assert checkpoint.unfinished_sources() == [PHOTOS]


def test_parts_after_the_end_of_a_source_are_forgotten(checkpoint: Checkpoint) -> None:
    for number in range(3):
        checkpoint.add(part("a", number=number, skipped=[SkippedImage(str(number), "bad")]), None, {})
    checkpoint.add(part("a", number=2, source=PAGES), None, {})
    checkpoint.end_source(PHOTOS, 1)
    assert places(checkpoint.entries([PHOTOS, PAGES])) == [(PHOTOS, 0), (PAGES, 2)]
    assert [image.name for image in checkpoint.skipped([PHOTOS])] == ["0"]


def test_parts_are_removed_with_their_skipped_images(checkpoint: Checkpoint) -> None:
    for number in range(3):
        checkpoint.add(part("a", number=number, skipped=[NO_IMAGE]), None, {})
    checkpoint.add(part("a", number=1, source=PAGES), None, {})
    checkpoint.remove([checkpoint.entry(PHOTOS, 1)])
    assert places(checkpoint.entries([PHOTOS, PAGES])) == [(PHOTOS, 0), (PHOTOS, 2), (PAGES, 1)]
    assert list(checkpoint.skipped([PHOTOS])) == [NO_IMAGE] * 2


def test_a_part_that_is_not_there_is_an_error(checkpoint: Checkpoint) -> None:
    with pytest.raises(StoreError, match=r"lacks part 7 of photos-1; run again"):
        checkpoint.entry(PHOTOS, 7)


def test_settings_replace_those_of_the_same_names(checkpoint: Checkpoint) -> None:
    assert checkpoint.settings() == {}
    checkpoint.set_settings({"model": "clip:1", "stages": ["ImageOcr"], "caption_weight": 0.5})
    checkpoint.set_settings({"caption_weight": None})
    assert checkpoint.settings() == {"model": "clip:1", "stages": ["ImageOcr"], "caption_weight": None}


def test_a_checkpoint_is_empty_without_parts(checkpoint: Checkpoint) -> None:
    checkpoint.set_settings({"model": "clip:1"})
    checkpoint.begin_sources([PHOTOS])
    assert checkpoint.is_empty()
    checkpoint.add(part("a"), None, {})
    assert not checkpoint.is_empty()
    checkpoint.remove(checkpoint.entries([PHOTOS]))
    assert checkpoint.is_empty()


def test_another_process_reads_the_fingerprints_of_a_source(checkpoint: Checkpoint) -> None:
    for number in range(2):
        checkpoint.add(part("a", number=number), None, {})
    checkpoint.add(part("a", number=5, source=PAGES), None, {})
    assert stored_fingerprints(checkpoint.path, PHOTOS) == {0: "fingerprint 0", 1: "fingerprint 1"}
    assert stored_fingerprints(checkpoint.path, "other") == {}


def test_reading_fingerprints_does_not_create_a_file(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.Error):
        stored_fingerprints(tmp_path / "图 #1.sqlite3", PHOTOS)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_format_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    path.write_bytes(b"not a database, " * 100)
    with pytest.raises(StoreError, match=rf"{CHECKPOINT} cannot be used \(file is not a database\); remove it"):
        Checkpoint(path)
    assert path.read_bytes() == b"not a database, " * 100


def test_a_checkpoint_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        Checkpoint(tmp_path / "missing" / CHECKPOINT)
