"""Which database files this process has open, and which it inherited open across a fork.

SQLite must not be used across a fork, and not only by the handle that was open. The locks on a file belong to the
process that took them, and SQLite keeps a table of them in its own memory, which the child inherits. A file that the
child opens anew is taken for locked already: its handle holds no lock, and the parent, at closing, deletes the
write-ahead log under it (https://www.sqlite.org/howtocorrupt.html, section 2.6).
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import NamedTuple, Protocol

from llama_index_mm_zhipu.vector_store.errors import StoreError


class FileIdentity(NamedTuple):
    """What a path leads to, as long as somebody has it open.

    Attributes:
        device: Number of the file system.
        inode: Number of the file in it.
    """

    device: int
    inode: int


class OpenFile(Protocol):
    """Something that has a file open."""

    identity: FileIdentity | None


_open: weakref.WeakSet[OpenFile] = weakref.WeakSet()
_inherited: set[FileIdentity] = set()
_kept: list[OpenFile] = []


def identity_of(path: Path) -> FileIdentity | None:
    """Return the identity of the file at a path; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return FileIdentity(status.st_dev, status.st_ino)


def note_open(file: OpenFile) -> None:
    """Note that this process has a file open, until the object is forgotten or ``note_closed`` is called."""
    _open.add(file)


def note_closed(file: OpenFile) -> None:
    """Note that this process has closed a file."""
    _open.discard(file)


def require_not_inherited(path: Path) -> None:
    """Refuse a file that this process inherited open.

    Raises:
        StoreError: It did.
    """
    if identity_of(path) in _inherited:
        raise StoreError(
            f"the vector store {path} was open when this process was forked, and SQLite cannot open it safely here; "
            "start processes with multiprocessing's 'spawn' or 'forkserver', or close the store before forking"
        )


def _after_fork_in_child() -> None:
    files = list(_open)
    _inherited.update(file.identity for file in files if file.identity is not None)
    # Closing the inherited connections could delete a log that other processes need.
    _kept.extend(files)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
