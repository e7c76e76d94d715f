"""Acknowledged changes survive kills, full disks and damaged files, and calls that fail change nothing."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from states import QUERIES, State, by_vector, node_of, state_in

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store import StoreError

Ordeal = Callable[..., dict[str, Any]]


def nodes(numbers: range, revision: int = 0) -> State:
    return dict.fromkeys(numbers, revision)


def add(store: FaissMultiModalVectorStore, state: State) -> None:
    store.add([node_of(*node) for node in state.items()])


def check(store: FaissMultiModalVectorStore, state: State) -> None:
    for query in QUERIES:
        assert query(store) == state


@pytest.mark.parametrize("kills", [6, pytest.param(60, marks=pytest.mark.integration)])
def test_killed_writers_lose_no_acknowledged_call_and_leave_none_half_done(
    tmp_path: Path, ordeal: Ordeal, kills: int
) -> None:
    done = ordeal("kills", tmp_path, kills)
    assert (done["kills"], done["warnings"]) == (kills, 0), done


@pytest.mark.parametrize("rounds", [3, pytest.param(25, marks=pytest.mark.integration)])
def test_forked_children_of_a_killed_writer_lose_no_acknowledged_call(
    tmp_path: Path, ordeal: Ordeal, rounds: int
) -> None:
    done = ordeal("kills_among_forks", tmp_path, rounds)
    assert (done["kills"], done["warnings"]) == (2 * rounds, 0), done
    assert done["forks"], done


# Full disks and read-only folders


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 4 MB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)]
    if not hasattr(os, "getuid") or os.getuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("cannot mount a small disk: only root can, where mounts are allowed")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def fill(store: FaissMultiModalVectorStore, kept: State) -> None:
    """Add nodes until that fails, and record in ``kept`` those that were acknowledged."""
    for first in itertools.count(step=50):
        more = nodes(range(first, first + 50))
        add(store, more)
        kept |= more


def test_a_full_disk_loses_no_node(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    store = FaissMultiModalVectorStore(small_disk)
    kept = State()
    with pytest.raises(StoreError, match=r"default\.sqlite3.*nothing was changed"):
        fill(store, kept)
    check(store, kept)

    ballast.unlink()
    store.delete_nodes(["n0"])
    add(store, nodes(range(1, 10), revision=1))
    kept |= nodes(range(1, 10), revision=1)
    del kept[0]
    check(store, kept)
    store.close()
    assert state_in(small_disk) == kept


def test_a_full_disk_leaves_no_part_of_a_faiss_file(small_disk: Path) -> None:
    store = FaissMultiModalVectorStore(small_disk)
    add(store, nodes(range(500)))
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free))

    with pytest.raises(StoreError, match=re.escape(str(small_disk))) as caught:
        store.reindex("hnsw")

    assert "\n" not in str(caught.value)
    assert not list(small_disk.glob("*.faiss"))
    ballast.unlink()
    store.close()
    assert state_in(small_disk) == nodes(range(500))


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may read; pytest's are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_read_only_store_can_be_searched_and_refuses_writes(public_folder: Path, ordeal: Ordeal) -> None:
    with FaissMultiModalVectorStore(public_folder / "closed") as closed:
        add(closed, nodes(range(10)))
    in_use = FaissMultiModalVectorStore(public_folder / "in use")
    add(in_use, nodes(range(10)))

    paths = [public_folder, *public_folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    found = ordeal("forbidden", public_folder)
    for path in paths:
        path.chmod(0o755 if path.is_dir() else 0o644)

    assert {name: count for name, (count, _) in found.items()} == {"closed": 10, "in use": 10, "missing": 0}
    for name, (_, error) in found.items():
        assert re.fullmatch(rf"StoreError: .*{re.escape(str(public_folder / name))}.*", error or ""), (name, error)
    in_use.close()
    assert state_in(public_folder / "closed") == state_in(public_folder / "in use") == nodes(range(10))


# Damaged files


def missing(file: Path) -> None:
    file.unlink()


def cut_in_half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def garbage(file: Path) -> None:
    file.write_bytes(Random(0).randbytes(file.stat().st_size))


def garbage_header(file: Path) -> None:
    file.write_bytes(Random(0).randbytes(100) + file.read_bytes()[100:])


def garbage_in_the_middle(file: Path) -> None:
    data, third = file.read_bytes(), file.stat().st_size // 3
    file.write_bytes(data[:third] + Random(0).randbytes(third) + data[2 * third :])


def one_byte_flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)


def of_another_store(file: Path) -> None:
    folder = file.parent / "another"
    with FaissMultiModalVectorStore(folder) as store:
        add(store, nodes(range(500), revision=1))
        store.reindex("hnsw")
    (other,) = folder.glob("*.faiss")
    assert other.stat().st_size == file.stat().st_size
    file.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [missing, cut_in_half, garbage, one_byte_flipped, of_another_store])
def test_a_damaged_faiss_file_changes_no_answer(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        add(store, nodes(range(500)))
        store.reindex("hnsw")
    (file,) = tmp_path.glob("*.faiss")
    damage(file)

    assert by_vector(FaissMultiModalVectorStore(tmp_path)) == nodes(range(500))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert file.name in caplog.text


@pytest.mark.parametrize("damage", [garbage, garbage_header, garbage_in_the_middle, cut_in_half])
def test_a_damaged_database_is_an_error_and_no_wrong_answer(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        add(store, nodes(range(500)))
    file = tmp_path / "default.sqlite3"
    damage(file)
    damaged = file.read_bytes()

    with pytest.raises(StoreError, match=re.escape(str(file))) as caught:
        check(FaissMultiModalVectorStore(tmp_path), nodes(range(500)))

    assert "\n" not in str(caught.value)
    assert file.read_bytes() == damaged
