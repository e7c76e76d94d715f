"""``mmzhipu export`` and ``mmzhipu import``: an index goes into Parquet files and into another index."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import Command

pytestmark = pytest.mark.integration


def test_an_export_is_imported_elsewhere_and_searched_there(mmzhipu: Command, store: Path) -> None:
    run = mmzhipu("export", "my export", "--store", store)
    assert (run.status, run.err) == (0, "")
    assert run.out.startswith("10 nodes in my export (")
    assert ", 0 of them from an earlier run, " in run.out
    assert ", 10 of them from an earlier run, " in mmzhipu("export", "my export", "--store", store).out
    run = mmzhipu("import", "my export", "--store", "other store")
    assert (run.status, run.err) == (0, "")
    assert run.out.startswith("10 nodes of the export in other store, 0 of them there before, ")
    assert ", 10 of them there before, " in mmzhipu("import", "my export", "--store", "other store").out
    found = mmzhipu("search", "红苹果", "--store", "other store")
    assert found == mmzhipu("search", "红苹果", "--store", store)


def test_the_reports_in_chinese_and_as_json(mmzhipu: Command, store: Path) -> None:
    run = mmzhipu("export", "out", "--store", store, "--lang", "zh")
    assert run.out.startswith("out 中共有 10 个节点（")
    run = mmzhipu("export", "out", "--store", store, "--json")
    (report,) = run.rows
    assert {name: report[name] for name in ("folder", "store", "nodes", "kept", "skipped")} == {
        "folder": "out",
        "store": str(store),
        "nodes": 10,
        "kept": 10,
        "skipped": {},
    }
    run = mmzhipu("import", "out", "--lang", "zh")
    assert run.out.startswith("导出的 10 个节点都已在 mmzhipu_store 中，其中 0 个原来就有，")
    assert mmzhipu("import", "out", "--json").rows[0]["kept"] == 10


def test_half_precision_makes_smaller_files_that_find_the_same(mmzhipu: Command, store: Path) -> None:
    whole = mmzhipu("export", "whole", "--store", store, "--json").rows[0]["bytes"]
    assert mmzhipu("export", "half", "--float16", "--store", store, "--json").rows[0]["bytes"] < whole
    assert mmzhipu("import", "half").status == 0
    assert mmzhipu("search", "红苹果", "-k", 1, "--json").rows[0]["caption"] == "红苹果"


def test_what_is_no_export_is_refused_and_creates_no_index(mmzhipu: Command, store: Path, surroundings: Path) -> None:
    (surroundings / "empty").mkdir()
    (surroundings / "file").write_text("x")
    for name in ("empty", "file"):
        assert mmzhipu("import", name) == (2, "", f"error: no export of an index in {name}\n")
    missing = f"error: no such file or folder: {surroundings / 'nothing'}; check the path\n"
    assert mmzhipu("import", "nothing") == (2, "", missing)
    assert {path.name for path in surroundings.iterdir()} == {"empty", "file"}
    run = mmzhipu("export", "file", "--store", store)
    assert (run.status, run.out) == (2, "")
    assert (surroundings / "file").read_text() == "x"


def test_a_damaged_export_is_named(mmzhipu: Command, store: Path, surroundings: Path) -> None:
    mmzhipu("export", "out", "--store", store)
    (shard,) = (surroundings / "out").rglob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:-200])
    run = mmzhipu("import", "out", "--lang", "zh")
    assert (run.status, run.out) == (2, "")
    assert run.err.startswith("错误：索引无法读写（")
    assert shard.name in run.err
