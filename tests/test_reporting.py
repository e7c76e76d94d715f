"""Progress lines for slow work, quiet loggers, and reports of skipped items."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from waiting import PATIENCE

from llama_index_mm_zhipu import ChineseClipEmbedding, reporting
from llama_index_mm_zhipu.embedding.chinese_clip import shared_models
from llama_index_mm_zhipu.testing import tiny_checkpoint


def test_loading_a_model_slowly_prints_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_checkpoint(tmp_path / "model")
    load, report, reported = shared_models._load, reporting.report, threading.Event()

    def report_and_signal(message: str) -> None:
        report(message)
        reported.set()

    def load_slowly(*args: Any) -> Any:
        assert reported.wait(PATIENCE)
        return load(*args)

    monkeypatch.setattr(reporting, "SLOW_SECONDS", 0.01)
    monkeypatch.setattr(reporting, "report", report_and_signal)
    monkeypatch.setattr(shared_models, "_load", load_slowly)
    ChineseClipEmbedding(model, backend="torch", device="cpu")
    assert capsys.readouterr().err == f"Loading the model {model / 'model.pt'} …\n"


def test_quick_work_prints_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(reporting, "SLOW_SECONDS", PATIENCE)
    before = threading.active_count()
    with reporting.reported_when_slow("Working …"):
        assert threading.active_count() == before + 1
    (timer,) = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)] or [None]
    if timer is not None:
        timer.join(PATIENCE)
    assert threading.active_count() == before
    assert capsys.readouterr().err == ""


def test_other_packages_log_only_errors_during_the_block(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("other.package")
    with reporting.errors_only("other"):
        logger.warning("trying again")
        logger.error("failed")
    logger.warning("heard again")
    assert caplog.messages == ["failed", "heard again"]


def test_overlapping_blocks_restore_the_level() -> None:
    logger = logging.getLogger("other.package")
    logger.setLevel(logging.INFO)
    first, second = reporting.errors_only("other.package"), reporting.errors_only("other.package")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert logger.level == logging.ERROR
    second.__exit__(None, None, None)
    assert logger.level == logging.INFO
    logger.setLevel(logging.NOTSET)


def test_skipped_items_are_counted_and_summarised() -> None:
    skipped = reporting.Skipped(max_listed=2)
    for number in range(3):
        skipped.add(f"{number}.jpg", "is damaged")
    assert dict(skipped) == {"0.jpg": "is damaged", "1.jpg": "is damaged"}
    assert skipped.count == 3
    assert skipped.summary(10) == "skipped 3 of 10 images: 0.jpg: is damaged; 1.jpg: is damaged; and 1 more"
    assert reporting.Skipped().summary(10, "files") == "skipped 0 of 10 files: "


def test_a_name_cannot_begin_a_line_of_its_own() -> None:
    skipped = reporting.Skipped()
    skipped.add("a.jpg\nERROR forged", "is damaged")
    assert skipped.summary(1) == "skipped 1 of 1 images: a.jpg\\nERROR forged: is damaged"
    assert list(skipped) == ["a.jpg\nERROR forged"]
