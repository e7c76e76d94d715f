"""Copies of a database in another folder."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.schema import Setting, transaction
from llama_index_mm_zhipu.vector_store.sessions import Reader, Writer
from llama_index_mm_zhipu.vector_store.vector_file import copy_file


def write_copy(reader: Reader, path: Path) -> None:
    """Copy the current state of a database to another file; if that fails, the file keeps its content.

    Args:
        reader: Reader of the database.
        path: The file, in an existing folder.

    Raises:
        StoreError: The file holds nodes, and it is not an unchanged earlier copy of this database.
        sqlite3.Error: The file cannot be written.
    """
    store_id = reader.get_setting(Setting.STORE_ID)
    _require_copy_of(store_id, path)
    rows = reader.vector_rows()
    if rows is not None:
        # Before the nodes: a copy that is interrupted has nodes and vectors of the earlier copy, or of this one.
        copy_file(rows, path, reader.last_changes()[0])
    with closing(sqlite3.connect(path.absolute(), isolation_level=None)) as target:
        reader.backup(target)
        writer = Writer(target, reader.has_full_text)
        with transaction(target):
            # The copy is a store with an id of its own and without a faiss file.
            writer.set_settings(
                {
                    Setting.STORE_ID: uuid.uuid4().hex,
                    Setting.SNAPSHOT: None,
                    Setting.COPY: {"of": store_id, "numbers": _sequence_numbers(target)},
                }
            )
            writer.remove_stale_vector_files(path)


def _require_copy_of(store_id: str, path: Path) -> None:
    if not path.is_file() or path.stat().st_size == 0:
        return
    refused = "choose another folder or namespace, or remove the file first; nothing was copied"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as target:
            earlier = Reader(target, has_full_text=False)
            if earlier.is_empty():
                return
            copy: dict[str, Any] = earlier.get_setting(Setting.COPY) or {}
            unchanged = copy.get("numbers") == _sequence_numbers(target)
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path} is no vector store that this one may replace ({error}); {refused}") from None
    if copy.get("of") != store_id:
        raise StoreError(f"{path} holds another vector store; {refused}")
    if not unchanged:
        raise StoreError(f"{path} is a copy of this vector store that was written to since; {refused}")


def _sequence_numbers(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the last id of each autoincrement table; every change of nodes increases one of them."""
    return dict(connection.execute("select name, seq from sqlite_sequence order by name"))
