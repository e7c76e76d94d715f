"""What is asked of a store's SQLite file."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE, LISTED, NUMBERS, TEXTS, Condition, Statement, among
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.nodes import NewNodes, NodeRow, Setting
from llama_index_mm_zhipu.vector_store.schema import transaction

Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


class Deletions(NamedTuple):
    """What was deleted since a place in the log.

    Attributes:
        ids: Row ids, in the order of deletion.
        end: The log's end.
        complete: False where the log was cut since that place, so that ids are missing.
    """

    ids: Ids
    end: int
    complete: bool


class MetadataExample(NamedTuple):
    """A value under a metadata key, for all of its kind.

    Attributes:
        value: Text or number; booleans are 0 and 1.
        is_text: Whether it is text.
        is_item: Whether it is an item of a list.
    """

    value: str | int | float
    is_text: bool
    is_item: bool


class Reader:
    """Queries over one connection. Whoever holds a reader holds its connection's lock.

    Args:
        connection: An open database with the newest schema.
        has_full_text: Whether there is a full-text table.
    """

    def __init__(self, connection: sqlite3.Connection, has_full_text: bool) -> None:
        self.has_full_text = has_full_text
        self._connection = connection

    def get_setting(self, key: str) -> Any:
        """Return a recorded setting, or None."""
        row = self._connection.execute("select value from settings where key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def select_ids(self, condition: Condition) -> Ids:
        """Return the row ids of the nodes that meet a condition, ascending."""
        # The rarest of several filters is the cheapest beginning, and trying tells which it is.
        for budget in _LISTING_BUDGETS if len(condition.listings) > 1 else ():
            ids = self.select_ids_within(condition, budget)
            if ids is not None:
                return ids
        return self._listed(condition.listings[0])

    def select_ids_within(self, condition: Condition, budget: int) -> Ids | None:
        """As ``select_ids``, if that takes little.

        Args:
            condition: What the nodes meet.
            budget: Steps of SQLite's virtual machine that may be spent on each listing.

        Returns:
            The ids, or None where every listing would exceed the budget.
        """
        # The handler is called once so many steps are done, and a true value ends the query.
        self._connection.set_progress_handler(lambda: 1, budget)
        try:
            for listing in condition.listings:
                try:
                    return self._listed(listing)
                except sqlite3.OperationalError as error:
                    if "interrupted" not in str(error):
                        raise
            return None
        finally:
            self._connection.set_progress_handler(None, 0)

    def select_those_that_meet(self, ids: Sequence[int], condition: Condition) -> set[int]:
        """Return which of these row ids meet a condition."""
        query = f"select nodes.id from nodes where nodes.id in ({LISTED}) and ({condition.test.sql})"
        rows = self._connection.execute(query, (json.dumps(list(ids)), *condition.test.parameters))
        return {id_ for (id_,) in rows}

    def select_rows(self, ids: Sequence[int]) -> dict[int, tuple[NodeRow, bytes | None]]:
        """Return nodes, with their images, by row id and in ascending order of these."""
        query = (
            "select nodes.id, node_id, ref_doc_id, class_name, content, picture, data from nodes "
            f"left join pictures on pictures.hash = nodes.picture where nodes.id in ({LISTED}) order by nodes.id"
        )
        rows = self._connection.execute(query, (json.dumps(list(ids)),))
        return {id_: (NodeRow(*columns), data) for id_, *columns, data in rows}

    def search_text(self, expression: str, condition: Condition, limit: int) -> list[tuple[int, float]]:
        """Return the row ids of nodes whose text matches an FTS5 expression, and their BM25 scores, best first."""
        restriction = "" if condition is EVERY_NODE else f"and ({condition.test.sql})"
        query = (
            "select nodes.id, -bm25(texts) from texts join nodes on nodes.id = texts.rowid "
            f"where texts match ? {restriction} order by bm25(texts), nodes.id limit ?"
        )
        return list(self._connection.execute(query, (expression, *condition.test.parameters, limit)))

    def is_empty(self) -> bool:
        """Whether there is no node."""
        return not self._connection.execute("select exists (select 1 from nodes)").fetchone()[0]

    def has_texts(self) -> bool:
        """Whether full text can find any node."""
        return self.has_full_text and bool(
            self._connection.execute("select exists (select 1 from texts)").fetchone()[0]
        )

    def document_ids(self) -> list[str]:
        """Return the ids of the documents that nodes came from; a node without a source is its own document."""
        rows = self._connection.execute("select distinct coalesce(ref_doc_id, node_id) from nodes")
        return [document_id for (document_id,) in rows]

    def metadata_keys(self) -> list[str]:
        """Return the keys under which any node has metadata other than None, in order."""
        # The index is entered once for each key: "select distinct" would read a row for each node.
        query = (
            "with recursive keys (key) as (select min(key) from metadata union all "
            "select (select min(key) from metadata where key > keys.key) from keys where key is not null) "
            "select key from keys where key is not null"
        )
        return [key for (key,) in self._connection.execute(query)]

    def metadata_texts(self, key: str) -> dict[str, str]:
        """Return the texts under a key by node id."""
        is_text = f"key = ? and kind = 'scalar' and {TEXTS}"
        query = f"select node_id, value from metadata join nodes using (id) where {is_text}"
        return dict(self._connection.execute(query, (key,)))

    def image_paths(self) -> dict[str, str]:
        """Return the paths of images in files by node id, without those whose bytes are in the store."""
        path = "json_extract(content, '$.image_path')"
        query = f"select node_id, {path} from nodes where picture is null and {path} is not null"
        return dict(self._connection.execute(query))

    def metadata_examples(self, key: str) -> list[MetadataExample]:
        """Return an example of each kind of value under a key: numbers, texts, and both as items of lists."""
        examples = []
        for row_kind in ("scalar", "item"):
            for is_text, test in ((False, NUMBERS), (True, TEXTS)):
                # The first entry of a range of the index, however many nodes there are.
                query = f"select value from metadata where key = ? and kind = ? and {test} order by value limit 1"
                for (value,) in self._connection.execute(query, (key, row_kind)):
                    examples.append(MetadataExample(value, is_text, row_kind == "item"))
        return examples

    def vectors_after(self, last_id: int, limit: int) -> tuple[Ids, Vectors]:
        """Return the vectors of row ids above ``last_id``, at most ``limit``, ascending: ids ``(n,)``, ``(n, dim)``."""
        return _unpacked(
            self._connection.execute(
                "select id, vector from vectors where id > ? order by id limit ?", (last_id, limit)
            )
        )

    def vectors_of(self, ids: Sequence[int] | Ids) -> Vectors:
        """Return the vectors of row ids, all of which must be there, in their order: shape ``(n, dim)``."""
        query = f"select id, vector from vectors where id in ({LISTED}) order by id"
        found, vectors = _unpacked(self._connection.execute(query, (json.dumps([int(id_) for id_ in ids]),)))
        return vectors[np.searchsorted(found, np.asarray(ids, dtype=np.int64))]

    def vectors_of_nodes(self, node_ids: Sequence[str]) -> tuple[list[str], Vectors]:
        """Return the node ids that are there, as they were added, and their vectors, shape ``(n, dim)``."""
        test, parameters = among("node_id", node_ids)
        query = (
            "select nodes.id, node_id, vector from nodes join vectors on vectors.id = nodes.id "
            f"where {test} order by nodes.id"
        )
        rows = self._connection.execute(query, parameters).fetchall()
        _, vectors = _unpacked([(id_, vector) for id_, _, vector in rows])
        return [node_id for _, node_id, _ in rows], vectors

    def deletions_after(self, place: int) -> Deletions:
        """Return what was deleted since a place in the log."""
        end = self.last_deletion()
        if end == place:
            return Deletions(np.empty(0, np.int64), end, complete=True)
        rows = self._connection.execute("select id from deletions where seq > ? order by seq", (place,)).fetchall()
        # Numbers in the log are consecutive, so missing rows are seen.
        return Deletions(_column(rows), end, complete=len(rows) == end - place)

    def last_deletion(self) -> int:
        """Return the end of the log of deletions."""
        return self._last_number("deletions")

    def data_version(self) -> tuple[int, int]:
        """Return what differs from the last call's result whenever the database has changed, through any connection.

        SQLite's ``data_version`` counts the commits of other connections only; ``total_changes`` counts the rows that
        this connection has written, which matters in memory, where one connection both reads and writes.
        """
        others = int(self._connection.execute("pragma data_version").fetchone()[0])
        return others, self._connection.total_changes

    def backup(self, target: sqlite3.Connection) -> None:
        """Copy the database, as it stands, into another."""
        self._connection.backup(target)

    def _last_number(self, table: str) -> int:
        row = self._connection.execute("select seq from sqlite_sequence where name = ?", (table,)).fetchone()
        return int(row[0]) if row else 0

    def _listed(self, listing: Statement) -> Ids:
        return np.unique(_column(self._connection.execute(*listing).fetchall()))


_LISTING_BUDGETS = (5_000, 200_000)
"""Steps, up to a few milliseconds, that each beginning of a listing is tried for before one is taken whatever it
costs."""


def _column(rows: list[tuple[int]]) -> Ids:
    return np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=len(rows))


def _unpacked(rows: Iterable[tuple[int, bytes]]) -> tuple[Ids, Vectors]:
    fetched = list(rows)
    vectors = np.frombuffer(b"".join([vector for _, vector in fetched]), dtype=np.float32)
    ids = np.fromiter((id_ for id_, _ in fetched), dtype=np.int64, count=len(fetched))
    return ids, vectors.reshape(len(fetched), -1) if fetched else vectors.reshape(0, 0)


class Writer(Reader):
    """A reader that can also write; what it reads is what it has written so far."""

    def set_setting(self, key: str, value: Any) -> None:
        """Record a setting, any JSON value."""
        self._connection.execute("insert or replace into settings values (?, ?)", (key, json.dumps(value)))

    def clear_settings(self, keep: Sequence[str]) -> None:
        """Forget every recorded setting but these."""
        self._connection.execute(f"delete from settings where key not in ({LISTED})", (json.dumps(list(keep)),))

    def insert(self, new: NewNodes) -> None:
        """Insert nodes whose node ids are not there.

        Everything is handed over row by row: lists of all rows would keep Python's garbage collector busy for longer
        than the writing takes.
        """
        first = self._last_number("nodes") + 1
        ids = range(first, first + len(new))
        write_all = self._connection.executemany
        write_all("insert or ignore into pictures values (?, ?)", new.images())
        write_all(
            "insert into nodes values (?, ?, ?, ?, ?, ?)",
            ((id_, *row) for id_, row in zip(ids, new.rows(), strict=True)),
        )
        write_all("insert into vectors values (?, ?)", zip(ids, new.vectors, strict=True))
        write_all(
            "insert or ignore into metadata values (?, ?, ?, ?)",
            ((id_, *row) for id_, rows in zip(ids, new.metadata(), strict=True) for row in rows),
        )
        if self.has_full_text:
            write_all(
                "insert into texts (rowid, tokens) values (?, ?)",
                ((id_, tokens) for id_, tokens in zip(ids, new.tokens(), strict=True) if tokens),
            )

    def delete(self, condition: Condition) -> None:
        """Delete the nodes that meet a condition, and log it for whoever has an index of them."""
        ids = self.select_ids(condition)
        if not len(ids):
            return
        packed = (json.dumps(ids.tolist()),)
        run = self._connection.execute
        images = run(
            f"select distinct picture from nodes where id in ({LISTED}) and picture is not null", packed
        ).fetchall()
        run(f"insert into deletions (id) {LISTED}", packed)
        for table in ("nodes", "vectors", "metadata"):
            run(f"delete from {table} where id in ({LISTED})", packed)
        if self.has_full_text:
            run(f"delete from texts where rowid in ({LISTED})", packed)
        self._connection.executemany(
            "delete from pictures where hash = ?1 and not exists (select 1 from nodes where picture = ?1)", images
        )

    def cut_deletions(self, place: int) -> None:
        """Forget the log of deletions up to a place; who has not read so far compares all ids instead."""
        self._connection.execute("delete from deletions where seq <= ?", (place,))


def write_copy(reader: Reader, path: Path) -> None:
    """Copy a database, as it stands, to another file, whose earlier content is kept if that fails.

    Args:
        reader: Of the database.
        path: The file; its folder must be there.

    Raises:
        StoreError: The file holds nodes, and is no earlier copy of this database or was changed since.
        sqlite3.Error: It cannot be written.
    """
    store_id = reader.get_setting(Setting.STORE_ID)
    _require_copy_of(store_id, path)
    with closing(sqlite3.connect(path.absolute(), isolation_level=None)) as target:
        reader.backup(target)
        writer = Writer(target, reader.has_full_text)
        with transaction(target):
            # The copy is a store of its own, which has no faiss file yet.
            writer.set_setting(Setting.STORE_ID, uuid.uuid4().hex)
            writer.set_setting(Setting.SNAPSHOT, None)
            writer.set_setting(Setting.COPY, {"of": store_id, "numbers": _numbers_of(target)})


def _require_copy_of(store_id: str, path: Path) -> None:
    if not path.is_file() or path.stat().st_size == 0:
        return
    refused = "choose another folder or namespace, or remove the file first; nothing was copied"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as target:
            earlier = Reader(target, has_full_text=False)
            if earlier.is_empty():
                return
            copy: dict[str, Any] = earlier.get_setting(Setting.COPY) or {}
            unchanged = copy.get("numbers") == _numbers_of(target)
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path} is no vector store that this one may replace ({error}); {refused}") from None
    if copy.get("of") != store_id:
        raise StoreError(f"{path} holds another vector store; {refused}")
    if not unchanged:
        raise StoreError(f"{path} is a copy of this vector store that was written to since; {refused}")


def _numbers_of(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the last number of each table that never uses one twice: any change of nodes raises one."""
    return dict(connection.execute("select name, seq from sqlite_sequence order by name"))
