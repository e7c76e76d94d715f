"""Shared folders are created private, and files in use are told from stale ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_index_mm_zhipu.shared_folders import (
    TEMPORARY,
    make_folder,
    old_paths,
    replaced_file,
    stale_files,
    write_lock,
)


def test_only_paths_that_were_not_modified_for_an_hour_are_old(tmp_path: Path) -> None:
    old, recent, other = (tmp_path / name for name in ("a.old", "a.recent", "b.old"))
    for path in (old, recent, other):
        path.mkdir()
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))
    assert list(old_paths(tmp_path, "a.*")) == [old]
    assert not list(old_paths(tmp_path / "nowhere", "a.*"))


def test_paths_that_another_process_removes_meanwhile_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, old = tmp_path / "a.gone", tmp_path / "a.old"
    old.mkdir()
    os.utime(old, (0, 0))

    def listed_before(folder: Path, pattern: str) -> Iterator[Path]:
        return iter([gone, old])

    monkeypatch.setattr(Path, "glob", listed_before)
    assert list(old_paths(tmp_path, "a.*")) == [old]


def test_a_file_is_stale_unless_it_is_locked_for_writing(tmp_path: Path) -> None:
    (tmp_path / "a.left").write_bytes(b"of a killed process")
    with write_lock(tmp_path / "a.new"), stale_files(tmp_path, "a.*") as stale:
        assert stale == [tmp_path / "a.left"]
    with stale_files(tmp_path, "a.*") as stale:
        assert sorted(stale) == [tmp_path / "a.left", tmp_path / "a.new"]
    with stale_files(tmp_path / "nowhere", "a.*") as stale:
        assert not stale


def test_a_file_that_is_removed_as_stale_before_it_is_locked_is_created_again(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    file = tmp_path / "a.new"
    file.touch()
    entered, written = threading.Event(), threading.Event()

    def write() -> None:
        with write_lock(file):
            entered.set()
            file.write_bytes(b"whole")
        written.set()

    writer = threading.Thread(target=write)
    with stale_files(tmp_path, "a.*") as stale:
        assert stale == [file]
        writer.start()
        # The writer waits for the lock as long as the file may be removed.
        assert not entered.wait(0.1)
        file.unlink()
    writer.join()
    assert written.is_set()
    assert file.read_bytes() == b"whole"


def test_created_folders_are_private_and_existing_ones_keep_their_permissions(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    make_folder(tmp_path / "there" / "one" / "two")
    make_folder(tmp_path / "there" / "shared", mode=0o770)
    make_folder(tmp_path / "there")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"there": 0o755, "one": 0o700, "two": 0o700, "shared": 0o770}
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "file")


def test_a_replaced_file_is_the_new_one_or_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with replaced_file(file) as opened:
        opened.write(b"old")
        assert not file.exists()

    def interrupted() -> None:
        with replaced_file(file) as opened:
            opened.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_bytes() == b"old"
    with replaced_file(file) as opened:
        opened.write(b"new")
        (left,) = tmp_path.glob(TEMPORARY)
        assert left.read_bytes() in (b"", b"new")
    assert file.read_bytes() == b"new"
    assert list(tmp_path.glob(TEMPORARY)) == []
