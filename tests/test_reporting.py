"""Slow steps are reported, and messages of other packages are silenced below errors."""

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


def test_a_model_that_loads_slowly_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_checkpoint(tmp_path / "model")
    load, report, reported = shared_models._load, reporting.report, threading.Event()

    def report_and_tell(message: str) -> None:
        report(message)
        reported.set()

    def load_slowly(*args: Any) -> Any:
        assert reported.wait(PATIENCE)
        return load(*args)

    monkeypatch.setattr(reporting, "SLOW_SECONDS", 0.01)
    monkeypatch.setattr(reporting, "report", report_and_tell)
    monkeypatch.setattr(shared_models, "_load", load_slowly)
    ChineseClipEmbedding(model, backend="torch", device="cpu")
    assert capsys.readouterr().err == f"Loading the model {model / 'model.pt'} …\n"


def test_a_quick_step_is_not_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(reporting, "SLOW_SECONDS", PATIENCE)
    before = threading.active_count()
    with reporting.reported_when_slow("Working …"):
        assert threading.active_count() == before + 1
    (timer,) = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)] or [None]
    if timer is not None:
        timer.join(PATIENCE)
    assert threading.active_count() == before
    assert capsys.readouterr().err == ""


def test_other_packages_log_only_errors_inside_the_block(caplog: pytest.LogCaptureFixture) -> None:
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
