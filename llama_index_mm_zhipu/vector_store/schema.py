"""The layout of a store's SQLite file, and the steps that bring older files to it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import NamedTuple

from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.transactions import transaction

PAGE_SIZE = 16384
"""Bytes. A vector of 512 dimensions fills half of SQLite's default page, of which the other half would be lost."""

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
)
"""What brings a file from each version (``pragma user_version``) to the next; append only, no ``;`` inside literals."""


class Setting:
    """Keys of the table of settings that the store itself uses."""

    DIMENSION = "dimension"
    MODEL = "model"
    INDEX_KIND = "index_kind"
    SNAPSHOT = "snapshot"
    FULL_TEXT = "full_text"


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
        kind: ``"scalar"``, ``"item"`` of a list, ``"none"`` (the item None), or ``"json"`` (a whole list or mapping).
        value: Text or number; booleans are 0 and 1, as they compare in Python.
    """

    key: str
    kind: str
    value: str | int | float


def migrate(connection: sqlite3.Connection, path: Path | None) -> None:
    """Bring a file, empty at first, to the newest version; all of a step or nothing.

    Raises:
        StoreError: The file is of a newer version than this package knows.
    """
    if _version(connection) == len(MIGRATIONS):
        return
    with transaction(connection):
        # Asked again: another process may have done it meanwhile.
        version = _version(connection)
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{path} was written by a newer version of llama-index-mm-zhipu (schema {version}, "
                f"this one knows {len(MIGRATIONS)}); upgrade the package"
            )
        for step in MIGRATIONS[version:]:
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"pragma user_version = {len(MIGRATIONS)}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("pragma user_version").fetchone()[0])
