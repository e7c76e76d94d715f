"""Folders that several processes share: created private, with write locks that tell files in use from stale ones."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment, unused-ignore]

PRIVATE = 0o700
"""Permissions of folders with user data: only their owner has access."""

TEMPORARY = f".{'[0-9a-f]' * 32}.tmp"
"""Pattern for ``Path.glob`` of the files that ``replaced_file`` leaves if the process is killed."""

_STALE_SECONDS = 3600.0


def make_folder(folder: Path, mode: int = PRIVATE) -> None:
    """Create a folder and its missing parents; an existing folder keeps its permissions.

    Args:
        folder: The folder.
        mode: Permissions of each created folder, whatever the umask.

    Raises:
        OSError: The folder cannot be created, or its path is a file.
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
    """Hold a lock on a file, which is created if missing, so that ``stale_files`` leaves it out.

    The operating system releases the lock when the process ends, even if it is killed.

    Raises:
        OSError: The file cannot be created.
    """
    while True:
        with file.open("ab") as opened:
            if fcntl is not None:
                # Some network file systems have no locks; there, ``stale_files`` goes by the age of the file.
                with contextlib.suppress(OSError):
                    fcntl.flock(opened, fcntl.LOCK_EX)
            # Another process may have removed the file as stale before it was locked.
            if file.exists() and os.path.samestat(os.fstat(opened.fileno()), file.stat()):
                yield
                return


@contextlib.contextmanager
def replaced_file(file: Path) -> Iterator[BinaryIO]:
    """Yield a new file that takes the place of a file when the block ends; after an error, the file is as before.

    The new file and its name are on disk when the block has ended, so that they survive a power cut. If the process is
    killed, a file named by ``TEMPORARY`` may be left.

    Args:
        file: The file, which need not exist, in an existing folder.

    Raises:
        OSError: The file cannot be written.
    """
    temporary = file.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("x+b") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(file)
        # Some network file systems do not sync folders.
        with contextlib.suppress(OSError):
            sync_folder(file.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def stale_files(folder: Path, pattern: str) -> Iterator[list[Path]]:
    """Yield the matching files on which no process holds a ``write_lock``, and lock them until the block ends.

    Args:
        folder: Folder of the files; it need not exist.
        pattern: Pattern for ``Path.glob``.
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
    """Yield the matching files and folders that were not modified within the last hour; newer ones may be in use.

    Args:
        folder: Folder of the files; it need not exist.
        pattern: Pattern for ``Path.glob``.
    """
    for path in folder.glob(pattern):
        # Another process may just have removed or renamed it.
        with contextlib.suppress(FileNotFoundError):
            if not _is_recent(path):
                yield path


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk; Windows has no way to do that.

    Raises:
        OSError: The folder cannot be opened or flushed.
    """
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _is_locked(opened: BinaryIO) -> bool:
    """Lock an open file; return whether another process, or another handle of this one, already holds the lock."""
    if fcntl is None:
        return _is_recent(Path(opened.name))
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return _is_recent(Path(opened.name))
    return False


def _is_recent(path: Path) -> bool:
    """Return whether a file or folder was modified within the last hour."""
    return time.time() - path.stat().st_mtime <= _STALE_SECONDS
