"""Picture files: only regular ones are opened, so that nothing ever waits for a pipe or a device."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from llama_index_mm_zhipu.images.errors_old import ImageError
from llama_index_mm_zhipu.images.errors import describe

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

# Not to wait where the file became a pipe since it was looked at; Windows has no such flag.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def require_possible(path: Path) -> None:
    """Refuse a path that no file can have: the system's calls raise errors about it that do not name it.

    Raises:
        ImageError: It holds a NUL.
    """
    if "\0" in str(path):
        raise ImageError(f"cannot read the picture {describe(path)}: no file can have this name")


def is_folder(path: Path) -> bool:
    """Whether a path is a folder.

    Raises:
        ImageError: That cannot be said, such as on a network share that does not answer.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise ImageError(f"cannot read the picture {describe(path)}: {error.strerror or error}") from None


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
        raise ImageError(f"no such picture: {describe(path)}; check the path") from None
    except OSError as error:
        raise ImageError(f"cannot read the picture {describe(path)}: {error.strerror or error}") from None
    except ValueError:
        raise ImageError(f"cannot read the picture {describe(path)}: no file can have this name") from None


def read_file(path: Path) -> bytes:
    """Read a regular file.

    Raises:
        ImageError: There is no such file, it is of another kind, or cannot be read.
    """
    with open_file(path) as stream:
        try:
            return stream.read()
        except OSError as error:
            raise ImageError(f"cannot read the picture {describe(path)}: {error.strerror or error}") from None


def _check_kind(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file")
