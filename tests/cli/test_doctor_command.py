"""``mmzhipu doctor``: how the command shows the checks, and which index and model it has checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import Command

# A check imports torch in a process of its own.
pytestmark = pytest.mark.integration


def test_each_check_is_a_line_with_its_mark(
    mmzhipu: Command, store: Path, surroundings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (surroundings / "damaged").mkdir()
    for name in ("image.sqlite3", "default.sqlite3"):
        (surroundings / "damaged" / name).write_bytes(b"no database" * 100)
    monkeypatch.setenv("MMZHIPU_STORE", str(store))
    run = mmzhipu("doctor", "--offline", "--store", "damaged", "--model", "no model")
    checks = [line for line in run.out.splitlines() if not line.startswith("  → ")]
    advice = len(run.out.splitlines()) - len(checks)
    failed, warnings = (sum(line.startswith(mark) for line in checks) for mark in "✗!")
    assert {line[:2] for line in checks} == {"✓ ", "! ", "✗ "}
    assert run.status == 1
    assert run.err.startswith(f"\n{failed} failed, {warnings} warning")
    assert advice == failed + warnings
    assert any(line.startswith("✗ Index") for line in checks)


def test_the_usual_index_is_checked_with_its_own_model(
    mmzhipu: Command, store: Path, demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMZHIPU_STORE", str(store))
    run = mmzhipu("doctor", "--offline", "--json", "--lang", "zh")
    rows = {row["name"]: row for row in run.rows}
    assert all(row.keys() == {"name", "title", "status", "detail", "advice"} for row in run.rows)
    assert rows["store"]["status"] == rows["weights"]["status"] == "ok"
    assert "10" in rows["store"]["detail"]
    assert str(demo_model) in rows["weights"]["detail"]
    assert run.err.endswith("项警告。\n") or run.err == "\n全部检查通过。\n"
