"""Errors that the store raises, and advice for errors of SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR")
_DAMAGE_MESSAGES = ("malformed", "not a database", "disk i/o error", "corrupt")
_SIZE_MESSAGES = ("too many", "too large", "too big", "stack overflow")


class StoreError(RuntimeError):
    """A file of the store cannot be opened, read or written. The message names the file and a remedy.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("default.sqlite3").write_text("not a database")
        >>> FaissMultiModalVectorStore(".")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.vector_store.errors.StoreError: cannot open the vector store default.sqlite3: file
        is not a database; is it a file of this package, and may it be written to?
    """


class ModelMismatchError(ValueError):
    """The vectors in the store were made by another embedding model.

    Examples:
        >>> from llama_index.core.schema import TextNode
        >>> store = FaissMultiModalVectorStore(model=embed_model.fingerprint)
        >>> store.add([TextNode(id_="a", embedding=[1.0, 0.0])])
        ['a']
        >>> store.require_model("another model")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.vector_store.errors.ModelMismatchError: the store 'default' (in memory) was filled
        with the model CLIP-96px-256d sha256:..., not with another model; open it with that model, or build the
        index again in another folder
    """


class UnknownMetadataError(ValueError):
    """Filters ask for metadata that no node has.

    Args:
        message: What happened.
        unknown: The keys that no node has.
        known: The keys that nodes have.

    Examples:
        >>> from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
        >>> filters = MetadataFilters(filters=[MetadataFilter(key="price", value=10)])
        >>> index.as_retriever(filters=filters).retrieve("苹果")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.vector_store.errors.UnknownMetadataError: no image and no text has the metadata
        'price' that the filters ask for; there is 'file_name', '价格'
    """

    def __init__(self, message: str, *, unknown: Sequence[str] = (), known: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.unknown = list(unknown)
        self.known = list(known)


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
