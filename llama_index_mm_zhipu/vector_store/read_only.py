"""Store files that may only be read: on a read-only disk or share, or of another user."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.schema import MIGRATIONS, version_of
from llama_index_mm_zhipu.vector_store.sql_functions import register_functions


def may_be_written(path: Path) -> bool:
    """Whether a file can be written to, and a write-ahead log beside it."""
    return all(_is_writable(each) for each in (path, path.parent))


class ReadOnlyFile:
    """Opens a store's file without writing anything, and tells when somebody else has changed it.

    With a write-ahead log or its index beside it, others may be writing, and SQLite follows them. Without, SQLite is
    told that the file is immutable: otherwise it would have to make these files. What is changed meanwhile is then not
    seen, so that the file must be opened again.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: tuple[int, int] | None = None

    def connect(self) -> sqlite3.Connection:
        """Open the file.

        Raises:
            StoreError: It is of an earlier version, or what a crash left in its log cannot be read.
            sqlite3.Error: It cannot be read.
        """
        log, log_index = (self._path.with_name(f"{self._path.name}{suffix}") for suffix in ("-wal", "-shm"))
        if log.exists() and log_index.exists():
            try:
                return self._connect("mode=ro")
            except sqlite3.OperationalError:
                # These files may not be read, or not be locked: without content they do not matter.
                pass
        if log.exists() and log.stat().st_size:
            raise StoreError(
                f"the vector store {self._path} may only be read, and a write-ahead log lies beside it whose content "
                "would be missing: open it once where it may be written to"
            )
        self._opened = self._state()
        return self._connect("immutable=1")

    def require_unchanged(self) -> None:
        """Refuse to read a file that was changed since it was opened as immutable.

        Raises:
            StoreError: It was.
        """
        if self._opened is not None and self._state() != self._opened:
            raise StoreError(f"the vector store {self._path}, opened for reading only, was changed; open it again")

    def _connect(self, option: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?{option}", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            self._require_current(version_of(connection))
        except BaseException:
            connection.close()
            raise
        connection.execute("pragma query_only = on")
        register_functions(connection)
        return connection

    def _require_current(self, version: int) -> None:
        if version != len(MIGRATIONS):
            raise StoreError(
                f"the vector store {self._path} may only be read, and its schema ({version}) is not that of this "
                f"version of llama-index-mm-zhipu ({len(MIGRATIONS)}): open it once where it may be written to"
            )

    def _state(self) -> tuple[int, int]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_size


def _is_writable(path: Path) -> bool:
    # By who the process acts as, where the system can tell.
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
