"""Image files and the streams that Pillow reads them from, with limits on work and errors that name the file."""

from __future__ import annotations

import errno
import io
import os
import stat
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from llama_index_mm_zhipu.images.errors import ImageError, describe
from llama_index_mm_zhipu.text import one_line

MAX_READS = 1 << 20
"""Maximum number of reads of a file: parsers read each chunk, segment or box, and more take many seconds."""

MAX_BITMAP_READS = 1 << 22
"""The same for BMP, where Pillow reads compressed pixels two bytes at a time."""

# A file may be read four times, and 16 MB more.
_READ_FACTOR = 4
_READ_SLACK = 16 << 20

_MAX_ENDINGS = 8

_FILE_TYPES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

# O_NONBLOCK: do not wait if the file was replaced by a pipe since it was checked. Windows has no such flag.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def require_valid_path(path: Path) -> None:
    """Refuse a path with a NUL character, for which system calls raise errors that do not name the path.

    Raises:
        ImageError: The path contains a NUL.
    """
    if "\0" in str(path):
        raise ImageError(f"cannot read the image {describe(path)}: a file name cannot contain NUL")


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder.

    Raises:
        ImageError: The file system cannot tell, for example because a network share does not answer.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise ImageError(f"cannot read the image {describe(path)}: {error.strerror or error}") from None


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        ImageError: There is no such file, it is not a regular file, or it cannot be read.
    """
    try:
        # Checked before, because opening some devices has an effect, and after, because the path may have changed.
        _require_regular_file(path.stat().st_mode)
        stream = os.fdopen(os.open(path, _OPEN_FLAGS), "rb")
        try:
            _require_regular_file(os.fstat(stream.fileno()).st_mode)
        except OSError:
            stream.close()
            raise
        return stream
    except FileNotFoundError:
        raise ImageError(f"no such image: {describe(path)}; check the path") from None
    except OSError as error:
        raise ImageError(f"cannot read the image {describe(path)}: {error.strerror or error}") from None
    except ValueError:
        raise ImageError(f"cannot read the image {describe(path)}: a file name cannot contain NUL") from None


def read_file(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        ImageError: There is no such file, it is not a regular file, or it cannot be read.
    """
    with open_file(path) as stream:
        try:
            return stream.read()
        except OSError as error:
            raise ImageError(f"cannot read the image {describe(path)}: {error.strerror or error}") from None


def _require_regular_file(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {_FILE_TYPES.get(stat.S_IFMT(mode), 'something else')}, not a file")


class _UnownedStream(io.RawIOBase):
    """A readable, seekable stream over a file that somebody else opened and closes."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer, and return the number of bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """Read up to the end."""
        return self.read()

    def close(self) -> None:
        """Leave the file open."""


class LimitedStream(_UnownedStream):
    """A binary file with limits on how often it is read and how many bytes are read.

    A small file can ask for more work than its size suggests: a million empty chunks, or thousands of TIFF tags that
    point to the same megabyte. The limits count work, not time, so the same file is always accepted or always refused.

    Args:
        file: The file. It stays open.
        name: Name of the image for errors.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__()
        self._file = file
        self._name = name
        self._reads_left = MAX_BITMAP_READS if self._is_bitmap() else MAX_READS
        self.size = self.seek(0, io.SEEK_END)
        self._bytes_left = _READ_FACTOR * self.size + _READ_SLACK
        self.seek(0)

    def read(self, size: int | None = -1) -> bytes:
        """Return at most ``size`` bytes, fewer at the end of the file.

        Raises:
            ImageError: The file cannot be read, or a limit is reached.
        """
        self._reads_left -= 1
        try:
            data = self._file.read(-1 if size is None else size)
        except OSError as error:
            raise self._unreadable(error) from None
        self._bytes_left -= len(data)
        if self._reads_left < 0 or self._bytes_left < 0:
            raise ImageError(
                f"{self._name} has too many parts to be read in reasonable time; open it in an image editor and save "
                "it again, or leave it out"
            )
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position and return it.

        Raises:
            ImageError: The file cannot be read.
        """
        try:
            return self._file.seek(offset, whence)
        except OSError as error:
            raise self._unreadable(error) from None

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def fileno(self) -> int:
        """Return the file descriptor, with which libtiff reads the file without a copy in memory."""
        return self._file.fileno()

    def _is_bitmap(self) -> bool:
        self.seek(0)
        try:
            return self._file.read(2) == b"BM"
        except OSError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError) -> ImageError:
        return ImageError(f"cannot read the image {self._name}: {one_line(error.strerror or str(error))}")


Piece: TypeAlias = bytes | range
"""Bytes in memory, or positions in a file."""


class SplicedStream(_UnownedStream):
    """A stream that joins parts of another stream and bytes in memory.

    Args:
        source: The other stream.
        pieces: The parts in order, at least one; empty ones are allowed.
        ending: Bytes that the first few reads behind the last piece return. A truncated JPEG gets an end marker in
            this way, without which the decoder would wait for more data.
    """

    def __init__(self, source: LimitedStream, pieces: Sequence[Piece], *, ending: bytes = b"") -> None:
        super().__init__()
        self._source = source
        self._pieces = pieces
        self._ends = list(accumulate(map(len, pieces)))
        self.size = self._ends[-1]
        self._position = 0
        self._ending = ending
        self._endings_left = _MAX_ENDINGS if ending else 0

    @property
    def can_be_extended(self) -> bool:
        """Whether reads behind the last piece return an ending, so that they must not happen ahead of time."""
        return bool(self._ending)

    @property
    def was_extended(self) -> bool:
        """Whether the ending was read, so the file has none of its own."""
        return bool(self._ending) and self._endings_left < _MAX_ENDINGS

    def read(self, size: int | None = -1) -> bytes:
        """Return at most ``size`` bytes, fewer at the end.

        Raises:
            ImageError: The other stream cannot be read, or one of its limits is reached.
        """
        wanted = self.size - self._position if size is None or size < 0 else size
        parts: list[bytes] = []
        index = bisect_right(self._ends, self._position)
        while wanted > 0 and index < len(self._pieces):
            piece = self._pieces[index]
            start = self._position - (self._ends[index] - len(piece))
            part = piece[start : start + wanted]
            data = part if isinstance(part, bytes) else self._read_source(part)
            parts.append(data)
            wanted -= len(data)
            self._position += len(data)
            if len(data) < len(part):
                break
            index += 1
        if not parts and wanted > 0 and self._endings_left:
            self._endings_left -= 1
            return self._ending
        return b"".join(parts)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def _read_source(self, part: range) -> bytes:
        self._source.seek(part.start)
        return self._source.read(len(part))


SafeStream: TypeAlias = LimitedStream | SplicedStream
"""What Pillow reads."""
