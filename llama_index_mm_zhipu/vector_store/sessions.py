"""Queries and changes of a store's SQLite file, over one connection.

``Reader`` and ``Writer`` hold all SQL but that of the schema. A ``Database`` provides them inside of a transaction, so
that all reads of one call see the same state of the file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from llama_index.core.schema import BaseNode

from llama_index_mm_zhipu.images import searchable_text_of
from llama_index_mm_zhipu.shared_folders import stale_files
from llama_index_mm_zhipu.vector_store import metadata_tables, text_table
from llama_index_mm_zhipu.vector_store.conditions import (
    EVERY_NODE,
    LISTED,
    LISTED_IDS,
    Condition,
    Statement,
    nodes_with_ids,
)
from llama_index_mm_zhipu.vector_store.fulltext import TextTerms, terms_of_texts, tokens_of
from llama_index_mm_zhipu.vector_store.inserts import insert_rows
from llama_index_mm_zhipu.vector_store.metadata_tables import (
    MetadataExample,
    MetadataValues,
    clear_metadata,
    delete_metadata,
    insert_metadata,
)
from llama_index_mm_zhipu.vector_store.nodes import NewRows, NodeRow, node_from_row
from llama_index_mm_zhipu.vector_store.postings import clear_postings, delete_postings, insert_postings
from llama_index_mm_zhipu.vector_store.schema import Setting, set_settings
from llama_index_mm_zhipu.vector_store.text_table import TextRows, TextSize
from llama_index_mm_zhipu.vector_store.vector_file import (
    Ids,
    VectorFiles,
    VectorLayout,
    VectorRows,
    Vectors,
    path_of,
    pattern_of,
)

_LISTING_BUDGETS = (10_000, 400_000)
"""Steps of SQLite, up to a few milliseconds, in which each listing of a condition is tried before the first one is run
to its end."""

MIN_LISTING_BUDGET = 20_000
_LISTING_BUDGET_PER_NODE = 0.2

_KEPT_COUNT = 1_000
"""Minimum number of texts with a word that is kept: counting fewer takes no time, and most words are rare."""

_NODES_AT_ONCE = 1_000
_VECTORS_AT_ONCE = 4096


class Deletions(NamedTuple):
    """Entries of the log of deletions after a position.

    Attributes:
        ids: Row ids, in the order of deletion.
        end: Position of the end of the log.
        complete: False if the log was truncated after that position, so that ids are missing.
    """

    ids: Ids
    end: int
    complete: bool


class Reader:
    """Queries over one connection. The caller holds the lock of the connection.

    Args:
        connection: Open connection to a file with the current schema.
        has_full_text: Whether the file has a full-text table.
        vector_files: Its vector files; None if no vectors are read.
    """

    def __init__(
        self, connection: sqlite3.Connection, has_full_text: bool, vector_files: VectorFiles | None = None
    ) -> None:
        self.has_full_text = has_full_text
        self._connection = connection
        self._vector_files = vector_files
        self._text_counts: dict[str, int] = {}
        self._text_counts_version = (-1, -1)

    def get_setting(self, key: str) -> Any:
        """Return a recorded setting, or None."""
        row = self._connection.execute("select value from settings where key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def settings(self) -> dict[str, Any]:
        """Return all recorded settings by key."""
        return {key: json.loads(value) for key, value in self._connection.execute("select key, value from settings")}

    def row_id_of(self, node_id: str) -> int | None:
        """Return the row id of a node, or None."""
        row = self._connection.execute(*nodes_with_ids("node_id", [node_id])).fetchone()
        return int(row[0]) if row else None

    def last_changes(self) -> tuple[int, int]:
        """Return the last numbers of a node and of a deletion; every change of nodes increases one of them."""
        return self._last_number("nodes"), self.last_deletion()

    def select_ids(self, condition: Condition) -> Ids:
        """Return the row ids of the nodes that meet a condition, ascending."""
        # The listing that begins with the rarest of several filters is the cheapest. Trying them finds it.
        for budget in _LISTING_BUDGETS if len(condition.listings) > 1 else ():
            ids = self.select_ids_within(condition, budget)
            if ids is not None:
                return ids
        return self._listed(condition.listings[0])

    def select_ids_within(self, condition: Condition, budget: int) -> Ids | None:
        """Return the same ids as ``select_ids`` if listing them is cheap.

        Args:
            condition: Condition on the nodes.
            budget: Maximum steps of SQLite's virtual machine for each listing.

        Returns:
            The ids, or None if every listing would exceed the budget.
        """
        # SQLite calls the handler after that number of steps, and a true value interrupts the query.
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

    def select_matching(self, ids: Sequence[int], condition: Condition) -> set[int]:
        """Return the row ids among the given ones that are those of nodes that meet a condition."""
        # The rows of the nodes lie on many pages. They are only read for a condition that an unknown id would meet.
        is_met_by_unknown_ids = condition.reads_all
        nodes = f"nodes where id in ({LISTED}) and" if is_met_by_unknown_ids else f"({LISTED_IDS}) as nodes where"
        query = f"select nodes.id from {nodes} ({condition.test.sql})"
        rows = self._connection.execute(query, (json.dumps(list(ids)), *condition.test.parameters))
        return {id_ for (id_,) in rows}

    def nodes(self, ids: Sequence[int], include_images: bool = True) -> dict[int, BaseNode]:
        """Return nodes without their vectors by row id, in ascending order of the ids."""
        data, images = (
            ("data", "left join pictures on pictures.hash = nodes.picture") if include_images else ("null", "")
        )
        query = (
            f"select nodes.id, node_id, ref_doc_id, class_name, content, picture, {data} from nodes {images} "
            f"where nodes.id in ({LISTED}) order by nodes.id"
        )
        rows = self._connection.execute(query, (json.dumps(list(ids)),))
        return {id_: node_from_row(NodeRow(*columns), image) for id_, *columns, image in rows}

    def text_size(self) -> TextSize:
        """Return the size of all texts together."""
        return TextSize(*(self.get_setting(Setting.TEXT_SIZE) or ()))

    def text_rows(self, expression: str, limit: int | None = None) -> TextRows:
        """Return the texts that match an FTS5 expression, or the first of them in the order of their lengths."""
        return text_table.rows_matching(self._connection, expression, limit)

    def count_texts(self, expression: str) -> int:
        """Return the number of texts that match an FTS5 expression.

        FTS5 walks through all of them. Large numbers are thus kept until the next change of the database.
        """
        version = self.data_version()
        if version != self._text_counts_version:
            self._text_counts, self._text_counts_version = {}, version
        count = self._text_counts.get(expression)
        if count is None:
            count = text_table.count_matching(self._connection, expression)
            if count >= _KEPT_COUNT:
                self._text_counts[expression] = count
        return count

    def tokens_of_texts(self, ids: Sequence[int]) -> dict[int, str]:
        """Return the full-text tokens of nodes by row id; nodes without text are left out."""
        texts = {
            id_: tokens_of(searchable_text_of(node)) for id_, node in self.nodes(ids, include_images=False).items()
        }
        return {id_: tokens for id_, tokens in texts.items() if tokens}

    def count(self) -> int:
        """Return the number of nodes."""
        return int(self._connection.execute("select count(*) from nodes").fetchone()[0])

    def is_empty(self) -> bool:
        """Return whether there is no node."""
        return not self._connection.execute("select exists (select 1 from nodes)").fetchone()[0]

    def has_texts(self) -> bool:
        """Return whether full text can find any node."""
        return self.has_full_text and self.text_size().texts > 0

    def document_ids(self) -> list[str]:
        """Return the ids of the documents that nodes came from; a node without a source is its own document."""
        rows = self._connection.execute("select distinct coalesce(ref_doc_id, node_id) from nodes")
        return [document_id for (document_id,) in rows]

    def metadata_keys(self) -> list[str]:
        """Return the keys under which any node has metadata other than None, in order."""
        return metadata_tables.metadata_keys(self._connection)

    def metadata_texts(self, key: str) -> dict[str, str]:
        """Return the texts under a metadata key by node id."""
        return metadata_tables.metadata_texts(self._connection, key)

    def image_paths(self) -> dict[str, str]:
        """Return ``image_path`` by node id for the nodes that have one and no inline image."""
        path = "json_extract(content, '$.image_path')"
        query = f"select node_id, {path} from nodes where picture is null and {path} is not null"
        return dict(self._connection.execute(query))

    def metadata_examples(self, key: str) -> list[MetadataExample]:
        """Return an example each of: a number, a text, a number in a list, a text in a list."""
        return metadata_tables.metadata_examples(self._connection, key)

    def metadata_values(self, key: str, limit: int) -> MetadataValues:
        """Return the first texts under a metadata key, and the smallest and the largest number."""
        return metadata_tables.metadata_values(self._connection, key, limit)

    def ids_after(self, last_id: int, limit: int) -> Ids:
        """Return at most ``limit`` row ids above ``last_id``, ascending."""
        return self._listed(Statement("select id from nodes where id > ? order by id limit ?", (last_id, limit)))

    def vectors_after(self, last_id: int, limit: int) -> tuple[Ids, Vectors]:
        """Return ids ``(n,)`` and vectors ``(n, dim)`` of at most ``limit`` row ids above ``last_id``, ascending."""
        ids = self.ids_after(last_id, limit)
        return ids, self.vectors_of(ids)

    def vectors_of(self, ids: Sequence[int] | Ids) -> Vectors:
        """Return the vectors of row ids, in the given order, shape ``(n, dim)``; all ids must exist."""
        rows = self.vector_rows()
        return rows.read(np.asarray(ids, dtype=np.int64)) if rows is not None else np.empty((0, 0), np.float32)

    def vectors_of_nodes(self, node_ids: Sequence[str]) -> tuple[list[str], Vectors]:
        """Return the node ids that exist, in the order of insertion, and their vectors, shape ``(n, dim)``."""
        with_ids, parameters = nodes_with_ids("node_id", node_ids)
        query = f"select id, node_id from nodes where id in ({with_ids}) order by id"
        rows = self._connection.execute(query, parameters)
        found = dict(rows.fetchall())
        return list(found.values()), self.vectors_of(list(found))

    def vector_rows(self) -> VectorRows | None:
        """Return the vectors of all row ids; None if the store has none.

        Raises:
            FileNotFoundError: The vector file is missing, or another process has just replaced it.
        """
        layout = self.get_setting(Setting.VECTORS)
        return None if layout is None or self._vector_files is None else self._vector_files.open(VectorLayout(**layout))

    def deletions_after(self, position: int) -> Deletions:
        """Return the entries of the log of deletions after a position."""
        end = self.last_deletion()
        if end == position:
            return Deletions(np.empty(0, np.int64), end, complete=True)
        rows = self._connection.execute("select id from deletions where seq > ? order by seq", (position,)).fetchall()
        # Positions are consecutive, so that counting reveals missing rows.
        return Deletions(_column(rows), end, complete=len(rows) == end - position)

    def logged_deletions(self) -> int:
        """Return the number of entries in the log of deletions."""
        return int(self._connection.execute("select count(*) from deletions").fetchone()[0])

    def last_deletion(self) -> int:
        """Return the position of the end of the log of deletions."""
        return self._last_number("deletions")

    def data_version(self) -> tuple[int, int]:
        """Return a value that differs from that of the last call if any connection has changed the database since.

        SQLite's ``data_version`` counts the commits of other connections only. ``total_changes`` counts the rows that
        this connection wrote: a store in memory reads and writes through one connection.
        """
        others = int(self._connection.execute("pragma data_version").fetchone()[0])
        return others, self._connection.total_changes

    def backup(self, target: sqlite3.Connection) -> None:
        """Copy the current state of the database into another one."""
        self._connection.backup(target)

    def _last_number(self, table: str) -> int:
        row = self._connection.execute("select seq from sqlite_sequence where name = ?", (table,)).fetchone()
        return int(row[0]) if row else 0

    def _listed(self, listing: Statement) -> Ids:
        # One text of all ids is read four times faster than a row for each id.
        sql, parameters = listing
        (text,) = self._connection.execute(f"select group_concat(id) from ({sql})", parameters).fetchone()
        return sorted_and_unique(np.fromstring(text or "", dtype=np.int64, sep=","))


class Writer(Reader):
    """A reader that can also write. It reads its own uncommitted changes."""

    def set_settings(self, settings: Mapping[str, Any]) -> None:
        """Record settings, any JSON values."""
        set_settings(self._connection, settings)

    def clear_settings(self, keep: Sequence[str]) -> None:
        """Delete all recorded settings but these."""
        self._connection.execute(f"delete from settings where key not in ({LISTED})", (json.dumps(list(keep)),))

    def insert(self, new: NewRows) -> None:
        """Insert nodes whose ids do not exist yet.

        Rows are passed one by one: a list of all rows would keep Python's garbage collector busy for longer than SQLite
        takes to write them.
        """
        first = self._last_number("nodes") + 1
        ids = range(first, first + len(new.vectors))
        self._append_vectors(first, new.vectors)
        self._connection.executemany("insert or ignore into pictures values (?, ?)", new.images())
        rows = ((id_, *row) for id_, row in zip(ids, new.rows(), strict=True))
        insert_rows(self._connection, "insert into nodes", 6, rows)
        of_values = insert_metadata(self._connection, first, new.metadata())
        insert_postings(self._connection, first, new.node_ids, new.ref_doc_ids, of_values)
        if self.has_full_text:
            self._add_texts((id_, terms) for id_, terms in zip(ids, new.text_terms(), strict=True) if terms)

    def delete(self, condition: Condition) -> int:
        """Delete the nodes that meet a condition, and log their row ids for the faiss indexes of all processes.

        Returns:
            Number of nodes that were deleted.
        """
        ids = self.select_ids(condition)
        if not len(ids):
            return 0
        if self.has_full_text:
            self._delete_texts(ids)
        packed = (json.dumps(ids.tolist()),)
        run = self._connection.execute
        images = run(
            f"select distinct picture from nodes where id in ({LISTED}) and picture is not null", packed
        ).fetchall()
        run(f"insert into deletions (id) {LISTED}", packed)
        if condition is EVERY_NODE:
            clear_postings(self._connection)
            clear_metadata(self._connection)
        else:
            delete_postings(self._connection, *packed)
            delete_metadata(self._connection, *packed)
        run(f"delete from nodes where id in ({LISTED})", packed)
        self._connection.executemany(
            "delete from pictures where hash = ?1 and not exists (select 1 from nodes where picture = ?1)", images
        )
        return len(ids)

    def truncate_deletions(self, position: int) -> None:
        """Delete the log of deletions up to a position; an index that is behind it then compares all ids."""
        self._connection.execute("delete from deletions where seq <= ?", (position,))

    def use_vector_file(self, layout: VectorLayout, instead_of: VectorLayout) -> None:
        """Record a vector file that was written from the present one, after adding what was committed since.

        Args:
            layout: Layout of the new file; it has the rows up to ``after``.
            instead_of: Layout of the file that it was written from. Nothing is done if another one is in use now.
        """
        present = self.vector_rows()
        if present is None or present.layout != instead_of or self._vector_files is None:
            return
        rows = self._vector_files.open(layout)
        last_id = self._last_number("nodes")
        for first in range(layout.after + 1, last_id + 1, _VECTORS_AT_ONCE):
            ids = np.arange(first, min(first + _VECTORS_AT_ONCE, last_id + 1))
            rows.append(first, present.read(ids))
        self.set_settings({Setting.VECTORS: layout.as_setting()})

    def remove_stale_vector_files(self, database: Path) -> None:
        """Remove the vector files that were replaced, or that an interrupted call left.

        Processes that have one open keep it until they close it.
        """
        layout = self.get_setting(Setting.VECTORS)
        current = None if layout is None else path_of(database, VectorLayout(**layout))
        with stale_files(database.parent, pattern_of(database)) as stale:
            for file in stale:
                if file != current:
                    # Windows does not remove a file that another process has open; a later call does.
                    with suppress(PermissionError):
                        file.unlink(missing_ok=True)

    def _append_vectors(self, first: int, vectors: Vectors) -> None:
        rows = self.vector_rows()
        if rows is not None:
            rows.append(first, vectors)
        elif self._vector_files is not None:
            layout = VectorLayout.new(vectors.shape[1], after=first - 1)
            self._vector_files.create(layout, blocks=[vectors])
            self.set_settings({Setting.VECTORS: layout.as_setting()})

    def _add_texts(self, texts: Iterable[tuple[int, TextTerms]]) -> None:
        size, added = self.text_size(), text_table.add(self._connection, texts)
        if added.texts:
            self.set_settings({Setting.TEXT_SIZE: size.with_texts(added)})

    def _delete_texts(self, ids: Ids) -> None:
        """Delete the texts of nodes, which must still be there: the terms to delete are computed from their texts."""
        size = self.text_size()
        if len(ids) >= size.texts and len(ids) == self.count():
            text_table.remove_all(self._connection)
            self.set_settings({Setting.TEXT_SIZE: TextSize()})
            return
        removed = text_table.remove(self._connection, self._terms_of_texts(ids))
        if removed.texts:
            self.set_settings({Setting.TEXT_SIZE: size.without_texts(removed)})

    def _terms_of_texts(self, ids: Ids) -> Iterator[tuple[int, TextTerms]]:
        for start in range(0, len(ids), _NODES_AT_ONCE):
            nodes = self.nodes(ids[start : start + _NODES_AT_ONCE].tolist(), include_images=False)
            for id_, terms in zip(nodes, terms_of_texts(map(searchable_text_of, nodes.values())), strict=True):
                if terms is not None:
                    yield id_, terms


def listing_budget(nodes: int) -> int:
    """Return the budget of listing nodes before a search, in steps of SQLite.

    It is about a sixth of the time of a flat search. If it is exceeded, the nearest nodes, or the best texts, are
    searched first and tested.

    Args:
        nodes: Number of nodes in the store.
    """
    return max(MIN_LISTING_BUDGET, int(_LISTING_BUDGET_PER_NODE * nodes))


def sorted_and_unique(ids: Ids) -> Ids:
    """Return ids in ascending order, each once."""
    # numpy's "unique" hashes integers, which takes forty times longer than sorting them.
    if not np.all(ids[1:] > ids[:-1]):
        ids = np.sort(ids)
        ids = ids[np.append(True, ids[1:] != ids[:-1])]
    return ids


def _column(rows: Iterable[tuple[int]]) -> Ids:
    return np.fromiter(chain.from_iterable(rows), dtype=np.int64)
