"""``Checkpoint``: which parts of a data set are stored, in a SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index_mm_zhipu.distributed.parts import Part, SkippedImage
from llama_index_mm_zhipu.stores.transfer.manifest import Shard
from llama_index_mm_zhipu.vector_store.errors import StoreError

CHECKPOINT = "checkpoint.sqlite3"
"""Name of the file in its folder."""

LOCK = "embedding.lock"
"""Name of the file beside it that is locked during a run."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sources (position INTEGER PRIMARY KEY, source TEXT NOT NULL UNIQUE, parts INTEGER);
CREATE TABLE IF NOT EXISTS parts (
    source TEXT NOT NULL, number INTEGER NOT NULL, fingerprint TEXT NOT NULL, nodes INTEGER NOT NULL,
    file TEXT, bytes INTEGER, sha256 TEXT, PRIMARY KEY (source, number)
);
CREATE TABLE IF NOT EXISTS skipped (
    source TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL, stage TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS skipped_by_part ON skipped (source, number);
"""

_ENTRY = (
    "SELECT source, number, nodes, file, bytes, sha256, "
    "(SELECT count(*) FROM skipped s WHERE s.source = p.source AND s.number = p.number AND s.stage = ''), "
    "(SELECT count(*) FROM skipped s WHERE s.source = p.source AND s.number = p.number AND s.stage != '') FROM parts p"
)


@dataclass(frozen=True)
class PartEntry:
    """A stored part.

    Attributes:
        source: Key of its source.
        number: Its position in the source.
        nodes: How many nodes were stored.
        skipped: How many images were left out.
        incomplete: How many images were stored without the result of a stage.
        shard: Its file, if it has nodes and parts are files.
    """

    source: str
    number: int
    nodes: int
    skipped: int
    incomplete: int
    shard: Shard | None


class Checkpoint:
    """The stored parts of a data set; every change is on disk when the call returns.

    Args:
        path: The file, which is created if it is missing.

    Raises:
        StoreError: The file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.executescript(f"PRAGMA synchronous = FULL; BEGIN; {_SCHEMA} COMMIT;")
        except sqlite3.Error as error:
            raise StoreError(f"the checkpoint {path} cannot be used ({error}); remove it to begin again") from None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def is_empty(self) -> bool:
        """Return whether no part is stored."""
        [(is_empty,)] = self._db.execute("SELECT NOT EXISTS (SELECT 1 FROM parts)")
        return bool(is_empty)

    def settings(self) -> dict[str, Any]:
        """Return what ``set_settings`` recorded; empty at first."""
        return {key: json.loads(value) for key, value in self._db.execute("SELECT key, value FROM settings")}

    def set_settings(self, settings: Mapping[str, Any]) -> None:
        """Record settings, in place of those with the same keys."""
        with self._transaction():
            self._put_settings(settings)

    def begin_sources(self, sources: Sequence[str]) -> None:
        """Record that sources are read, after those that are known; they are unfinished until ``end_source``."""
        insert = "INSERT INTO sources (source) VALUES (?) ON CONFLICT (source) DO UPDATE SET parts = NULL"
        with self._transaction():
            self._db.executemany(insert, [(source,) for source in sources])

    def end_source(self, source: str, parts: int) -> None:
        """Record that all parts of a source are stored, and forget parts that it no longer has."""
        with self._transaction():
            self._db.execute("UPDATE sources SET parts = ? WHERE source = ?", (parts, source))
            self._db.execute("DELETE FROM parts WHERE source = ? AND number >= ?", (source, parts))
            self._db.execute("DELETE FROM skipped WHERE source = ? AND number >= ?", (source, parts))

    def add(self, part: Part, shard: Shard | None, settings: Mapping[str, Any]) -> None:
        """Record that a part is stored, in place of an earlier entry, and what it tells of the vectors."""
        place = (part.source, part.number)
        file = (shard.file, shard.bytes, shard.sha256) if shard else (None, None, None)
        with self._transaction():
            self._db.execute("DELETE FROM skipped WHERE source = ? AND number = ?", place)
            self._db.executemany(
                "INSERT INTO skipped VALUES (?, ?, ?, ?, ?)", [(*place, *each) for each in part.skipped]
            )
            entry = (*place, part.fingerprint, len(part.nodes), *file)
            self._db.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)", entry)
            self._put_settings(settings)

    def remove(self, entries: Iterable[PartEntry]) -> None:
        """Forget parts, which are then embedded again."""
        places = [(entry.source, entry.number) for entry in entries]
        with self._transaction():
            self._db.executemany("DELETE FROM parts WHERE source = ? AND number = ?", places)
            self._db.executemany("DELETE FROM skipped WHERE source = ? AND number = ?", places)

    def entries(self, sources: Sequence[str]) -> Iterator[PartEntry]:
        """Yield the stored parts of sources, in the given order of the sources, and by number."""
        for source in sources:
            yield from map(_entry_of, self._db.execute(f"{_ENTRY} WHERE source = ? ORDER BY number", (source,)))

    def entry(self, source: str, number: int) -> PartEntry:
        """Return a stored part."""
        found = self._db.execute(f"{_ENTRY} WHERE source = ? AND number = ?", (source, number)).fetchone()
        if found is None:
            raise StoreError(f"{self.path} was changed meanwhile: it lacks part {number} of {source}; run again")
        return _entry_of(found)

    def sources(self) -> list[str]:
        """Return the keys of all sources, in the order in which they were given."""
        return [source for (source,) in self._db.execute("SELECT source FROM sources ORDER BY position")]

    def unfinished_sources(self) -> list[str]:
        """Return the keys of the sources whose last run was interrupted."""
        query = "SELECT source FROM sources WHERE parts IS NULL ORDER BY position"
        return [source for (source,) in self._db.execute(query)]

    def skipped(self, sources: Sequence[str]) -> Iterator[SkippedImage]:
        """Yield the images of sources that were left out or are incomplete, in the order of the parts."""
        query = "SELECT name, reason, stage FROM skipped WHERE source = ? ORDER BY number, rowid"
        for source in sources:
            yield from (SkippedImage(*row) for row in self._db.execute(query, (source,)))

    def _put_settings(self, settings: Mapping[str, Any]) -> None:
        rows = [(key, json.dumps(value)) for key, value in settings.items()]
        self._db.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", rows)

    def _transaction(self) -> sqlite3.Connection:
        # Committed by the connection's context manager at the end of the block.
        self._db.execute("BEGIN IMMEDIATE")
        return self._db


def _entry_of(row: tuple[Any, ...]) -> PartEntry:
    source, number, nodes, file, size, sha256, skipped, incomplete = row
    shard = Shard(file, nodes, size, sha256) if file is not None else None
    return PartEntry(source, number, nodes, skipped, incomplete, shard)


def stored_fingerprints(path: Path, source: str) -> dict[int, str]:
    """Return the fingerprints of the stored parts of a source by number, without writing to the file."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT number, fingerprint FROM parts WHERE source = ?", (source,))
        return dict(rows.fetchall())
