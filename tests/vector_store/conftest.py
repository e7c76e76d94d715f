"""Fixtures: nodes with vectors that can be checked by hand, empty stores, and programs in other processes."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

from llama_index_mm_zhipu import FaissMultiModalVectorStore


@pytest.fixture
def make_node() -> Callable[..., TextNode]:
    """A function that returns a text node with a two-dimensional vector."""

    def make(node_id: str, x: float = 1.0, y: float = 0.0, ref_doc: str | None = None, **metadata: object) -> TextNode:
        relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=ref_doc)} if ref_doc else {}
        return TextNode(
            id_=node_id, text=f"text of {node_id}", embedding=[x, y], metadata=metadata, relationships=relationships
        )

    return make


@pytest.fixture(params=["durable", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FaissMultiModalVectorStore]:
    """An empty store: each test runs with one on disk and with one in memory."""
    with FaissMultiModalVectorStore(tmp_path / "store" if request.param == "durable" else None) as opened:
        yield opened


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The statements of every write transaction that is committed from now on, on any SQLite connection."""
    committed: list[list[str]] = []
    connect = sqlite3.connect

    def traced(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)
        statements: list[str] | None = None

        def trace(statement: str) -> None:
            nonlocal statements
            verb = statement.lower().split(maxsplit=1)[0]
            if statement.lower() == "begin immediate":
                statements = []
            elif verb == "commit" and statements is not None:
                committed.append(statements)
                statements = None
            elif verb == "rollback":
                statements = None
            elif verb in ("insert", "update", "delete", "create", "drop", "alter"):
                if statements is None:
                    committed.append([statement])
                else:
                    statements.append(statement)

        connection.set_trace_callback(trace)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return committed


@pytest.fixture(scope="session")
def ordeal() -> Iterator[Callable[..., dict[str, Any]]]:
    """A function that runs a program of ``ordeals.py`` and returns its result.

    All programs are started by one process, which imports LlamaIndex only once.
    """
    if sys.platform == "win32":
        pytest.skip("needs fork and kill")
    command = [sys.executable, str(Path(__file__).with_name("ordeals.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(program: str, folder: Path, *arguments: float) -> dict[str, Any]:
            print(json.dumps([program, str(folder), *arguments]), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield run
        process.kill()
