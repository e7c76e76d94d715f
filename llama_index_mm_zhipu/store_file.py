"""Reads what a store says about itself from its SQLite file, without faiss, torch or llama-index-core.

Commands that only describe a store take a tenth of a second this way, and importing llama-index-core alone takes more
than one. ``vector_store`` writes these files; ``vector_store/schema.py`` defines their tables.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMAGES_FILE, TEXTS_FILE = "image.sqlite3", "default.sqlite3"
"""Names of the files of an index for its images and its texts."""

# SQLite creates an index of the write-ahead log, 32 KB.
_MIN_FREE = 32_768

EMBED_MODEL = "embed_model"
"""Key of the setting by which an index finds its embedding model again, see ``embedding.references``."""


INTERNAL_METADATA_KEYS = frozenset(
    {
        "content_hash",
        "image_label",
        "missing_image",
        "page_text",
        "page_text_lines",
        "page_text_source",
        "retrieval_scores",
        "source_location",
        "source_root",
        "stored_image",
    }
)
"""Keys under which this package keeps data of its own in the metadata of nodes, which no user filters by.

They are constants of ``readers.records``, ``images`` and ``query.labels``, which load llama-index-core.
"""


class StoreFileError(ValueError):
    """A file is no store, or is damaged; the message names it."""


@dataclass(frozen=True)
class StoreFile:
    """What a file of a store holds.

    Attributes:
        path: The file.
        nodes: Number of nodes.
        settings: The recorded settings by key, JSON values.
        schema: Version of the tables.
        bytes: Size of the file and of the files that belong to it.
        sources: Number of images by the folder or file that they were read from.
        metadata_keys: Keys under which nodes have metadata.
    """

    path: Path
    nodes: int
    settings: dict[str, Any]
    schema: int
    bytes: int
    sources: dict[str, int]
    metadata_keys: tuple[str, ...]


def read_store_file(path: Path) -> StoreFile:
    """Return what a file of a store holds; the file is not changed.

    Args:
        path: The SQLite file.

    Raises:
        FileNotFoundError: There is no such file.
        StoreFileError: The file is no store, or is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no store at {path}")
    try:
        with _opened(path) as connection:
            is_earlier = not _number(connection, _HAS_NUMBERED_VALUES)
            return StoreFile(
                path=path,
                nodes=_number(connection, "select count(*) from nodes"),
                settings={key: json.loads(value) for key, value in connection.execute("select * from settings")},
                schema=_number(connection, "pragma user_version"),
                bytes=_size(path),
                sources=dict(connection.execute(_EARLIER_SOURCES if is_earlier else _SOURCES)),
                metadata_keys=tuple(_keys(connection, is_earlier)),
            )
    except sqlite3.Error as error:
        reason = "the disk is full" if is_full(path.parent) else error
        raise StoreFileError(f"{path} cannot be read as a store: {reason}") from None


def is_full(folder: Path) -> bool:
    """Return whether the disk of a folder lacks the space that SQLite needs to open a file there.

    SQLite calls that "disk I/O error".
    """
    try:
        return shutil.disk_usage(folder).free < _MIN_FREE
    except OSError:
        return False


_SOURCES = """
    select value, (select count(*) from postings where term = metadata_values.id)
        + (select count(*) from recent_postings where term = metadata_values.id)
    from metadata_values where field in (select id from metadata_fields where key = 'source_root') order by value
"""
_KEYS = "select distinct key from metadata_fields order by key"

_HAS_NUMBERED_VALUES = "select count(*) from sqlite_master where name = 'metadata_values'"

# Earlier files have one table of metadata. Its index by key and value answers this without reading nodes.
_EARLIER_SOURCES = (
    "select value, count(*) from metadata where key = 'source_root' group by key, kind, value order by value"
)
_EARLIER_NEXT_KEY = "select key from metadata where key > ? order by key limit 1"


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    # A file in WAL mode whose log is not there is not open elsewhere. Reading it as immutable leaves no new log behind,
    # and needs no permission to create one.
    is_open = path.with_name(f"{path.name}-wal").exists()
    mode = "mode=ro" if is_open else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)
    try:
        yield connection
    finally:
        connection.close()


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def _keys(connection: sqlite3.Connection, is_earlier: bool) -> Iterator[str]:
    """Yield the distinct keys; in an earlier file each by a step in the index: there may be millions of values."""
    if not is_earlier:
        yield from (key for (key,) in connection.execute(_KEYS))
        return
    key = ""
    while (row := connection.execute(_EARLIER_NEXT_KEY, (key,)).fetchone()) is not None:
        (key,) = row
        yield key


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*") if file.is_file())
