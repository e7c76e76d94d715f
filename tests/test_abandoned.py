"""What killed processes left is told from what others work at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_index_mm_zhipu.abandoned import abandoned


def test_only_what_nobody_changed_for_an_hour_is_abandoned(tmp_path: Path) -> None:
    old, young, other = (tmp_path / name for name in ("a.old", "a.young", "b.old"))
    for path in (old, young, other):
        path.mkdir()
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))
    assert list(abandoned(tmp_path, "a.*")) == [old]
    assert not list(abandoned(tmp_path / "nowhere", "a.*"))


def test_what_another_process_removes_meanwhile_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, old = tmp_path / "a.gone", tmp_path / "a.old"
    old.mkdir()
    os.utime(old, (0, 0))

    def listed_before(folder: Path, pattern: str) -> Iterator[Path]:
        return iter([gone, old])

    monkeypatch.setattr(Path, "glob", listed_before)
    assert list(abandoned(tmp_path, "a.*")) == [old]
