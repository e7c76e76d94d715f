"""Indexes that begin empty, and additions that are watched or stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.ingestion import ImageOcr
from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.service.inputs import IndexInputs, file_suffixes


@pytest.fixture
def empty(tmp_path: Path, tiny_model: Path) -> ImageService:
    """A service over a new index."""
    return ImageService.open(tmp_path / "new", model=tiny_model, create=True)


def test_an_empty_index_finds_nothing_and_takes_images(empty: ImageService, photos: list[Path]) -> None:
    assert empty.search("车").results == []
    assert (empty.status().images, empty.filter_options()) == (0, [])
    assert empty.add(IndexInputs(photos[:3])).new_images == 3
    assert len(empty.search("车").results) == 3
    assert empty.has_images_of(photos[0])
    assert not empty.has_images_of(photos[5])


def test_an_index_that_was_begun_empty_is_opened_again_without_its_model(
    empty: ImageService, tmp_path: Path, tiny_model: Path, photos: list[Path]
) -> None:
    empty.close()
    with pytest.raises(ValueError, match="holds no images yet"):
        ImageService.open(tmp_path / "new")
    again = ImageService.open(tmp_path / "new", model=tiny_model, create=True)
    again.add(IndexInputs(photos[:1]))
    again.close()
    once_more = ImageService.open(tmp_path / "new", create=True)
    assert once_more.status().images == 1
    once_more.close()


def test_nothing_is_created_without_being_asked_for(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no index in"):
        ImageService.open(tmp_path / "new", model=tiny_model)
    assert not (tmp_path / "new").exists()


def test_reading_is_watched(empty: ImageService, photos: list[Path]) -> None:
    counts: list[int] = []
    empty.add(IndexInputs(photos), on_read=counts.append)
    assert counts == list(range(1, len(photos) + 1))


def test_a_watcher_stops_the_run_and_what_was_read_is_stored(empty: ImageService, photos: list[Path]) -> None:
    class StoppedError(Exception):
        pass

    def stop(count: int) -> None:
        if count == 4:
            raise StoppedError

    with pytest.raises(StoppedError):
        empty.add(IndexInputs(photos), on_read=stop)
    assert empty.status().images == 4
    report = empty.add(IndexInputs(photos))
    assert (report.kept, report.images) == (4, len(photos))


def test_suffixes_leave_out_files_that_name_others() -> None:
    suffixes = file_suffixes()
    assert {".jpg", ".jpeg", ".png", ".webp", ".pdf", ".pptx", ".mp4"} <= set(suffixes)
    assert {".jsonl", ".csv", ".svg", ".eps"}.isdisjoint(suffixes)


def test_scans_are_warned_of_unless_the_index_reads_them_by_ocr(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scan = photos[0].parents[1] / "pages" / "form.pdf"
    ocr = ImageOcr(engine=lambda image: [], cache_path=tmp_path / "ocr.sqlite3")
    ImageService(build_index(photos[0], tiny_embedding, ocr=ocr)).add(IndexInputs(scan))
    assert caplog.text == ""
    ImageService(build_index(photos[0], tiny_embedding)).add(IndexInputs(scan))
    assert "no text layer on 1 of 1 pages of" in caplog.text
