"""Several processes on one store: answers are never mixed, old or missing, and writers wait for each other."""

from __future__ import annotations

import importlib
import pkgutil
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


@pytest.mark.parametrize("program", ["overwriting", "sliding"])
def test_readers_see_whole_states_and_never_go_back(tmp_path: Path, ordeal: Ordeal, program: str) -> None:
    done = ordeal(program, tmp_path, 3)
    assert done["steps"] >= 20, done


def test_two_processes_write_at_once(tmp_path: Path, ordeal: Ordeal) -> None:
    done = ordeal("writers", tmp_path, 60)
    assert done["nodes"] == 2 * 36, done


@pytest.mark.parametrize("openings", [3, pytest.param(20, marks=pytest.mark.integration)])
def test_processes_make_a_store_at_once(tmp_path: Path, ordeal: Ordeal, openings: int) -> None:
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
    """Another program's connection to the store in ``tmp_path``."""
    FaissMultiModalVectorStore(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "default.sqlite3", isolation_level=None)) as connection:
        yield connection


def test_a_writer_that_waits_in_vain_says_so(
    tmp_path: Path, make_node: MakeNode, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_writer(monkeypatch, seconds=0.01)
    store = FaissMultiModalVectorStore(tmp_path)
    store.add([make_node("old")])
    other.execute("begin immediate")

    for change in (lambda: store.add([make_node("new")]), lambda: store.delete_nodes(["old"]), store.clear):
        with pytest.raises(StoreError, match=r"default\.sqlite3.*locked.*nothing was changed"):
            change()
    # Readers wait for nobody.
    assert store.query(VectorStoreQuery(query_embedding=[1, 0], similarity_top_k=5)).ids == ["old"]

    other.execute("rollback")
    store.add([make_node("new")])
    assert store.query(VectorStoreQuery(query_embedding=[1, 0], similarity_top_k=5)).ids == ["old", "new"]


def test_persisting_waits_for_no_reader(
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
