"""``mmzhipu doctor``: how the command shows the checks, and which index and model it has checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import Command

CHECKS = 10
"""How many checks there are at least, whatever is installed."""


def test_each_check_is_a_line_with_advice_below(mmzhipu: Command, store: Path) -> None:
    run = mmzhipu("doctor", "--offline", "--store", store)
    lines = run.out.splitlines()
    checks = [line for line in lines if not line.startswith("  → ")]
    assert len(checks) >= CHECKS
    assert {line[:2] for line in checks} <= {"✓ ", "! ", "✗ "}
    assert "10 images" in run.out
    failed, warnings = (sum(line[0] == mark for line in checks) for mark in "✗!")
    assert run.status == (1 if failed else 0)
    assert run.err == f"\n{failed} failed, {warnings} warnings.\n"
    assert "→ " in run.out


def test_json_and_chinese(mmzhipu: Command, store: Path) -> None:
    run = mmzhipu("doctor", "--offline", "--store", store, "--json")
    assert len(run.rows) >= CHECKS
    assert all(row.keys() == {"name", "title", "status", "detail", "advice"} for row in run.rows)
    chinese = mmzhipu("doctor", "--offline", "--store", store, "--json", "--lang", "zh")
    assert [row["name"] for row in chinese.rows] == [row["name"] for row in run.rows]
    assert chinese.err.endswith(" 项警告。\n") or chinese.err == "\n全部检查通过。\n"


def test_the_usual_index_is_checked_if_it_is_there_with_its_own_model(
    mmzhipu: Command, store: Path, demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {row["name"]: row for row in mmzhipu("doctor", "--offline", "--json").rows}
    assert "store" not in rows
    monkeypatch.setenv("MMZHIPU_STORE", str(store))
    rows = {row["name"]: row for row in mmzhipu("doctor", "--offline", "--json").rows}
    assert "10 images" in rows["store"]["detail"]
    assert rows["store"]["status"] == "ok"
    assert str(demo_model) in rows["weights"]["detail"]


def test_a_damaged_index_fails(mmzhipu: Command, surroundings: Path) -> None:
    (surroundings / "store").mkdir()
    for name in ("image.sqlite3", "default.sqlite3"):
        (surroundings / "store" / name).write_bytes(b"no database" * 100)
    run = mmzhipu("doctor", "--offline", "--store", "store")
    assert run.status == 1
    assert "✗ Index" in run.out
