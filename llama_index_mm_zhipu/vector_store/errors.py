"""What the store raises about its files and its model."""

from __future__ import annotations

import sqlite3

_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR")
_DAMAGE_MESSAGES = ("malformed", "not a database", "disk i/o error", "corrupt")
_SIZE_MESSAGES = ("too many", "too large", "too big", "stack overflow")


class StoreError(RuntimeError):
    """A store's files cannot be opened, read or written. The message names the file and says what to do."""


class ModelMismatchError(ValueError):
    """A store was filled with one embedding model and asked with another."""


def advice_on(error: sqlite3.Error) -> str:
    """Return what to do about an error of SQLite in reading; only a damaged file is to be restored from a backup."""
    message = str(error).lower()
    # Python 3.10 does not tell SQLite's name of the error.
    name = getattr(error, "sqlite_errorname", None)
    if name.startswith(_DAMAGE) if name else any(part in message for part in _DAMAGE_MESSAGES):
        return "the file or its disk is damaged; restore the file from a backup"
    if "locked" in message:
        return "another process is changing it; try again"
    if any(part in message for part in _SIZE_MESSAGES):
        return "SQLite cannot take so much in one call; give fewer ids or filters"
    return "the file is not damaged as far as SQLite can tell; if a new process gets the same error, report it"
