"""The advice for errors of SQLite: a backup is to be restored only if the file is damaged."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from llama_index.core.schema import TextNode

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store import StoreError
from llama_index_mm_zhipu.vector_store.errors import advice_on


def error_of(message: str, name: str | None) -> sqlite3.Error:
    error = sqlite3.DatabaseError(message)
    if name is not None:
        error.sqlite_errorname = name  # type: ignore[misc]
    return error


# Errors of Python 3.10 have no sqlite_errorname.
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("message", "name", "advice"),
    [
        ("database disk image is malformed", "SQLITE_CORRUPT", "restore the file from a backup"),
        ("database disk image is malformed", "SQLITE_CORRUPT_VTAB", "restore the file from a backup"),
        ("file is not a database", "SQLITE_NOTADB", "restore the file from a backup"),
        ("disk I/O error", "SQLITE_IOERR_READ", "restore the file from a backup"),
        ("database is locked", "SQLITE_BUSY", "try again"),
        ("too many terms in compound SELECT", "SQLITE_ERROR", "fewer ids or filters"),
        ("Expression tree is too large (maximum depth 1000)", "SQLITE_ERROR", "fewer ids or filters"),
        ("string or blob too big", "SQLITE_TOOBIG", "fewer ids or filters"),
        ("no such table: nodes", "SQLITE_ERROR", "not damaged as far as SQLite can tell"),
    ],
)
def test_each_error_has_its_own_advice(message: str, name: str, advice: str, named: bool) -> None:
    given = advice_on(error_of(message, name if named else None))
    assert advice in given
    assert ("backup" in given) == ("backup" in advice)


def test_reading_a_damaged_file_advises_to_restore_a_backup(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add([TextNode(id_=f"n{i}", text="x" * 1000, embedding=[1.0]) for i in range(200)])
    path = tmp_path / "default.sqlite3"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 4] + bytes(len(data) - len(data) // 4))
    with pytest.raises(StoreError, match="restore the file from a backup"):
        FaissMultiModalVectorStore(tmp_path).get_nodes()


def test_other_errors_do_not_mention_a_backup(tmp_path: Path) -> None:
    store = FaissMultiModalVectorStore(tmp_path)
    with pytest.raises(StoreError, match="no such table") as caught, store._database.reading() as reader:
        reader._connection.execute("select * from missing")
    assert "backup" not in str(caught.value)
