"""One SQLite file that is the truth of a vector store: connections, locks, transactions, durability."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from llama_index_mm_zhipu.vector_store import full_text_table
from llama_index_mm_zhipu.vector_store.errors import StoreError, advice_on
from llama_index_mm_zhipu.vector_store.reader import Reader
from llama_index_mm_zhipu.vector_store.schema import PAGE_SIZE, Setting, migrate
from llama_index_mm_zhipu.vector_store.sql_functions import register_functions
from llama_index_mm_zhipu.vector_store.transactions import transaction
from llama_index_mm_zhipu.vector_store.writer import Writer

WAIT_FOR_WRITER_SECONDS = 30.0
"""How long a call waits while another process writes."""

_CHECKPOINT_PAGES = 4000
"""Pages in the write-ahead log, 64 MB, before SQLite moves them to the file: fewer moves write each page less often."""

_CACHE_KIB = 4_096


class Database:
    """One namespace's nodes in one SQLite file, or in memory.

    On disk, reading and writing have a connection each, so that queries do not wait for a long ``add``. In memory
    there is one connection for both.

    Args:
        path: The file, made with its schema if missing; None for a database in memory.

    Raises:
        StoreError: The file is no such database, is of a newer version, or cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._process = os.getpid()
        self._closed = False
        self._write_lock = threading.RLock()
        self._read_lock = threading.RLock() if path else self._write_lock
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                _require_not_emptied(path)
            for attempt in Retrying(
                retry=retry_if_exception(_is_locked),
                stop=stop_after_delay(WAIT_FOR_WRITER_SECONDS),
                wait=wait_fixed(0.05),
                reraise=True,
            ):
                with attempt:
                    self._open()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"cannot open the vector store {path}: {error}; is it a file of this package, and may it be written to?"
            ) from None

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def close(self) -> None:
        """Close the file, with everything in it rather than in the write-ahead log."""
        with self._read_lock, self._write_lock:
            self._closed = True
            for connection in {self._reading_connection, self._writing_connection}:
                connection.close()

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """Let all reads inside see one state of the database.

        Raises:
            StoreError: The store is closed, or its file is damaged.
        """
        with self._read_lock:
            self._require_usable()
            # In memory, a transaction of the same thread may be going on.
            begun = not self._reading_connection.in_transaction
            try:
                if begun:
                    self._reading_connection.execute("begin")
                yield self._reader
            except sqlite3.Error as error:
                raise StoreError(
                    f"cannot read the vector store {self.path or 'in memory'}: {error}; {advice_on(error)}"
                ) from None
            finally:
                if begun and self._reading_connection.in_transaction:
                    self._reading_connection.execute("rollback")

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Write all that happens inside, or nothing.

        Raises:
            StoreError: SQLite could not write (disk full, folder read-only, another writer); nothing was changed.
        """
        with self._write_lock:
            self._require_usable()
            try:
                with transaction(self._writing_connection):
                    yield self._writer
            except sqlite3.Error as error:
                raise StoreError(
                    f"cannot write to the vector store {self.path}: {error}; nothing was changed"
                ) from None

    def checkpoint(self) -> None:
        """Bring the write-ahead log into the database file, as far as no reader needs it."""
        with self._write_lock:
            self._require_usable()
            try:
                # The other kinds wait for readers.
                self._writing_connection.execute("pragma wal_checkpoint(passive)")
            except sqlite3.Error as error:
                raise StoreError(f"cannot checkpoint the vector store {self.path}: {error}; nothing is lost") from None

    def backup(self, path: Path) -> None:
        """Copy the database, as it stands, to another file, whose earlier content is kept if that fails.

        Raises:
            StoreError: The other file cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            target = sqlite3.connect(_location(path), isolation_level=None)
            try:
                with self.reading() as reader:
                    reader.backup(target)
                # The copy has no faiss file of its own.
                target.execute("delete from settings where key = ?", (Setting.SNAPSHOT,))
            finally:
                target.close()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot copy the vector store to {path}: {error}") from None

    def _open(self) -> None:
        self._writing_connection = self._connect()
        try:
            migrate(self._writing_connection, self.path)
            has_full_text = full_text_table.open_table(self._writing_connection)
            self._writer = Writer(self._writing_connection, has_full_text)
            self._reading_connection = self._writing_connection
            if self.path is not None:
                self._reading_connection = self._connect()
                self._reading_connection.execute("pragma query_only = on")
            self._reader = Reader(self._reading_connection, has_full_text)
        except BaseException:
            self._writing_connection.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            _location(self.path), timeout=WAIT_FOR_WRITER_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"pragma page_size = {PAGE_SIZE}")
        # With WAL, readers never wait for the writer; FULL makes a commit survive a power cut, on macOS with fullfsync.
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma fullfsync = on")
        connection.execute(f"pragma wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute(f"pragma cache_size = {-_CACHE_KIB}")
        register_functions(connection)
        return connection

    def _require_usable(self) -> None:
        if self._closed:
            raise StoreError(f"the vector store {self.path or 'in memory'} is closed; open it again")
        if self.path is not None and os.getpid() != self._process:
            raise StoreError(f"the vector store {self.path} was opened before this process was forked; open it again")


def _require_not_emptied(path: Path) -> None:
    """Refuse a file of no bytes that once held nodes: to SQLite it is a new database."""
    if path.is_file() and path.stat().st_size == 0 and any(path.parent.glob(f"{path.stem}.????????.faiss")):
        raise StoreError(
            f"the vector store {path} has no bytes, but a faiss file lies beside it: it was emptied; "
            "restore it from a backup, or remove both to begin anew"
        )


def _location(path: Path | None) -> str:
    """Return what SQLite opens: it takes a relative path that begins with ``file:`` for a URI."""
    return ":memory:" if path is None else str(path.absolute())


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
