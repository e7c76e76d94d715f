"""The vectors of a store: rows of float32 in a file beside the SQLite file, or in memory.

A vector of 512 dimensions takes 2,048 bytes here and 2,341 in SQLite's pages, and reading one at random takes 1.5 µs
instead of 10. The file is a part of the store, not a cache:

- Rows are appended while SQLite's write lock is held, and flushed to the disk before SQLite commits. A process that is
  killed in between leaves rows behind the last committed one, which the next writer overwrites.
- Row ids are consecutive, so that a row's position follows from its id. A deleted row stays until the file is
  compacted: live rows are copied to a new file, which lists their ids, and SQLite records the new file.
"""

from __future__ import annotations

import contextlib
import glob
import os
import struct
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.shared_folders import sync_folder
from llama_index_mm_zhipu.vector_store.errors import StoreError

Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

SUFFIX = ".vectors"

_MAGIC = b"mm-zhipu vectors"
_HEADER = struct.Struct("<16sIqq")
_ALIGNMENT = 4096
_MAX_GAP = 2
"""Unwanted rows between two wanted ones that are read rather than skipped, which would take another system call."""

_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class VectorLayout:
    """What SQLite records of a vector file.

    Attributes:
        name: Middle part of the file's name, ``<namespace>.<name>.vectors``. Copies and renamed stores keep it.
        dimension: Dimension of the vectors.
        listed: Number of rows at the beginning whose ids the file lists, ascending.
        after: Row id behind which ids are consecutive; at least the last listed id.
    """

    name: str
    dimension: int
    listed: int = 0
    after: int = 0

    @classmethod
    def new(cls, dimension: int, listed: int = 0, after: int = 0) -> VectorLayout:
        """Return the layout of a new file with a name of its own."""
        return cls(uuid.uuid4().hex[:8], dimension, listed, after)

    def as_setting(self) -> dict[str, Any]:
        """Return the layout as JSON values."""
        return asdict(self)


class Storage(Protocol):
    """Bytes at positions: a file, or memory."""

    def read(self, size: int, offset: int) -> bytes:
        """Return bytes at an offset, fewer at the end."""

    def read_each(self, size: int, offsets: Sequence[int]) -> bytes:
        """Return the bytes at each of several offsets, one after the other; fewer if one of them is at the end."""

    def write(self, data: memoryview, offset: int) -> None:
        """Write bytes at an offset, and wait until they are on the disk."""


class VectorRows:
    """Vectors by row id.

    Args:
        storage: Bytes of the rows, behind the header and the listed ids.
        layout: Layout of the rows.
        listed: The listed ids.
        name: Name in error messages.
    """

    def __init__(self, storage: Storage, layout: VectorLayout, listed: Ids, name: str) -> None:
        self.layout = layout
        self.listed = listed
        self._storage = storage
        self._name = name
        self._row_bytes = 4 * layout.dimension
        self._start = _rows_start(layout)

    def read(self, ids: Ids) -> Vectors:
        """Return the vectors of row ids, in their order: shape ``(n, dimension)``.

        Raises:
            StoreError: The file ends before one of them.
        """
        rows = self._rows_of(ids)
        order = np.argsort(rows, kind="stable") if np.any(np.diff(rows) < 0) else None
        ascending = rows if order is None else rows[order]
        vectors = self._read_ascending(ascending)
        if order is None:
            return vectors
        result = np.empty_like(vectors)
        result[order] = vectors
        return result

    def append(self, first_id: int, vectors: Vectors) -> None:
        """Write vectors of shape ``(n, dimension)`` under consecutive ids, and wait until they are on the disk.

        Args:
            first_id: The id behind the last committed one. What an interrupted transaction wrote there is replaced.
            vectors: The vectors.

        Raises:
            OSError: The file cannot be written.
        """
        (row,) = self._rows_of(np.array([first_id]))
        data = np.ascontiguousarray(vectors, dtype="<f4").data.cast("B")
        self._storage.write(data, self._start + int(row) * self._row_bytes)

    def blocks(self, last_id: int) -> Iterator[Vectors]:
        """Yield all rows up to an id, with those of deleted nodes, in blocks of shape ``(n, dimension)``."""
        count, chunk = self.count_until(last_id), max(1, _CHUNK_BYTES // self._row_bytes)
        for row in range(0, count, chunk):
            yield self._decoded(self._bytes(row, min(chunk, count - row)))

    def count_until(self, last_id: int) -> int:
        """Return the number of rows up to an id, with those of deleted nodes."""
        return self.layout.listed + max(0, last_id - self.layout.after)

    def _rows_of(self, ids: Ids) -> Ids:
        ids = np.asarray(ids, dtype=np.int64)
        rows: Ids = ids - self.layout.after - 1 + self.layout.listed
        old = ids <= self.layout.after
        if old.any():
            rows[old] = np.searchsorted(self.listed, ids[old])
        return rows

    def _read_ascending(self, rows: Ids) -> Vectors:
        if not len(rows):
            return np.empty((0, self.layout.dimension), np.float32)
        starts = np.flatnonzero(np.diff(rows, prepend=-2 * _ALIGNMENT) > 1 + _MAX_GAP)
        if len(starts) == len(rows):
            offsets = (self._start + rows * self._row_bytes).tolist()
            return self._decoded(self._require(self._storage.read_each(self._row_bytes, offsets), len(rows)))
        vectors = np.empty((len(rows), self.layout.dimension), np.float32)
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(rows)], strict=True):
            run = rows[start:stop]
            block = self._decoded(self._bytes(int(run[0]), int(run[-1] - run[0]) + 1))
            vectors[start:stop] = block if len(block) == len(run) else block[run - run[0]]
        return vectors

    def _bytes(self, row: int, count: int) -> bytes:
        return self._require(self._storage.read(count * self._row_bytes, self._start + row * self._row_bytes), count)

    def _require(self, data: bytes, rows: int) -> bytes:
        if len(data) < rows * self._row_bytes:
            raise StoreError(f"the vector file {self._name} ends too early: it is damaged; restore it from a backup")
        return data

    def _decoded(self, data: bytes) -> Vectors:
        return np.frombuffer(data, dtype="<f4").reshape(-1, self.layout.dimension)


class VectorFiles:
    """The vector files of one SQLite file, of which one is current; or the rows of a database in memory.

    Args:
        database: The SQLite file; None for a database in memory.
        read_only: Whether the files may only be read.
    """

    def __init__(self, database: Path | None, read_only: bool = False) -> None:
        self._database = database
        self._read_only = read_only
        self._lock = threading.Lock()
        self._open: VectorRows | None = None
        self._in_memory: dict[str, VectorRows] = {}

    def open(self, layout: VectorLayout) -> VectorRows:
        """Return the rows of a layout.

        Raises:
            FileNotFoundError: There is no such file; another process may have replaced it.
            StoreError: The file is not the one that was recorded.
            OSError: The file cannot be opened.
        """
        if self._database is None:
            return self._in_memory[layout.name]
        with self._lock:
            if self._open is None or self._open.layout != layout:
                self._open = _opened(path_of(self._database, layout), layout, self._read_only)
            return self._open

    def create(self, layout: VectorLayout, listed: Ids | None = None, blocks: Iterable[Vectors] = ()) -> VectorRows:
        """Create a file and open it.

        Args:
            layout: Layout of the file.
            listed: Ids of the first rows, as many as the layout says; by default none.
            blocks: The first rows, shape ``(n, dimension)`` each, for the listed ids and perhaps further ones.

        Raises:
            OSError: The file cannot be written; no part of it is left.
        """
        listed = np.empty(0, np.int64) if listed is None else listed
        if self._database is not None:
            write_file(path_of(self._database, layout), layout, listed, blocks)
            return self.open(layout)
        memory = _Memory(_rows_start(layout))
        for block in blocks:
            memory.append(np.ascontiguousarray(block, dtype="<f4").tobytes())
        with self._lock:
            # Earlier rows are kept: a transaction that replaces them may be rolled back.
            rows = self._in_memory[layout.name] = VectorRows(memory, layout, listed, "in memory")
            return rows

    def keep_in_memory(self, rows: VectorRows | None) -> None:
        """Forget other rows of a database in memory."""
        self._in_memory = {} if rows is None or self._database is not None else {rows.layout.name: rows}

    def close(self) -> None:
        """Close the open file once nothing reads it any more."""
        with self._lock:
            self._open = None
            self._in_memory.clear()


def evenly_spaced(ids: Ids, limit: int) -> Ids:
    """Return at most ``limit`` of the ids, at equal distances."""
    return ids[np.linspace(0, len(ids) - 1, min(limit, len(ids))).astype(np.int64)]


def path_of(database: Path, layout: VectorLayout) -> Path:
    """Return the path of a vector file."""
    return database.with_name(f"{database.stem}.{layout.name}{SUFFIX}")


def pattern_of(database: Path) -> str:
    """Return the pattern, for ``Path.glob``, of the vector files beside a SQLite file."""
    return f"{glob.escape(database.stem)}.????????{SUFFIX}*"


def write_file(path: Path, layout: VectorLayout, listed: Ids, blocks: Iterable[Vectors]) -> None:
    """Write a new file, and wait until it is on the disk.

    Args:
        path: The file.
        layout: Its layout.
        listed: Ids of the first rows.
        blocks: Rows, shape ``(n, dimension)`` each.

    Raises:
        OSError: The file cannot be written; no part of it is left.
    """
    try:
        with path.open("wb") as opened:
            opened.write(_header_of(layout).ljust(_ALIGNMENT, b"\0"))
            opened.write(listed.astype("<i8").tobytes().ljust(_rows_start(layout) - _ALIGNMENT, b"\0"))
            for block in blocks:
                opened.write(np.ascontiguousarray(block, dtype="<f4").data)
            opened.flush()
            sync_file(opened.fileno())
        with contextlib.suppress(OSError):
            sync_folder(path.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def copy_file(source: VectorRows, database: Path, last_id: int) -> None:
    """Copy the rows up to an id to the vector file of another SQLite file, which may have an earlier copy of them.

    Args:
        source: The rows.
        database: The other SQLite file.
        last_id: Last id that is committed in the source.

    Raises:
        OSError: The copy cannot be written; an earlier copy is left as it was.
    """
    path = path_of(database, source.layout)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    write_file(temporary, source.layout, source.listed, source.blocks(last_id))
    temporary.replace(path)


def sync_file(descriptor: int) -> None:
    """Wait until a file is on the disk, so that it survives a power cut."""
    full_sync = _full_sync()
    if full_sync is not None:
        full_sync(descriptor)
    else:
        os.fsync(descriptor)


def _full_sync() -> Callable[[int], object] | None:
    """Return macOS's call that also empties the cache of the disk; None elsewhere."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    command = getattr(fcntl, "F_FULLFSYNC", None)
    return None if command is None else lambda descriptor: fcntl.fcntl(descriptor, command)


def _opened(path: Path, layout: VectorLayout, read_only: bool) -> VectorRows:
    storage = _File(path, read_only)
    if storage.read(_HEADER.size, 0) != _header_of(layout):
        raise StoreError(f"{path} is not the vector file that the store was written with; restore it from a backup")
    listed = storage.read(8 * layout.listed, _ALIGNMENT)
    if len(listed) < 8 * layout.listed:
        raise StoreError(f"the vector file {path} ends too early: it is damaged; restore it from a backup")
    return VectorRows(storage, layout, np.frombuffer(listed, dtype="<i8").astype(np.int64), str(path))


def _header_of(layout: VectorLayout) -> bytes:
    return _HEADER.pack(_MAGIC, layout.dimension, layout.listed, layout.after)


def _rows_start(layout: VectorLayout) -> int:
    """Return the offset of the first row, behind the header and the listed ids."""
    return -(-(_ALIGNMENT + 8 * layout.listed) // _ALIGNMENT) * _ALIGNMENT


class _File:
    """A file whose reads and writes name their offsets, so that threads and forked processes share it."""

    def __init__(self, path: Path, read_only: bool) -> None:
        binary = getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | binary)
        self._lock = threading.Lock()
        # Closed when nothing reads it any more: a reader may still need a file that was replaced.
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, size: int, offset: int) -> bytes:
        parts: list[bytes] = []
        while size > 0 and (part := self._read_part(size, offset)):
            if len(part) == size and not parts:
                return part
            parts.append(part)
            size, offset = size - len(part), offset + len(part)
        return b"".join(parts)

    def write(self, data: memoryview, offset: int) -> None:
        while data:
            written = self._write_part(data, offset)
            data, offset = data[written:], offset + written
        sync_file(self._descriptor)

    if hasattr(os, "pread"):

        def read_each(self, size: int, offsets: Sequence[int]) -> bytes:
            # A loop without calls of our own: the candidates of a query are read here, a hundred and more.
            read, descriptor = os.pread, self._descriptor
            return b"".join([read(descriptor, size, offset) for offset in offsets])

        def _read_part(self, size: int, offset: int) -> bytes:
            return os.pread(self._descriptor, size, offset)

        def _write_part(self, data: memoryview, offset: int) -> int:
            return os.pwrite(self._descriptor, data, offset)

    else:  # Windows

        def read_each(self, size: int, offsets: Sequence[int]) -> bytes:
            return b"".join([self.read(size, offset) for offset in offsets])

        def _read_part(self, size: int, offset: int) -> bytes:
            with self._lock:
                os.lseek(self._descriptor, offset, os.SEEK_SET)
                return os.read(self._descriptor, size)

        def _write_part(self, data: memoryview, offset: int) -> int:
            with self._lock:
                os.lseek(self._descriptor, offset, os.SEEK_SET)
                return os.write(self._descriptor, data)


class _Memory:
    """Bytes in memory that grow at their end at a constant cost per byte."""

    def __init__(self, size: int) -> None:
        self._bytes = bytearray(size)

    def append(self, data: bytes) -> None:
        self._bytes += data

    def read(self, size: int, offset: int) -> bytes:
        return bytes(memoryview(self._bytes)[offset : offset + size])

    def read_each(self, size: int, offsets: Sequence[int]) -> bytes:
        return b"".join([self.read(size, offset) for offset in offsets])

    def write(self, data: memoryview, offset: int) -> None:
        if len(self._bytes) < offset:
            self._bytes.extend(bytes(offset - len(self._bytes)))
        self._bytes[offset : offset + len(data)] = data
