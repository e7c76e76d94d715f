"""Schema of a store's SQLite file: settings, tables with their migrations, and the full-text table."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from llama_index_mm_zhipu.images import searchable_text_of
from llama_index_mm_zhipu.reporting import report
from llama_index_mm_zhipu.text import counted
from llama_index_mm_zhipu.vector_store import text_table
from llama_index_mm_zhipu.vector_store.compact import compact_json_of
from llama_index_mm_zhipu.vector_store.conditions import register_functions
from llama_index_mm_zhipu.vector_store.contract import MODEL
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.fulltext import TOKENS_VERSION, terms_of
from llama_index_mm_zhipu.vector_store.metadata_values import metadata_rows
from llama_index_mm_zhipu.vector_store.nodes import NodeRow, node_from_row
from llama_index_mm_zhipu.vector_store.postings import fill_postings
from llama_index_mm_zhipu.vector_store.text_table import TextSize
from llama_index_mm_zhipu.vector_store.vector_file import VectorFiles, VectorLayout

PAGE_SIZE = 4096
"""Bytes, of new files. A change of one row writes its page."""

_SLOW_FROM = 50_000


class Setting:
    """Keys that the store itself uses in the table of settings. Values are JSON."""

    DIMENSION = "dimension"
    MODEL = MODEL
    INDEX_TYPE = "index_kind"
    SNAPSHOT = "snapshot"
    VECTORS = "vectors"
    FULL_TEXT = "full_text"
    TEXT_SIZE = "text_size"
    STORE_ID = "store_id"
    COPY = "copy"

    OF_THE_FILE = (DIMENSION, INDEX_TYPE, SNAPSHOT, VECTORS, FULL_TEXT, TEXT_SIZE, STORE_ID, COPY)
    """Settings that describe the file. All others belong to its nodes and go with them to another store."""


def prepare(connection: sqlite3.Connection, path: Path | None, initial_settings: Mapping[str, Any]) -> bool:
    """Bring a file, empty or of an earlier version, to the current schema in one transaction.

    A file that is current already is not written to. The full-text table is filled again if it was filled by other
    rules, or while SQLite had no FTS5.

    Args:
        connection: Connection to the file.
        path: The file, for error messages.
        initial_settings: Settings to record if the file is empty.

    Returns:
        Whether the file has full text. Some builds of SQLite lack FTS5, and then only the text modes are unavailable.

    Raises:
        StoreError: The file was written by a newer version of this package.
    """
    has_fts5 = _has_fts5(connection)
    # Without FTS5, nodes are added without tokens: a process that has FTS5 must then fill the table again.
    full_text = TOKENS_VERSION if has_fts5 else None
    if _is_current(connection, full_text):
        return has_fts5
    with transaction(connection):
        settings = initial_settings if version_of(connection) == 0 else {}
        # Nothing is left to do if another process prepared the file while this one waited for the lock.
        _migrate(connection, path)
        if not _is_current(connection, full_text):
            size = _fill_full_text(connection) if has_fts5 else None
            settings = {**settings, Setting.FULL_TEXT: full_text, Setting.TEXT_SIZE: size}
        set_settings(connection, settings)
    return has_fts5


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit all changes made inside, or none. Other writers wait from the beginning."""
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        # After some errors, such as a full disk, SQLite has already rolled back.
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def set_settings(connection: sqlite3.Connection, settings: Mapping[str, Any]) -> None:
    """Record settings, any JSON values."""
    connection.executemany(
        "insert or replace into settings values (?, ?)",
        [(key, json.dumps(value)) for key, value in settings.items()],
    )


def version_of(connection: sqlite3.Connection) -> int:
    """Return the schema version of a file; an empty file has version 0."""
    return int(connection.execute("pragma user_version").fetchone()[0])


def has_current_full_text(connection: sqlite3.Connection) -> bool:
    """Return whether the full-text table of a file that cannot be written to is usable."""
    return _has_fts5(connection) and _is_current(connection, TOKENS_VERSION)


# Migrations


def _rewrite_metadata_as_json(connection: sqlite3.Connection) -> None:
    """Replace the metadata that earlier versions wrote by ``str``, such as dates and enums, by JSON's values.

    Filters then see what a node has when it is read back.
    """
    (count,) = connection.execute("select count(*) from nodes").fetchone()
    if count > _SLOW_FROM:
        report(f"Updating the metadata of {counted(count, 'node')}, once …")
    for id_, content in connection.execute("select id, content from nodes"):
        stored = set(connection.execute("select key, kind, value from metadata where id = ?", (id_,)))
        rows = set(map(tuple, metadata_rows(json.loads(content).get("metadata") or {})))
        if rows != stored:
            connection.execute("delete from metadata where id = ?", (id_,))
            connection.executemany("insert into metadata values (?, ?, ?, ?)", ((id_, *row) for row in rows))


def _move_vectors_to_file(connection: sqlite3.Connection) -> None:
    """Move the vectors to a file of their own (``vector_file``), and forget the faiss file, which held them, too."""
    (count,) = connection.execute("select count(*) from vectors").fetchone()
    path = connection.execute("pragma database_list").fetchone()[2]
    if count:
        if count > _SLOW_FROM:
            report(f"Moving the vectors of {counted(count, 'node')} to a file of their own, once …")
        ids = np.fromiter((id_ for (id_,) in connection.execute("select id from vectors order by id")), np.int64, count)
        (dimension,) = connection.execute("select length(vector) / 4 from vectors limit 1").fetchone()
        (last_id,) = connection.execute("select seq from sqlite_sequence where name = 'nodes'").fetchone()
        layout = VectorLayout.new(dimension, count, last_id)
        rows = connection.execute("select vector from vectors order by id")
        blocks = (np.frombuffer(vector, "<f4") for (vector,) in rows)
        VectorFiles(Path(path) if path else None).create(layout, ids, blocks)
        set_settings(connection, {Setting.VECTORS: layout.as_setting()})
        row = connection.execute("select value from settings where key = ?", (Setting.SNAPSHOT,)).fetchone()
        if row is not None and (json.loads(row[0]) or {}).get("kind") == "flat":
            set_settings(connection, {Setting.SNAPSHOT: None})
    connection.execute("drop table vectors")


_COMPACT_TABLES = """
    create table compact_nodes (
        id integer primary key autoincrement,
        node_id text not null,
        ref_doc_id text,
        class_name text not null,
        content text not null,
        picture text
    );
    create table metadata_fields (id integer primary key, key text not null, kind text not null, unique (key, kind));
    create table metadata_values (
        id integer primary key, field integer not null, value not null, unique (field, value)
    );
    create table node_metadata (
        id integer not null, field integer not null, value_id integer not null, primary key (id, field, value_id)
    ) without rowid;
    create table postings (term integer not null, id integer not null, primary key (term, id)) without rowid;
    create table recent_postings (term integer not null, id integer not null, primary key (term, id)) without rowid
"""

_COMPACTION = """
    delete from sqlite_sequence where name = 'compact_nodes';
    insert into sqlite_sequence select 'compact_nodes', seq from sqlite_sequence where name = 'nodes';
    drop table nodes;
    alter table compact_nodes rename to nodes;
    create index nodes_by_picture on nodes (picture) where picture is not null;
    insert into metadata_fields (key, kind) select distinct key, kind from metadata order by key, kind;
    insert into metadata_values (field, value)
        select distinct metadata_fields.id, value from metadata_fields cross join metadata using (key, kind);
    insert into node_metadata select metadata.id, field, metadata_values.id
        from metadata cross join metadata_fields using (key, kind)
        cross join metadata_values on field = metadata_fields.id and metadata_values.value = metadata.value;
    drop table metadata
"""


def _make_nodes_compact(connection: sqlite3.Connection) -> None:
    """Store nodes as compact JSON, each metadata value once, and postings instead of indexes of ids and values."""
    (count,) = connection.execute("select count(*) from nodes").fetchone()
    if count > _SLOW_FROM:
        report(f"Making {counted(count, 'node')} smaller, once …")
    register_functions(connection)
    _run(connection, _COMPACT_TABLES)
    rows = connection.execute("select id, node_id, ref_doc_id, class_name, content, picture from nodes order by id")
    connection.executemany(
        "insert into compact_nodes values (?, ?, ?, ?, ?, ?)",
        (
            (id_, node_id, ref_doc_id, class_name, compact_json_of(content, class_name, ref_doc_id), image)
            for id_, node_id, ref_doc_id, class_name, content, image in rows
        ),
    )
    _run(connection, _COMPACTION)
    fill_postings(connection)


def _run(connection: sqlite3.Connection, statements: str) -> None:
    """Run statements that are separated by ``;``. ``executescript`` would commit the transaction."""
    for statement in statements.split(";"):
        connection.execute(statement)


MIGRATIONS: tuple[str | Callable[[sqlite3.Connection], None], ...] = (
    # Autoincrement never reuses an id, so that a vector belongs to its id for good.
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
    # One index suffices to test a filter on a node, and another one to list the nodes that meet it.
    """
    alter table metadata rename to metadata_1;
    create table metadata (
        id integer not null, key text not null, kind text not null, value not null,
        primary key (id, key, kind, value)
    ) without rowid;
    insert or ignore into metadata select id, key, kind, value from metadata_1 where value is not null;
    drop table metadata_1;
    create index metadata_by_value on metadata (key, kind, value, id);
    drop index nodes_by_picture;
    create index nodes_by_picture on nodes (picture) where picture is not null;
    """,
    # A copy records the id of the store that it was made from.
    """
    insert into settings values ('store_id', '"' || lower(hex(randomblob(16))) || '"');
    """,
    _rewrite_metadata_as_json,
    _move_vectors_to_file,
    _make_nodes_compact,
)
"""Steps from each schema version (``pragma user_version``) to the next, as SQL or as a function.

New steps are appended; the others must not be changed. SQL is split at ``;``, which literals must not contain.
"""


def _migrate(connection: sqlite3.Connection, path: Path | None) -> None:
    version = version_of(connection)
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} was written by a newer version of llama-index-mm-zhipu (schema {version}, "
            f"this one knows {len(MIGRATIONS)}); upgrade the package"
        )
    if version == len(MIGRATIONS):
        return
    for step in MIGRATIONS[version:]:
        if callable(step):
            step(connection)
        else:
            _run(connection, step)
    connection.execute(f"pragma user_version = {len(MIGRATIONS)}")


def _is_current(connection: sqlite3.Connection, full_text: int | None) -> bool:
    """Return whether a file has the current schema, and a full-text table of this tokens version (None: no table)."""
    if version_of(connection) != len(MIGRATIONS):
        return False
    row = connection.execute("select value from settings where key = ?", (Setting.FULL_TEXT,)).fetchone()
    return row is not None and json.loads(row[0]) == full_text


# Full text


def _has_fts5(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("select 1 from pragma_module_list where name = 'fts5'").fetchone())


def _fill_full_text(connection: sqlite3.Connection) -> TextSize:
    """Fill the full-text table from the nodes, few of which are in memory at a time; return its size."""
    (count,) = connection.execute("select count(*) from nodes").fetchone()
    if count > _SLOW_FROM:
        report(f"Filling the full text of {counted(count, 'node')}, once …")
    text_table.create(connection)
    rows = connection.execute("select id, node_id, ref_doc_id, class_name, content, picture from nodes")
    texts = ((id_, terms_of(searchable_text_of(node_from_row(NodeRow(*row), None)))) for id_, *row in rows)
    return text_table.add(connection, ((id_, terms) for id_, terms in texts if terms is not None))
