"""Streams that Pillow reads image files from: bounded in reads and bytes, with errors that name the file."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias

from llama_index_mm_zhipu.images.errors import ImageError, describe
from llama_index_mm_zhipu.text import one_line

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

# Not to wait where the file became a pipe since it was looked at; Windows has no such flag.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def require_valid_path(path: Path) -> None:
    """Refuse a path that no file can have: the system's calls raise errors about it that do not name it.

    Raises:
        ImageError: It holds a NUL.
    """
    if "\0" in str(path):
        raise ImageError(f"cannot read the image {describe(path)}: no file can have this name")


def is_folder(path: Path) -> bool:
    """Whether a path is a folder.

    Raises:
        ImageError: That cannot be said, such as on a network share that does not answer.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise ImageError(f"cannot read the image {describe(path)}: {error.strerror or error}") from None


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        ImageError: There is no such file, it is of another kind, or may not be read.
    """
    try:
        # Looked at before, as opening some devices does something, and after, as it may be another file by then.
        _check_kind(path.stat().st_mode)
        stream = os.fdopen(os.open(path, _FLAGS), "rb")
        try:
            _check_kind(os.fstat(stream.fileno()).st_mode)
        except OSError:
            stream.close()
            raise
        return stream
    except FileNotFoundError:
        raise ImageError(f"no such image: {describe(path)}; check the path") from None
    except OSError as error:
        raise ImageError(f"cannot read the image {describe(path)}: {error.strerror or error}") from None
    except ValueError:
        raise ImageError(f"cannot read the image {describe(path)}: no file can have this name") from None


def read_file(path: Path) -> bytes:
    """Read a regular file.

    Raises:
        ImageError: There is no such file, it is of another kind, or cannot be read.
    """
    with open_file(path) as stream:
        try:
            return stream.read()
        except OSError as error:
            raise ImageError(f"cannot read the image {describe(path)}: {error.strerror or error}") from None


def _check_kind(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file")


MAX_READS = 1 << 20
"""Parsers read each chunk, segment or box on its own: more of them would take longer than a few seconds."""

MAX_BITMAP_READS = 1 << 22
"""The same for BMP, where compressed pixels are read two bytes at a time."""

_READ_FACTOR = 4
_READ_SLACK = 16 << 20

_MAX_ENDINGS = 8


class _BorrowedStream(io.RawIOBase):
    """A readable, seekable stream over a file of somebody else."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readall(self) -> bytes:
        """Read up to the end."""
        return self.read()

    def close(self) -> None:
        """Leave the file open: who opened it closes it."""


class LimitedStream(_BorrowedStream):
    """A binary file that may be read so many times, and so many bytes of it.

    A few bytes of a file can ask for more work than its size suggests: a million empty chunks, or thousands of TIFF
    tags that all point to the same megabyte. The limits are on the work, not on time, so the same file is always
    accepted or always refused.

    Args:
        file: Stays open.
        name: What to call it in errors.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__()
        self._file = file
        self._name = name
        self._reads_left = MAX_BITMAP_READS if self._is_bitmap() else MAX_READS
        self.size = self._seek(0, io.SEEK_END)
        self._bytes_left = _READ_FACTOR * self.size + _READ_SLACK
        self._seek(0, io.SEEK_SET)

    def read(self, size: int | None = -1) -> bytes:
        """Read bytes; fewer than asked for at the end of the file.

        Raises:
            ImageError: The file cannot be read, or was read more often than the limits allow.
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
                "it anew, or leave it out"
            )
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, and return it."""
        return self._seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def fileno(self) -> int:
        """Return the descriptor of the file, which lets libtiff read it without a copy in memory."""
        return self._file.fileno()

    def _is_bitmap(self) -> bool:
        self._seek(0, io.SEEK_SET)
        try:
            return self._file.read(2) == b"BM"
        except OSError as error:
            raise self._unreadable(error) from None

    def _seek(self, offset: int, whence: int) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError) -> ImageError:
        return ImageError(f"cannot read the image {self._name}: {one_line(error.strerror or str(error))}")


Piece: TypeAlias = bytes | range
"""Bytes in memory, or positions in a file."""


class PiecedStream(_BorrowedStream):
    """A file put together from pieces of another one and from bytes in memory.

    Args:
        source: The other file.
        pieces: In order; empty ones are allowed.
        ending: Returned by reads behind the last piece, a few times: a cut off JPEG file gets an end marker, without
            which the decoder would wait for more data.
    """

    def __init__(self, source: LimitedStream, pieces: Sequence[Piece], *, ending: bytes = b"") -> None:
        super().__init__()
        self._source = source
        self._pieces = pieces
        self.size = sum(map(len, pieces))
        self._position = 0
        self._ending = ending
        self._endings_left = _MAX_ENDINGS if ending else 0

    @property
    def was_extended(self) -> bool:
        """Whether the ending was read: the file lacks its own."""
        return bool(self._ending) and self._endings_left < _MAX_ENDINGS

    def read(self, size: int | None = -1) -> bytes:
        """Read bytes; fewer than asked for at the end.

        Raises:
            ImageError: The other file cannot be read, or was read more often than its limits allow.
        """
        wanted = self.size - self._position if size is None or size < 0 else size
        parts: list[bytes] = []
        for piece, start in self._rest():
            if wanted <= 0:
                break
            part = piece[start : start + wanted]
            data = part if isinstance(part, bytes) else self._from_source(part)
            parts.append(data)
            wanted -= len(data)
            self._position += len(data)
            if len(data) < len(part):
                break
        if not parts and wanted > 0 and self._endings_left:
            self._endings_left -= 1
            return self._ending
        return b"".join(parts)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def _rest(self) -> list[tuple[Piece, int]]:
        """Return the pieces from the position on, and where in each of them to start."""
        rest: list[tuple[Piece, int]] = []
        end = 0
        for piece in self._pieces:
            start, end = end, end + len(piece)
            if end > self._position:
                rest.append((piece, max(0, self._position - start)))
        return rest

    def _from_source(self, part: range) -> bytes:
        self._source.seek(part.start)
        return self._source.read(len(part))


SafeStream: TypeAlias = LimitedStream | PiecedStream
"""What Pillow is given to read."""
