"""The SQLite file of a store: forks, removed and read-only folders, and several processes lose no written node."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pkgutil
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import VectorStoreQuery
from waiting import PATIENCE

from llama_index_mm_zhipu import FaissMultiModalVectorStore, vector_store
from llama_index_mm_zhipu.vector_store import StoreError

MakeNode = Callable[..., TextNode]
Ordeal = Callable[..., dict[str, Any]]

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def in_a_fork(function: Callable[[], None]) -> str:
    """Return the error that a function raises in a forked child; empty if there is none."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        try:
            function()
        except BaseException as error:
            os.write(sender, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, "rb") as answer:
        error = answer.read().decode()
    os.waitpid(child, 0)
    return error


def ask(*vector: float) -> VectorStoreQuery:
    return VectorStoreQuery(query_embedding=list(vector), similarity_top_k=5)


def add_one(folder: Path, name: str, node_id: str, make_node: MakeNode) -> None:
    with FaissMultiModalVectorStore(folder, namespace=name) as store:
        store.add([make_node(node_id)])


@needs_fork
def test_a_child_cannot_open_a_file_that_was_open_at_the_fork(tmp_path: Path, make_node: MakeNode) -> None:
    store = FaissMultiModalVectorStore(tmp_path)
    store.add([make_node("a")])
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "link"):
        error = in_a_fork(lambda folder=folder: add_one(folder, "default", "b", make_node))  # type: ignore[misc]
        assert error.startswith(
            f"StoreError: the vector store {folder / 'default.sqlite3'} was open when this process was"
        )
        assert "'spawn' or 'forkserver'" in error
    # The child's child cannot open it either. The inherited store cannot be used, and closing it closes nothing.
    error = in_a_fork(lambda: pytest.fail(in_a_fork(lambda: add_one(tmp_path, "default", "b", make_node))))
    assert "was open when this process was forked" in error
    assert "was opened before this process was forked" in in_a_fork(
        lambda: pytest.fail(str(store.add([make_node("b")])))
    )
    assert in_a_fork(store.close) == ""
    store.add([make_node("c")])
    store.close()
    with FaissMultiModalVectorStore(tmp_path) as again:
        assert sorted(node.node_id for node in again.get_nodes()) == ["a", "c"]


@needs_fork
def test_a_child_can_open_other_files_and_files_that_were_closed_before_the_fork(
    tmp_path: Path, make_node: MakeNode
) -> None:
    closed, forgotten = (
        FaissMultiModalVectorStore(tmp_path),
        FaissMultiModalVectorStore(tmp_path, namespace="forgotten"),
    )
    closed.close()
    del forgotten
    in_use = FaissMultiModalVectorStore(tmp_path, namespace="in_use")
    for name in ("default", "forgotten", "other"):
        assert in_a_fork(lambda name=name: add_one(tmp_path, name, "b", make_node)) == ""  # type: ignore[misc]
        with FaissMultiModalVectorStore(tmp_path, namespace=name) as store:
            assert store.count() == 1
    in_use.close()


def _add_in_another_process(folder: Path) -> None:
    with FaissMultiModalVectorStore(folder) as store:
        store.add([TextNode(id_="spawned", text="b", embedding=[1.0, 0.0])])


def test_a_spawned_process_can_open_a_file_that_is_in_use(tmp_path: Path, make_node: MakeNode) -> None:
    store = FaissMultiModalVectorStore(tmp_path)
    store.add([make_node("a")])
    process = multiprocessing.get_context("spawn").Process(target=_add_in_another_process, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    store.close()
    with FaissMultiModalVectorStore(tmp_path) as again:
        assert sorted(node.node_id for node in again.get_nodes()) == ["a", "spawned"]


@pytest.mark.parametrize("replace", [False, True])
def test_writing_to_a_removed_or_replaced_folder_is_an_error(
    tmp_path: Path, make_node: MakeNode, replace: bool
) -> None:
    folder = tmp_path / "store"
    store = FaissMultiModalVectorStore(folder)
    store.add([make_node("a")])
    shutil.rmtree(folder)
    if replace:
        add_one(folder, "default", "other", make_node)
    writing: list[Callable[[], object]] = [
        lambda: store.add([make_node("b")]),
        lambda: store.delete("a"),
        lambda: store.delete_nodes(["a"]),
        store.clear,
        lambda: store.set_setting("x", 1),
    ]
    for write in writing:
        with pytest.raises(StoreError, match="was removed or replaced while it was open; nothing was changed"):
            write()
    store.close()
    with FaissMultiModalVectorStore(folder) as again:
        assert [node.node_id for node in again.get_nodes()] == (["other"] if replace else [])


def test_writing_to_a_moved_folder_is_an_error(tmp_path: Path, make_node: MakeNode) -> None:
    store = FaissMultiModalVectorStore(tmp_path / "store")
    store.add([make_node("a")])
    (tmp_path / "store").rename(tmp_path / "moved")
    with pytest.raises(StoreError, match="was removed or replaced"):
        store.add([make_node("b")])
    assert store.query(ask(1, 0)).ids == ["a"]
    store.close()
    with FaissMultiModalVectorStore(tmp_path / "moved") as again:
        assert again.count() == 1


def test_faiss_files_of_crashed_processes_are_removed(tmp_path: Path, make_node: MakeNode) -> None:
    store = FaissMultiModalVectorStore(tmp_path)
    for number in range(20):
        # A process that is killed between writing and recording leaves such a file.
        (tmp_path / f"default.{number:08x}.faiss").write_bytes(b"half")
    (tmp_path / "image.00000000.faiss").write_bytes(b"of another store")
    store.add([make_node("a")])
    store.reindex("hnsw")
    assert len(list(tmp_path.glob("default.*.faiss"))) == 1
    assert (tmp_path / "image.00000000.faiss").exists()
    store.close()
    with FaissMultiModalVectorStore(tmp_path) as again:
        assert again.query(ask(1, 0)).ids == ["a"]


@pytest.mark.parametrize(("mode", "expected"), [(None, 0o700), (0o755, 0o755)])
def test_the_folder_of_a_store_is_private_by_default(
    tmp_path: Path, make_node: MakeNode, mode: int | None, expected: int
) -> None:
    folder = tmp_path / "one" / "two"
    with FaissMultiModalVectorStore(folder, **({} if mode is None else {"mode": mode})) as store:
        store.add([make_node("a")])
        store.persist(str(tmp_path / "copy" / "default__vector_store.json"))
    for made in (folder, folder.parent, tmp_path / "copy"):
        assert made.stat().st_mode & 0o777 == expected


def test_a_read_only_file_with_an_unread_log_is_an_error(
    tmp_path: Path, make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FaissMultiModalVectorStore(tmp_path / "store")
    store.add([make_node("a")])
    # The copy is as after a crash: the node is in the log only.
    shutil.copytree(tmp_path / "store", tmp_path / "crashed")
    (tmp_path / "crashed" / "default.sqlite3-shm").unlink()
    store.close()
    monkeypatch.setattr("llama_index_mm_zhipu.vector_store.database.may_be_written", lambda path: False)
    with pytest.raises(StoreError, match="a write-ahead log lies beside it"):
        FaissMultiModalVectorStore(tmp_path / "crashed")
    with FaissMultiModalVectorStore(tmp_path / "store") as read_only:
        assert read_only.query(ask(1, 0)).ids == ["a"]


def test_a_read_only_file_with_an_earlier_schema_is_an_error(
    tmp_path: Path, make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_one(tmp_path, "default", "a", make_node)
    with closing(sqlite3.connect(tmp_path / "default.sqlite3")) as database:
        database.execute("pragma user_version = 2")
    monkeypatch.setattr("llama_index_mm_zhipu.vector_store.database.may_be_written", lambda path: False)
    with pytest.raises(StoreError, match="open it once where it may be written to"):
        FaissMultiModalVectorStore(tmp_path)


def test_a_read_only_file_that_changes_must_be_opened_again(
    tmp_path: Path, make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_one(tmp_path, "default", "a", make_node)
    with monkeypatch.context() as patched:
        patched.setattr("llama_index_mm_zhipu.vector_store.database.may_be_written", lambda path: False)
        read_only = FaissMultiModalVectorStore(tmp_path)
    assert read_only.count() == 1
    add_one(tmp_path, "default", "b", make_node)
    with pytest.raises(StoreError, match="was changed; open it again"):
        read_only.count()
    read_only.close()


# Several processes


@pytest.mark.parametrize("seconds", [1, pytest.param(10, marks=pytest.mark.integration)])
@pytest.mark.parametrize("program", ["overwriting", "sliding"])
def test_readers_see_only_committed_states_and_never_older_ones(
    tmp_path: Path, ordeal: Ordeal, program: str, seconds: float
) -> None:
    done = ordeal(program, tmp_path, seconds)
    assert done["steps"] >= 20, done


def test_two_processes_can_write_at_once(tmp_path: Path, ordeal: Ordeal) -> None:
    done = ordeal("writers", tmp_path, 60)
    assert done["nodes"] == 2 * 36, done


@pytest.mark.parametrize("openings", [3, pytest.param(20, marks=pytest.mark.integration)])
def test_several_processes_can_create_a_store_at_once(tmp_path: Path, ordeal: Ordeal, openings: int) -> None:
    done = ordeal("openings", tmp_path, openings)
    assert done["openings"] == openings, done


def wait_for_writer(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    modules = [module.name for module in pkgutil.iter_modules(vector_store.__path__, f"{vector_store.__name__}.")]
    for module in map(importlib.import_module, modules):
        for name in vars(module):
            if name.endswith("WAIT_FOR_WRITER_SECONDS"):
                monkeypatch.setattr(module, name, seconds)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of another program to the store in ``tmp_path``."""
    FaissMultiModalVectorStore(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "default.sqlite3", isolation_level=None)) as connection:
        yield connection


def test_a_writer_that_cannot_get_the_lock_raises_an_error(
    tmp_path: Path, make_node: MakeNode, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_writer(monkeypatch, seconds=0.01)
    store = FaissMultiModalVectorStore(tmp_path)
    store.add([make_node("old")])
    other.execute("begin immediate")

    for change in (lambda: store.add([make_node("new")]), lambda: store.delete_nodes(["old"]), store.clear):
        with pytest.raises(StoreError, match=r"default\.sqlite3.*locked.*nothing was changed"):
            change()
    # Readers do not wait for writers.
    assert store.query(VectorStoreQuery(query_embedding=[1, 0], similarity_top_k=5)).ids == ["old"]

    other.execute("rollback")
    store.add([make_node("new")])
    assert store.query(VectorStoreQuery(query_embedding=[1, 0], similarity_top_k=5)).ids == ["old", "new"]


def test_persisting_does_not_wait_for_readers(
    tmp_path: Path, make_node: MakeNode, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_writer(monkeypatch, seconds=2 * PATIENCE)
    store = FaissMultiModalVectorStore(tmp_path)
    other.execute("begin")
    other.execute("select count(*) from sqlite_master").fetchone()
    store.add([make_node("new")])

    persisting = threading.Thread(target=store.persist)
    persisting.start()
    persisting.join(timeout=PATIENCE)
    waits = persisting.is_alive()
    other.execute("rollback")
    persisting.join()
    assert not waits
