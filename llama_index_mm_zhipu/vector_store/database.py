"""The SQLite file that is the truth of a vector store: schema, transactions, rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

MIGRATIONS: tuple[str, ...] = (
    # Ids are never used twice (autoincrement), so a vector belongs to its id for good.
    """
    create table settings (key text primary key, value text not null) without rowid;
    create table nodes (
        id integer primary key autoincrement,
        node_id text not null unique,
        ref_doc_id text,
        class_name text not null,
        content text not null,
        picture text
    );
    create index nodes_by_ref_doc on nodes (ref_doc_id);
    create index nodes_by_picture on nodes (picture);
    create table vectors (id integer primary key, vector blob not null);
    create table pictures (hash text primary key, data blob not null);
    create table metadata (id integer not null, key text not null, kind text not null, value);
    create index metadata_by_value on metadata (key, value, id);
    create index metadata_by_node on metadata (id);
    create table deletions (seq integer primary key autoincrement, id integer not null);
    """,
)
"""What brings a file from each version (``pragma user_version``) to the next; append only."""

_WAIT_FOR_WRITER_SECONDS = 30.0


class StoreError(RuntimeError):
    """A store's files cannot be opened or written. The message names the file and says what to do."""


class NodeRow(NamedTuple):
    """A node as it is kept.

    Attributes:
        node_id: LlamaIndex's id.
        ref_doc_id: Id of the document that it came from, if any.
        class_name: LlamaIndex's name of the node's class.
        content: The node as JSON, without its vector, and without its picture where ``picture`` is set.
        picture: SHA-256 of the picture's bytes, if it was given inline.
    """

    node_id: str
    ref_doc_id: str | None
    class_name: str
    content: str
    picture: str | None


class MetadataRow(NamedTuple):
    """A metadata value as filters see it.

    Attributes:
        key: Metadata key.
        kind: ``"scalar"``, ``"item"`` of a list, or ``"json"`` (a whole list or mapping as text).
        value: Text or number; booleans are 0 and 1, as they compare in Python.
    """

    key: str
    kind: str
    value: str | int | float


@dataclass(frozen=True)
class NewNode:
    """Everything that one node writes."""

    row: NodeRow
    vector: npt.NDArray[np.float32]
    metadata: Sequence[MetadataRow]
    picture: bytes | None
    tokens: str


@dataclass(frozen=True)
class Condition:
    """A boolean SQL expression over ``nodes``, with its parameters."""

    sql: str
    parameters: tuple[Any, ...] = ()

    def and_(self, other: Condition) -> Condition:
        """Both must hold."""
        return Condition(f"({self.sql}) and ({other.sql})", (*self.parameters, *other.parameters))


EVERY_NODE = Condition("true")


def one_of(column: str, values: Iterable[str | int]) -> Condition:
    """The column is one of the values, however many these are (SQLite limits the number of parameters)."""
    return Condition(f"{column} in (select value from json_each(?))", (json.dumps(list(values)),))


class Database:
    """One namespace's nodes in one SQLite file, or in memory.

    Args:
        path: The file, made with its schema if missing; None for a database in memory.

    Raises:
        StoreError: The file is no such database, is of a newer version, or cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        try:
            self._connection = sqlite3.connect(
                path or ":memory:",
                timeout=_WAIT_FOR_WRITER_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            # With WAL, readers never wait for the writer; FULL makes a commit survive a power cut.
            self._connection.execute("pragma journal_mode = wal")
            self._connection.execute("pragma synchronous = full")
            # SQLite's own lower() knows ASCII only.
            self._connection.create_function("lower", 1, _lower, deterministic=True)
            self._migrate()
            self.has_full_text = self._open_full_text()
        except sqlite3.Error as error:
            raise StoreError(f"cannot open the vector store {path}: {error}; is it a file of this package?") from None

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all that happens inside, or nothing.

        Raises:
            StoreError: SQLite could not write (disk full, folder read-only, another writer); nothing was changed.
        """
        try:
            self._connection.execute("begin immediate")
        except sqlite3.Error as error:
            raise self._not_written(error) from None
        try:
            yield
            self._connection.execute("commit")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            if isinstance(error, sqlite3.OperationalError):
                raise self._not_written(error) from None
            raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let all reads inside see one state of the database."""
        self._connection.execute("begin")
        try:
            yield
        finally:
            self._connection.execute("commit")

    def get_setting(self, key: str) -> Any:
        """Return a recorded setting, or None."""
        row = self._connection.execute("select value from settings where key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def set_setting(self, key: str, value: Any) -> None:
        """Record a setting (any JSON value); to be called in a transaction or alone."""
        self._connection.execute("insert or replace into settings values (?, ?)", (key, json.dumps(value)))

    def clear_settings(self) -> None:
        """Forget every recorded setting."""
        self._connection.execute("delete from settings")

    def insert(self, nodes: Sequence[NewNode]) -> list[int]:
        """Insert nodes whose node ids are not there, and return their row ids in order."""
        ids = [self._insert_row(node.row) for node in nodes]
        self._connection.executemany(
            "insert into vectors values (?, ?)",
            ((id_, new.vector.tobytes()) for id_, new in zip(ids, nodes, strict=True)),
        )
        self._connection.executemany(
            "insert into metadata values (?, ?, ?, ?)",
            ((id_, *row) for id_, new in zip(ids, nodes, strict=True) for row in new.metadata),
        )
        self._connection.executemany(
            "insert or ignore into pictures values (?, ?)",
            ((new.row.picture, new.picture) for new in nodes if new.picture is not None),
        )
        if self.has_full_text:
            self._connection.executemany(
                "insert into texts (rowid, tokens) values (?, ?)",
                ((id_, new.tokens) for id_, new in zip(ids, nodes, strict=True) if new.tokens),
            )
        return ids

    def delete(self, condition: Condition) -> list[int]:
        """Delete the nodes that meet a condition, log it for other processes, and return their row ids."""
        ids = self.select_ids(condition)
        packed = (json.dumps(ids),)
        of_these = "select value from json_each(?)"
        pictures = self._connection.execute(
            f"select distinct picture from nodes where id in ({of_these}) and picture is not null", packed
        ).fetchall()
        self._connection.execute(f"insert into deletions (id) {of_these}", packed)
        for table in ("nodes", "vectors", "metadata"):
            self._connection.execute(f"delete from {table} where id in ({of_these})", packed)
        if self.has_full_text:
            self._connection.execute(f"delete from texts where rowid in ({of_these})", packed)
        self._connection.executemany(
            "delete from pictures where hash = ?1 and not exists (select 1 from nodes where picture = ?1)", pictures
        )
        return ids

    def count(self) -> int:
        """Return the number of nodes."""
        return int(self._connection.execute("select count(*) from nodes").fetchone()[0])

    def select_ids(self, condition: Condition) -> list[int]:
        """Return the row ids of the nodes that meet a condition, oldest first."""
        query = f"select nodes.id from nodes where {condition.sql} order by nodes.id"
        return [id_ for (id_,) in self._connection.execute(query, condition.parameters)]

    def select_rows(self, condition: Condition) -> dict[int, tuple[NodeRow, bytes | None]]:
        """Return the nodes that meet a condition, with their pictures, by row id and oldest first."""
        query = (
            "select nodes.id, node_id, ref_doc_id, class_name, content, picture, data from nodes "
            f"left join pictures on pictures.hash = nodes.picture where {condition.sql} order by nodes.id"
        )
        rows = self._connection.execute(query, condition.parameters)
        return {id_: (NodeRow(*columns), data) for id_, *columns, data in rows}

    def search_text(self, expression: str, condition: Condition, limit: int) -> list[tuple[int, float]]:
        """Return the row ids of nodes whose text matches an FTS5 expression, and their BM25 scores, best first."""
        query = (
            "select nodes.id, -bm25(texts) from texts join nodes on nodes.id = texts.rowid "
            f"where texts match ? and ({condition.sql}) order by bm25(texts), nodes.id limit ?"
        )
        return list(self._connection.execute(query, (expression, *condition.parameters, limit)))

    def has_texts(self) -> bool:
        """Whether full text can find any node."""
        return self.has_full_text and bool(
            self._connection.execute("select exists (select 1 from texts)").fetchone()[0]
        )

    def vectors_after(self, last_id: int, batch: int = 4096) -> Iterator[tuple[list[int], npt.NDArray[np.float32]]]:
        """Yield the vectors of row ids above ``last_id``: ids, and an array of shape ``(n, dimension)``."""
        cursor = self._connection.execute("select id, vector from vectors where id > ? order by id", (last_id,))
        while rows := cursor.fetchmany(batch):
            vectors = np.frombuffer(b"".join(vector for _, vector in rows), dtype=np.float32)
            yield [id_ for id_, _ in rows], vectors.reshape(len(rows), -1)

    def deletions_after(self, last_deletion: int) -> tuple[list[int], int]:
        """Return the row ids deleted since a place in the log, and the log's end."""
        rows = self._connection.execute(
            "select seq, id from deletions where seq > ? order by seq", (last_deletion,)
        ).fetchall()
        return [id_ for _, id_ in rows], rows[-1][0] if rows else last_deletion

    def data_version(self) -> int:
        """Return a number that moves when another connection has committed a change."""
        return int(self._connection.execute("pragma data_version").fetchone()[0])

    def checkpoint(self) -> None:
        """Bring the write-ahead log into the database file."""
        self._connection.execute("pragma wal_checkpoint(truncate)")

    def backup(self, path: Path) -> None:
        """Copy the database, as it stands, to another file."""
        copy = sqlite3.connect(path)
        try:
            self._connection.backup(copy)
        finally:
            copy.close()

    def _insert_row(self, row: NodeRow) -> int:
        cursor = self._connection.execute(
            "insert into nodes (node_id, ref_doc_id, class_name, content, picture) values (?, ?, ?, ?, ?)", row
        )
        return int(cursor.lastrowid or 0)

    def _migrate(self) -> None:
        version = self._connection.execute("pragma user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self.path} was written by a newer version of llama-index-mm-zhipu (schema {version}, "
                f"this one knows {len(MIGRATIONS)}); upgrade the package"
            )
        for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
            # executescript would commit by itself, so the transaction is part of the script.
            self._connection.executescript(f"begin; {statements} pragma user_version = {number}; commit;")

    def _open_full_text(self) -> bool:
        """Make the full-text table; some builds of SQLite come without FTS5, and then only text modes are missing."""
        try:
            self._connection.execute("create virtual table if not exists texts using fts5 (tokens)")
        except sqlite3.OperationalError as error:
            if "no such module" in str(error):
                return False
            raise
        return True

    def _not_written(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"cannot write to the vector store {self.path}: {error}; nothing was changed")


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value
