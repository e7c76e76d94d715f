"""The SQLite file of a store: connections, locks, transactions and durability.

Three situations need care: several processes share the file; a process is forked while the file is open; the file or
its folder may only be read.
"""

from __future__ import annotations

import errno
import glob
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from llama_index_mm_zhipu.shared_folders import PRIVATE, make_folder
from llama_index_mm_zhipu.store_file import is_full
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.vector_store.conditions import register_functions
from llama_index_mm_zhipu.vector_store.copies import write_copy
from llama_index_mm_zhipu.vector_store.errors import StoreError, advice_on
from llama_index_mm_zhipu.vector_store.schema import (
    MIGRATIONS,
    PAGE_SIZE,
    has_current_full_text,
    prepare,
    transaction,
    version_of,
)
from llama_index_mm_zhipu.vector_store.sessions import Reader, Writer
from llama_index_mm_zhipu.vector_store.vector_file import SUFFIX, VectorFiles, path_of, pattern_of

WAIT_FOR_WRITER_SECONDS = 30.0
"""Maximum time that a call waits while another process writes."""

_CHECKPOINT_BYTES = 64 * 2**20
"""Size of the write-ahead log at which SQLite moves its pages to the file. Fewer moves write each page less often."""

_CACHE_KIB = 65_536
"""Candidates are tested on many pages. When writing, a page that leaves the cache before the end of a transaction is
written to the log, and again when it is changed."""


class Database:
    """One SQLite file, or one database in memory, with the nodes of a namespace.

    A file has one connection for reading and one for writing, so that queries do not wait for a long ``add``. A
    database in memory has one connection for both. A file that may only be read is opened for reading.

    Args:
        path: The file, which is created with its schema if it is missing; None for a database in memory.
        mode: Permissions of its folder, if that is created.
        initial_settings: Settings to record in a new file.

    Attributes:
        path: Path of the file; None in memory.
        identity: Identity of the opened file; None in memory.
        vector_files: The vectors of the file.

    Raises:
        StoreError: The file is not such a database, has a newer schema, cannot be opened, or was open when this process
            was forked.
    """

    def __init__(
        self, path: Path | None, mode: int = PRIVATE, initial_settings: Mapping[str, Any] | None = None
    ) -> None:
        self.path = path
        self.identity: FileIdentity | None = None
        self._initial_settings = initial_settings or {}
        self._read_only: ReadOnlyFile | None = None
        self._process = os.getpid()
        self._closed = False
        self._write_lock = threading.RLock()
        self._read_lock = threading.RLock() if path else self._write_lock
        try:
            if path is not None:
                _require_utf_8(path)
                make_folder(path.parent, mode)
                _require_not_emptied(path)
                _require_not_inherited(path)
            for attempt in Retrying(
                retry=retry_if_exception(_is_locked),
                stop=stop_after_delay(WAIT_FOR_WRITER_SECONDS),
                wait=wait_fixed(0.05),
                reraise=True,
            ):
                with attempt:
                    self._open()
            if path is not None:
                self.identity = identity_of(path)
                _open_databases.add(self)
        except (sqlite3.Error, OSError) as error:
            is_on_full_disk = path is not None and is_full(path.parent)
            advice = "free some space" if is_on_full_disk else "is it a file of this package, and may it be written to?"
            reason = "the disk is full" if is_on_full_disk else error
            raise StoreError(f"cannot open the vector store {path}: {reason}; {advice}") from None

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    @property
    def is_read_only(self) -> bool:
        """Whether the file may only be read."""
        return self._read_only is not None

    def close(self) -> None:
        """Close the file. The last connection to it moves the write-ahead log into the file."""
        with self._read_lock, self._write_lock:
            self._closed = True
            if not self._is_of_this_process():
                # Closing could delete a log that the process that opened the file needs.
                return
            _open_databases.discard(self)
            for connection in {self._reading_connection, self._writing_connection}:
                connection.close()
            self.vector_files.close()

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """Return a reader whose reads inside all see the same state of the database.

        Raises:
            StoreError: The store is closed, or its file is damaged.
        """
        with self._read_lock:
            self._require_usable()
            if self._read_only is not None:
                self._read_only.require_unchanged()
            # In memory, a transaction of the same thread may already be open.
            is_outermost = not self._reading_connection.in_transaction
            try:
                if is_outermost:
                    self._begin_reading()
                yield self._reader
            except sqlite3.Error as error:
                raise StoreError(
                    f"cannot read the vector store {self.path or 'in memory'}: {error}; {advice_on(error)}"
                ) from None
            finally:
                if is_outermost and self._reading_connection.in_transaction:
                    self._reading_connection.execute("rollback")

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Return a writer whose changes inside are committed together, or not at all.

        Raises:
            StoreError: SQLite could not write (disk full, folder read-only, another writer); nothing was changed.
        """
        with self._write_lock:
            self._require_usable()
            self._require_writable()
            try:
                with transaction(self._writing_connection):
                    yield self._writer
            except (sqlite3.Error, OSError) as error:
                is_on_full_disk = isinstance(error, OSError) and error.errno == errno.ENOSPC
                reason = "database or disk is full" if is_on_full_disk else error
                raise StoreError(
                    f"cannot write to the vector store {self.path}: {reason}; nothing was changed"
                ) from None

    def remove_stale_vector_files(self) -> None:
        """Remove vector files that were replaced, or that a process left when it was killed."""
        with self.reading() as reader:
            rows = reader.vector_rows()
        self.vector_files.keep_in_memory(rows)
        if self.path is None or self.is_read_only:
            return
        current = None if rows is None else path_of(self.path, rows.layout)
        if any(file != current for file in self.path.parent.glob(pattern_of(self.path))):
            with self.writing() as writer:
                writer.remove_stale_vector_files(self.path)

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file, up to what readers still need."""
        if self.is_read_only:
            return
        with self._write_lock:
            self._require_usable()
            try:
                # The other types of checkpoint wait for readers.
                self._writing_connection.execute("pragma wal_checkpoint(passive)")
            except sqlite3.Error as error:
                raise StoreError(f"cannot checkpoint the vector store {self.path}: {error}; nothing is lost") from None

    def backup(self, path: Path, mode: int = PRIVATE) -> None:
        """Copy the current state of the database to another file; if that fails, the file keeps its content.

        Args:
            path: The file.
            mode: Permissions of its folder, if that is created.

        Raises:
            StoreError: The other file cannot be written, or it holds another store.
        """
        try:
            make_folder(path.parent, mode)
            with self.reading() as reader:
                write_copy(reader, path)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot copy the vector store to {path}: {error}") from None

    def _open(self) -> None:
        if self.path is not None and self.path.is_file() and not may_be_written(self.path):
            self._read_only = ReadOnlyFile(self.path)
            self._reading_connection = self._writing_connection = self._read_only.connect()
            self.vector_files = VectorFiles(self.path, read_only=True)
            has_full_text = has_current_full_text(self._reading_connection)
            self._reader = Reader(self._reading_connection, has_full_text, self.vector_files)
            return
        self.vector_files = VectorFiles(self.path)
        self._writing_connection = self._connect()
        try:
            has_full_text = prepare(self._writing_connection, self.path, self._initial_settings)
            self._writer = Writer(self._writing_connection, has_full_text, self.vector_files)
            self._reading_connection = self._writing_connection
            if self.path is not None:
                self._reading_connection = self._connect()
                self._reading_connection.execute("pragma query_only = on")
            self._reader = Reader(self._reading_connection, has_full_text, self.vector_files)
        except BaseException:
            self._writing_connection.close()
            raise

    def _begin_reading(self) -> None:
        """Begin a transaction whose vector file is open.

        Raises:
            StoreError: The vector file is missing or damaged.
        """
        missing = None
        while True:
            self._reading_connection.execute("begin")
            try:
                self._reader.vector_rows()
                return
            except OSError as error:
                self._reading_connection.execute("rollback")
                # Another process may have replaced the file after the transaction had begun.
                if not isinstance(error, FileNotFoundError) or error.filename == missing:
                    raise StoreError(
                        f"cannot open the vector file of the store {self.path} ({error}); "
                        "both files belong together: restore them from a backup"
                    ) from None
                missing = error.filename

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            _location(self.path), timeout=WAIT_FOR_WRITER_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"pragma page_size = {PAGE_SIZE}")
        # With WAL, readers never wait for the writer. With FULL, and fullfsync on macOS, a commit survives a power cut.
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma fullfsync = on")
        # Files of earlier versions have larger pages.
        (page_size,) = connection.execute("pragma page_size").fetchone()
        connection.execute(f"pragma wal_autocheckpoint = {_CHECKPOINT_BYTES // page_size}")
        connection.execute(f"pragma cache_size = {-_CACHE_KIB}")
        register_functions(connection)
        return connection

    def _is_of_this_process(self) -> bool:
        return self.path is None or os.getpid() == self._process

    def _require_usable(self) -> None:
        if self._closed:
            raise StoreError(f"the vector store {self.path or 'in memory'} is closed; open it again")
        if not self._is_of_this_process():
            raise StoreError(
                f"the vector store {self.path} was opened before this process was forked; open one in each process, "
                "started with multiprocessing's 'spawn' or 'forkserver'"
            )

    def _require_writable(self) -> None:
        if self.is_read_only:
            raise StoreError(
                f"cannot write to the vector store {self.path}: the file or its folder may only be read; "
                "nothing was changed"
            )
        if self.path is not None and identity_of(self.path) != self.identity:
            raise StoreError(
                f"cannot write to the vector store {self.path}: the file was removed or replaced while it was open; "
                "nothing was changed, open it again"
            )


class ReadOnlyFile:
    """Opens the file of a store without writing anything, and detects changes by other processes.

    If a write-ahead log and its index exist, others may be writing, and SQLite follows them. Otherwise SQLite would
    have to create both files, and is told instead that the file is immutable. It does not see changes then, so that the
    file must be opened again after a change.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: tuple[int, int] | None = None

    def connect(self) -> sqlite3.Connection:
        """Open the file.

        Raises:
            StoreError: The file has an earlier schema, or the write-ahead log of a crashed process cannot be read.
            sqlite3.Error: The file cannot be read.
        """
        log, log_index = (self._path.with_name(f"{self._path.name}{suffix}") for suffix in ("-wal", "-shm"))
        if log.exists() and log_index.exists():
            try:
                return self._connect("mode=ro")
            except sqlite3.OperationalError:
                # The process may lack permission to read or lock these files. They are not needed if the log is empty.
                pass
        if log.exists() and log.stat().st_size:
            raise StoreError(
                f"the vector store {self._path} may only be read, and a write-ahead log lies beside it whose content "
                "would be missing: open it once where it may be written to"
            )
        self._opened = self._state()
        return self._connect("immutable=1")

    def require_unchanged(self) -> None:
        """Check that a file that was opened as immutable has not changed.

        Raises:
            StoreError: The file has changed.
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


def may_be_written(path: Path) -> bool:
    """Return whether a file can be written to, and a write-ahead log beside it."""
    # By the effective user and group, where the system supports that.
    effective = os.access in os.supports_effective_ids
    return all(os.access(each, os.W_OK, effective_ids=effective) for each in (path, path.parent))


def _require_utf_8(path: Path) -> None:
    """Refuse a path that faiss cannot open, before anything is written there."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        shown = one_line(str(path))
        raise StoreError(f"cannot open the vector store {shown}: its path is not UTF-8; rename the folder") from None


def _require_not_emptied(path: Path) -> None:
    """Refuse a file of 0 bytes beside its vectors: it held nodes, and SQLite would take it for a new database."""
    beside = f"{glob.escape(path.stem)}.????????"
    if path.is_file() and path.stat().st_size == 0:
        for other in (*path.parent.glob(f"{beside}{SUFFIX}"), *path.parent.glob(f"{beside}.faiss")):
            raise StoreError(
                f"the vector store {path} has no bytes, but {other.name} lies beside it: it was emptied; "
                "restore it from a backup, or remove both to start again"
            )


def _location(path: Path | None) -> str:
    """Return the location for SQLite, which takes a relative path that begins with ``file:`` for a URI."""
    return ":memory:" if path is None else str(path.absolute())


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


# Files that are open when the process is forked
#
# SQLite's table of locks is inherited by a forked child, which holds none of these locks. The child would open the file
# without taking a lock, and the parent's close would delete the write-ahead log with what the child has committed.


class FileIdentity(NamedTuple):
    """Identity of a file, whatever its path, while it is open.

    Attributes:
        device: Number of the file system.
        inode: Number of the file in it.
    """

    device: int
    inode: int


_open_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_inherited_files: set[FileIdentity] = set()
_never_closed: list[Database] = []


def identity_of(path: Path) -> FileIdentity | None:
    """Return the identity of the file at a path; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return FileIdentity(status.st_dev, status.st_ino)


def _require_not_inherited(path: Path) -> None:
    if identity_of(path) in _inherited_files:
        raise StoreError(
            f"the vector store {path} was open when this process was forked, and SQLite cannot open it safely here; "
            "start processes with multiprocessing's 'spawn' or 'forkserver', or close the store before forking"
        )


def _after_fork_in_child() -> None:
    databases = list(_open_databases)
    _inherited_files.update(database.identity for database in databases if database.identity is not None)
    # The garbage collector must not close the inherited connections: that could delete a log that others need.
    _never_closed.extend(databases)
    _open_databases.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
