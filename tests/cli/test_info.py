"""``mmzhipu info``: what an index holds, read from its files alone."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from runs import Command


def test_every_line_is_named_in_both_languages(mmzhipu: Command, store: Path, demo_model: Path, emoji: Path) -> None:
    run = mmzhipu("info", "--store", store)
    lines = dict(line.split(maxsplit=1) for line in run.out.splitlines())
    assert (run.status, run.err) == (0, "")
    assert lines.pop("Size").split()[1] in ("kB", "MB")
    assert lines == {
        "Index": str(store),
        "Images": "10",
        "Texts": "0",
        "Model": f"{demo_model}  (CLIP-96px-256d sha256:8068b203f0ae8361)",
        "Vectors": lines["Vectors"],
        "Captions": "found by full text, not in the vectors",
        "Metadata": "价格, 颜色",
        "Source": f"10  {emoji}",
    }
    assert lines["Vectors"].startswith("256 dimensions, ")
    chinese = mmzhipu("info", "--store", store, "--lang", "zh").out.splitlines()
    names = [line.split()[0] for line in chinese]
    assert names == ["索引", "图片", "文本", "模型", "向量", "描述", "大小", "元数据", "来源"]
    # Values are aligned by columns: Chinese characters take two.
    assert {len(line.encode("gb18030")[:8].decode("gb18030").rstrip().encode("gb18030")) for line in chinese} <= {4, 6}


def test_json_holds_the_same(mmzhipu: Command, store: Path, demo_model: Path, emoji: Path) -> None:
    run = mmzhipu("info", "--store", store, "--json")
    (status,) = run.rows
    assert run.err == ""
    assert {name: status[name] for name in ("folder", "images", "texts", "model", "dimension", "metadata_keys")} == {
        "folder": str(store),
        "images": 10,
        "texts": 0,
        "model": str(demo_model),
        "dimension": 256,
        "metadata_keys": ["价格", "颜色"],
    }
    assert status["sources"] == [{"path": str(emoji), "images": 10, "exists": True}]
    assert mmzhipu("info", "--store", store, "--json", "--lang", "zh").rows == [status]


def test_a_source_that_is_gone_is_marked(
    mmzhipu: Command, photos: list[Path], demo_model: Path, surroundings: Path
) -> None:
    (surroundings / "my photos").mkdir()
    shutil.copy(photos[0], "my photos")
    mmzhipu("index", "my photos", "--model", demo_model)
    shutil.rmtree("my photos")
    assert mmzhipu("info").out.splitlines()[-1].endswith("my photos  (does not exist)")
    assert mmzhipu("info", "--lang", "zh").out.splitlines()[-1].endswith("my photos  （已不存在）")
    assert mmzhipu("info", "--json").rows[0]["sources"][0]["exists"] is False
    assert mmzhipu("search", "x", "-k", 1).status == 0


def test_a_source_that_cannot_be_looked_at_is_marked(mmzhipu: Command, store: Path, surroundings: Path) -> None:
    shutil.copytree(store, surroundings / "mmzhipu_store")
    with closing(sqlite3.connect("mmzhipu_store/image.sqlite3")) as connection:
        field = "select id from metadata_fields where key = 'source_root'"
        connection.execute(f"update metadata_values set value = ? where field in ({field})", ["/\x1b" + 300 * "x"])
        connection.commit()
    assert mmzhipu("info").out.splitlines()[-1].endswith(f"/\\x1b{'x' * 145}…{'x' * 150}  (does not exist)")


@pytest.mark.parametrize("content", [b"", b"no database" * 100])
def test_a_damaged_index_is_named_with_the_command_that_examines_it(
    mmzhipu: Command, surroundings: Path, content: bytes
) -> None:
    (surroundings / "store").mkdir()
    (surroundings / "store" / "image.sqlite3").write_bytes(content)
    for command in ("info", "search x", "ask x --mock", "chat --mock"):
        run = mmzhipu(*command.split(), "--store", "store")
        assert (run.status, run.out) == (2, "")
        line = run.err.splitlines()[-1]
        assert line.startswith("error: store/image.sqlite3 cannot be read as a store: ")
        assert line.endswith("; mmzhipu doctor --store DIR says more about it")
        chinese = mmzhipu(*command.split(), "--store", "store", "--lang", "zh").err.splitlines()[-1]
        assert chinese.startswith("错误：索引文件无法读取，详情见 mmzhipu doctor --store 文件夹（")
    assert (surroundings / "store" / "image.sqlite3").read_bytes() == content


def test_an_index_that_is_damaged_inside_is_named_by_every_command(
    mmzhipu: Command, store: Path, emoji: Path, surroundings: Path
) -> None:
    shutil.copytree(store, "store")
    file = surroundings / "store" / "image.sqlite3"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    content = bytearray(file.read_bytes())
    content[4096 * 2 : 4096 * 40] = b"\xff" * 4096 * 38
    file.write_bytes(content)
    for faiss_file in file.parent.glob("*.faiss"):
        faiss_file.unlink()
    for command in (["info"], ["search", "x"], ["export", "out"], ["index", emoji]):
        run = mmzhipu(*command, "--store", "store")
        assert (run.status, run.out) == (2, ""), command
        assert str(file.relative_to(surroundings)) in run.err
        assert "Traceback" not in run.err


def test_info_loads_no_heavy_library(store: Path) -> None:
    program = (
        "import sys; from llama_index_mm_zhipu.cli.main import main\n"
        f"assert main(['info', '--store', {str(store)!r}]) == 0\n"
        "heavy = {'torch', 'llama_index', 'numpy', 'PIL', 'tqdm', 'httpx', 'pydantic', 'faiss'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")
