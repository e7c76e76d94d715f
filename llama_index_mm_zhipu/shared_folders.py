"""Folders that several processes use: made private, and cleared of what killed processes left."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment, unused-ignore]

PRIVATE = 0o700
"""Permissions of folders that hold somebody's data: for their owner alone."""

_STALE_SECONDS = 3600.0


def make_folder(folder: Path, mode: int = PRIVATE) -> None:
    """Make a folder and those above it that are missing; a folder that is there keeps its permissions.

    Args:
        folder: The folder.
        mode: Permissions of each folder that is made, whatever the umask.

    Raises:
        OSError: It cannot be made, or a file is in its place.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        try:
            each.mkdir()
        except FileExistsError:
            # Another process was faster.
            continue
        each.chmod(mode)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")


@contextlib.contextmanager
def write_lock(file: Path) -> Iterator[None]:
    """Hold a lock on a file, made if missing, by which ``stale_files`` tells that it is in work.

    The lock ends with the process, however that ends.

    Raises:
        OSError: The file cannot be made.
    """
    while True:
        with file.open("ab") as opened:
            if fcntl is not None:
                # Some network file systems know no locks: there, the age of the file tells.
                with contextlib.suppress(OSError):
                    fcntl.flock(opened, fcntl.LOCK_EX)
            # Another process may have removed it as stale before it was locked.
            if file.exists() and os.path.samestat(os.fstat(opened.fileno()), file.stat()):
                yield
                return


@contextlib.contextmanager
def stale_files(folder: Path, pattern: str) -> Iterator[list[Path]]:
    """Return the files of a pattern that no process holds with ``write_lock``, and hold them meanwhile.

    Args:
        folder: Where they lie; it need not exist.
        pattern: As for ``Path.glob``.
    """
    with contextlib.ExitStack() as held:
        stale = []
        for file in folder.glob(pattern):
            # Another process may just have removed it.
            with contextlib.suppress(FileNotFoundError):
                if not _is_locked(held.enter_context(file.open("rb"))):
                    stale.append(file)
        yield stale


def old_paths(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield the files and folders of a pattern that nobody changed for an hour: younger ones may be in work.

    Args:
        folder: Where they lie; it need not exist.
        pattern: As for ``Path.glob``.
    """
    for path in folder.glob(pattern):
        # Another process may just have removed it, or finished it under its own name.
        with contextlib.suppress(FileNotFoundError):
            if not _is_young(path):
                yield path


def _is_locked(opened: BinaryIO) -> bool:
    """Whether another process, or another handle of this one, holds a file."""
    if fcntl is None:
        return _is_young(Path(opened.name))
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return _is_young(Path(opened.name))
    return False


def _is_young(path: Path) -> bool:
    """Whether somebody changed a file or folder within the last hour, and so may still be at it."""
    return time.time() - path.stat().st_mtime <= _STALE_SECONDS
