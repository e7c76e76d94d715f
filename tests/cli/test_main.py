"""Entry point: help, exit statuses, errors that nobody expected, interrupts, locked, full and read-only stores."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from runs import Command

from llama_index_mm_zhipu.cli.console import ExitStatus
from llama_index_mm_zhipu.cli.main import main
from llama_index_mm_zhipu.store_file import read_store_file
from llama_index_mm_zhipu.vector_store import database


def test_without_a_command_the_help_is_shown(mmzhipu: Command) -> None:
    run = mmzhipu()
    assert (run.status, run.err) == (2, "")
    assert run.out == mmzhipu("--help").out
    assert mmzhipu("--help").status == 0


@pytest.mark.parametrize(("locale", "begins"), [("zh_CN", "用法："), ("en_GB.UTF-8", "usage: "), ("C", "usage: ")])
def test_the_help_follows_the_locale(
    mmzhipu: Command, monkeypatch: pytest.MonkeyPatch, locale: str, begins: str
) -> None:
    monkeypatch.setenv("LANG", locale)
    assert mmzhipu("search", "--help").out.startswith(begins)
    assert mmzhipu("search", "--help", "--lang", "en").out.startswith("usage: ")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """A function that makes the command ``info`` raise an error."""

    def fail(error: BaseException) -> None:
        def run(*arguments: object) -> int:
            raise error

        module = types.ModuleType("info_command")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "llama_index_mm_zhipu.cli.commands.info_command", module)

    return fail


def test_faults_of_the_program_are_named_as_such(mmzhipu: Command, failing: Callable[[BaseException], None]) -> None:
    failing(AttributeError("no such\nthing"))
    run = mmzhipu("info")
    assert run == (
        2,
        "",
        "error: unexpected AttributeError: no such thing; the same command with --verbose shows where, "
        "please report it\n",
    )
    assert mmzhipu("info", "--lang", "zh").err.startswith("错误：出现意外的 AttributeError：no such thing；")


def test_verbose_shows_where_an_error_was_raised(mmzhipu: Command, failing: Callable[[BaseException], None]) -> None:
    failing(ValueError("no\nsuch thing"))
    assert mmzhipu("info") == (2, "", "error: no such thing\n")
    run = mmzhipu("info", "--verbose")
    assert run.status == 2
    assert run.err.startswith("Traceback (most recent call last):\n")
    assert run.err.endswith("\nerror: no such thing\n")


def test_an_error_without_a_message_is_named_by_its_class(
    mmzhipu: Command, failing: Callable[[BaseException], None]
) -> None:
    failing(ValueError())
    assert mmzhipu("info") == (2, "", "error: ValueError\n")


def test_ctrl_c_ends_with_status_130(
    mmzhipu: Command, failing: Callable[[BaseException], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(KeyboardInterrupt())
    assert mmzhipu("info") == (130, "", "\ninterrupted\n")
    assert mmzhipu("info", "--lang", "zh") == (130, "", "\n已中断\n")
    for command in ("index .", "export x", "import ."):
        name = f"llama_index_mm_zhipu.cli.commands.{command.split()[0]}_command"
        monkeypatch.setitem(sys.modules, name, sys.modules["llama_index_mm_zhipu.cli.commands.info_command"])
        run = mmzhipu(*command.split())
        assert run == (130, "", "\ninterrupted; what is done is stored, and the same command continues\n")


def test_statuses_are_those_that_are_documented() -> None:
    assert [status.value for status in ExitStatus] == [0, 1, 2, 130, 141]


def test_logging_is_as_before_after_a_run(mmzhipu: Command, store: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("llama_index_mm_zhipu")
    before = (logger.level, list(logger.handlers), logger.propagate)
    mmzhipu("info", "--store", store)
    assert (logger.level, logger.handlers, logger.propagate) == before
    logger.warning("seen")
    assert "seen" in caplog.text


def test_warnings_of_the_library_are_lines_on_stderr(
    mmzhipu: Command, photos: list[Path], demo_model: Path, surroundings: Path
) -> None:
    (surroundings / "photos").mkdir()
    shutil.copy(photos[0], "photos")
    (surroundings / "outside.jpg").write_bytes(photos[1].read_bytes())
    (surroundings / "photos" / "link.jpg").symlink_to(surroundings / "outside.jpg")
    run = mmzhipu("index", "photos", "--model", demo_model)
    assert run.err.startswith("warning: left out links from ")
    assert mmzhipu("index", "photos", "--lang", "zh").err.startswith("警告：跳过了 ")


def test_json_is_escaped_where_the_output_has_another_encoding(
    mmzhipu: Command, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = mmzhipu("search", "红苹果", "--store", store, "--json").rows
    for encoding in ("ascii", "cp1252", "gb18030"):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        assert main(["search", "红苹果", "--store", str(store), "--json"]) == 0
        text = written.getvalue().decode(encoding)
        assert "?" not in text
        assert [json.loads(line) for line in text.splitlines()] == expected


def test_text_loses_only_the_characters_that_the_output_lacks(
    mmzhipu: Command, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert main(["search", "红苹果", "-k", "1", "--store", str(store)]) == 0
    assert written.getvalue().decode().splitlines()[0].endswith("  ???")


# Stores that another process holds, on a full disk, and that may only be read


@pytest.fixture
def own_store(store: Path, surroundings: Path) -> Path:
    """A copy of the index, in the present folder where commands look for it."""
    shutil.copytree(store, surroundings / "mmzhipu_store")
    return surroundings / "mmzhipu_store"


def test_a_store_that_another_process_writes_to_is_named_and_searched(
    mmzhipu: Command, own_store: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAIT_FOR_WRITER_SECONDS", 0.1)
    with closing(sqlite3.connect(own_store / "image.sqlite3", isolation_level=None)) as other:
        other.execute("begin immediate")
        run = mmzhipu("index", photos[0])
        assert (run.status, run.out) == (2, "")
        assert "image.sqlite3: database is locked" in run.err
        assert len(run.err.splitlines()) == 1
        assert mmzhipu("index", photos[0], "--lang", "zh").err.startswith("错误：索引无法读写（")
        assert mmzhipu("info").status == 0
        other.execute("rollback")
    assert mmzhipu("index", photos[0]).out.startswith("11 images in mmzhipu_store: 1 new")


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    """A function that mounts something, until the test ends; without it the test is skipped."""
    mounted: list[Path] = []

    def run(folder: Path, *options: str) -> None:
        command = ["mount", *options, str(folder)]
        if not hasattr(os, "geteuid") or os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
            pytest.skip("only root can mount, where mounts are allowed")
        mounted.append(folder)

    yield run
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_named_and_nothing_that_was_stored_is_lost(
    mmzhipu: Command, own_store: Path, photos: list[Path], mount: Callable[..., None], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount(disk, "-t", "tmpfs", "-o", "size=3m", "tmpfs")
    shutil.copytree(own_store, disk / "store")
    for free, said in ((0, "the disk is full; free some space"), (70_000, "database or disk is full; nothing was")):
        (disk / "ballast").unlink(missing_ok=True)
        (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - free))
        run = mmzhipu("index", *photos, "--store", disk / "store")
        assert (run.status, run.out, len(run.err.splitlines())) == (2, "", 1)
        assert f"{disk / 'store' / 'image.sqlite3'}: {said}" in run.err
        run = mmzhipu("index", *photos, "--store", disk / "store", "--lang", "zh")
        assert run.err.startswith("错误：索引")
    assert read_store_file(disk / "store" / "image.sqlite3").nodes == 10
    (disk / "ballast").unlink()
    assert mmzhipu("search", "红苹果", "-k", 1, "--store", disk / "store").out.splitlines()[0].endswith("红苹果")
    assert mmzhipu("index", *photos, "--store", disk / "store").out.startswith(f"20 images in {disk / 'store'}: 10 new")


@pytest.fixture
def read_only(own_store: Path, mount: Callable[..., None]) -> Iterator[Callable[[], None]]:
    """A function that keeps the tests from writing to the store; root may write to all that is not mounted so."""
    modes = {path: path.stat().st_mode for path in (*own_store.iterdir(), own_store)}
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0

    def protect() -> None:
        if is_root:
            mount(own_store, "--bind", str(own_store))
            subprocess.run(["mount", "-o", "remount,bind,ro", str(own_store)], check=True)
        else:
            for path, mode in modes.items():
                path.chmod(mode & ~0o222)

    yield protect
    for path, mode in modes.items() if not is_root else ():
        path.chmod(mode)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of folders are others there")
def test_a_store_that_may_only_be_read_is_searched_and_described(
    mmzhipu: Command, read_only: Callable[[], None], photos: list[Path]
) -> None:
    found, described = mmzhipu("search", "红苹果"), mmzhipu("info")
    read_only()
    assert mmzhipu("search", "红苹果") == found
    assert mmzhipu("info") == described
    assert mmzhipu("ask", "?", "--mock").status == 0
    assert mmzhipu("export", "out").status == 0
    run = mmzhipu("index", photos[0])
    assert (run.status, run.out) == (2, "")
    assert "may only be read; nothing was changed" in run.err
    assert mmzhipu("index", photos[0], "--lang", "zh").err.startswith("错误：索引无法读写（")
