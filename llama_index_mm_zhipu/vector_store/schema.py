"""The steps that bring a store's SQLite file, empty at first, to the newest schema."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llama_index_mm_zhipu.reporting import report
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.fulltext import ASCII_SYMBOLS, TOKENS_VERSION, tokens_of
from llama_index_mm_zhipu.vector_store.nodes import NodeRow, Setting, metadata_rows, node_from_row


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write all that happens inside, or nothing; other writers wait from the beginning."""
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        # SQLite has rolled back by itself after some errors, a full disk among them.
        if connection.in_transaction:
            connection.execute("rollback")
        raise


_SLOW_FROM = 50_000


def _metadata_as_read(connection: sqlite3.Connection) -> None:
    """Let filters see metadata as it is read back: dates, enums and the like were kept as ``str`` spells them."""
    (count,) = connection.execute("select count(*) from nodes").fetchone()
    if count > _SLOW_FROM:
        report(f"Renewing the metadata of {count:,} nodes, once …")
    for id_, content in connection.execute("select id, content from nodes"):
        kept = set(connection.execute("select key, kind, value from metadata where id = ?", (id_,)))
        rows = set(map(tuple, metadata_rows(json.loads(content).get("metadata") or {})))
        if rows != kept:
            connection.execute("delete from metadata where id = ?", (id_,))
            connection.executemany("insert into metadata values (?, ?, ?, ?)", ((id_, *row) for row in rows))


MIGRATIONS: tuple[str | Callable[[sqlite3.Connection], None], ...] = (
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
    # A filter can be asked of one node, and its nodes can be listed, each from one index alone.
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
    # Copies tell which store they are of.
    """
    insert into settings values ('store_id', '"' || lower(hex(randomblob(16))) || '"');
    """,
    _metadata_as_read,
)
"""What brings a file from each version (``pragma user_version``) to the next; append only, no ``;`` inside
literals."""


def migrate(connection: sqlite3.Connection, path: Path | None) -> None:
    """Bring a file, empty at first, to the newest version; all of a step or nothing.

    Raises:
        StoreError: The file is of a newer version than this package knows.
    """
    if version_of(connection) == len(MIGRATIONS):
        return
    with transaction(connection):
        # Asked again: another process may have done it meanwhile.
        version = version_of(connection)
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{path} was written by a newer version of llama-index-mm-zhipu (schema {version}, "
                f"this one knows {len(MIGRATIONS)}); upgrade the package"
            )
        for step in MIGRATIONS[version:]:
            if callable(step):
                step(connection)
                continue
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"pragma user_version = {len(MIGRATIONS)}")


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of a file's schema; 0 of an empty file."""
    return int(connection.execute("pragma user_version").fetchone()[0])


def open_full_text(connection: sqlite3.Connection) -> bool:
    """Make the table, or make it anew if it was written by other rules or by an SQLite without FTS5.

    Returns:
        Whether there is full text; some builds of SQLite come without FTS5, and then only text modes are missing.
    """
    has_fts5 = _has_fts5(connection)
    wanted = json.dumps(TOKENS_VERSION) if has_fts5 else json.dumps(None)
    if _recorded(connection) == wanted:
        return has_fts5
    with transaction(connection):
        if _recorded(connection) != wanted:
            if has_fts5:
                _fill(connection)
            # Where there is no FTS5, nodes come and go without the table: the next one who has it fills it anew.
            connection.execute("insert or replace into settings values (?, ?)", (Setting.FULL_TEXT, wanted))
    return has_fts5


def has_current_full_text(connection: sqlite3.Connection) -> bool:
    """Whether a file that may only be read has the table as this version fills it."""
    return _has_fts5(connection) and _recorded(connection) == json.dumps(TOKENS_VERSION)


def _has_fts5(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("select 1 from pragma_module_list where name = 'fts5'").fetchone())


def _recorded(connection: sqlite3.Connection) -> str | None:
    row = connection.execute("select value from settings where key = ?", (Setting.FULL_TEXT,)).fetchone()
    return str(row[0]) if row else None


def _fill(connection: sqlite3.Connection) -> None:
    connection.execute("drop table if exists texts")
    # Tokens come normalised and set apart by spaces; this is the tokenizer that leaves them most alone.
    tokenizer = f"ascii tokenchars '_{ASCII_SYMBOLS}'"
    connection.execute(f'create virtual table texts using fts5 (tokens, tokenize = "{tokenizer}")')
    rows = connection.execute("select id, node_id, ref_doc_id, class_name, content, picture from nodes")
    texts = ((id_, tokens_of(node_from_row(NodeRow(*row), None).get_content())) for id_, *row in rows)
    connection.executemany(
        "insert into texts (rowid, tokens) values (?, ?)", ((id_, tokens) for id_, tokens in texts if tokens)
    )
