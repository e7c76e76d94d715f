"""Errors that the store raises, and advice for errors of SQLite."""

from __future__ import annotations

import sqlite3

_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR")
_DAMAGE_MESSAGES = ("malformed", "not a database", "disk i/o error", "corrupt")
_SIZE_MESSAGES = ("too many", "too large", "too big", "stack overflow")


class StoreError(RuntimeError):
    """A file of the store cannot be opened, read or written. The message names the file and a remedy."""


class ModelMismatchError(ValueError):
    """The vectors in the store were made by another embedding model."""


def advice_on(error: sqlite3.Error) -> str:
    """Return what to do about an error that SQLite raised while reading.

    Restoring a backup is advised only if the file is damaged.
    """
    message = str(error).lower()
    # Python 3.10 has no sqlite_errorname.
    name = getattr(error, "sqlite_errorname", None)
    if name.startswith(_DAMAGE) if name else any(part in message for part in _DAMAGE_MESSAGES):
        return "the file or its disk is damaged; restore the file from a backup"
    if "locked" in message:
        return "another process is changing it; try again"
    if any(part in message for part in _SIZE_MESSAGES):
        return "the call is too large for SQLite; give fewer ids or filters"
    return "the file is not damaged as far as SQLite can tell; if a new process gets the same error, report it"
