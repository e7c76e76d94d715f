"""Copies of a store's file in other folders: which may be overwritten by the next copy."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.sessions import Reader
from llama_index_mm_zhipu.vector_store.schema_old import Setting
from llama_index_mm_zhipu.vector_store.transactions import transaction
from llama_index_mm_zhipu.vector_store.writer import Writer


def write_copy(reader: Reader, path: Path) -> None:
    """Copy a database, as it stands, to another file, whose earlier content is kept if that fails.

    Args:
        reader: Of the database.
        path: The file; its folder must be there.

    Raises:
        StoreError: The file holds nodes, and is no earlier copy of this database or was changed since.
        sqlite3.Error: It cannot be written.
    """
    store_id = reader.get_setting(Setting.STORE_ID)
    _require_copy_of(store_id, path)
    with closing(sqlite3.connect(path.absolute(), isolation_level=None)) as target:
        reader.backup(target)
        writer = Writer(target, reader.has_full_text)
        with transaction(target):
            # The copy is a store of its own, which has no faiss file yet.
            writer.set_setting(Setting.STORE_ID, uuid.uuid4().hex)
            writer.set_setting(Setting.SNAPSHOT, None)
            writer.set_setting(Setting.COPY, {"of": store_id, "numbers": _numbers_of(target)})


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
            unchanged = copy.get("numbers") == _numbers_of(target)
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path} is no vector store that this one may replace ({error}); {refused}") from None
    if copy.get("of") != store_id:
        raise StoreError(f"{path} holds another vector store; {refused}")
    if not unchanged:
        raise StoreError(f"{path} is a copy of this vector store that was written to since; {refused}")


def _numbers_of(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the last number of each table that never uses one twice: any change of nodes raises one."""
    return dict(connection.execute("select name, seq from sqlite_sequence order by name"))
