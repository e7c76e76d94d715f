"""Preparation of a ``PGVectorStore``'s table: columns and indexes that are missing, and nodes that LlamaIndex wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llama_index.core.schema import BaseNode, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node
from sqlalchemy import DDL, Connection, MetaData, Table, bindparam, cast, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import TSVECTOR

from llama_index_mm_zhipu.images import searchable_text_of
from llama_index_mm_zhipu.stores.postgres.table import (
    TOKENS_VERSION_KEY,
    NodeTable,
    lock_key,
    quoted,
    stored_node,
    vector_of_text,
)
from llama_index_mm_zhipu.stores.postgres.text import text_vector
from llama_index_mm_zhipu.stores.records import records_of, uuid_of
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.fulltext import TOKENS_VERSION

_BATCH = 100
"""Rows in memory at a time. Each may hold an image."""

_COLUMNS = (
    "mm_key uuid",
    "mm_document uuid",
    "mm_order bigint",
    "mm_filter jsonb",
    "mm_tokens tsvector",
    "mm_length integer",
)

_INDEXES = (
    "(mm_document)",
    "(mm_order)",
    "using gin (mm_filter jsonb_path_ops)",
    "using gin (mm_tokens)",
    # Tells quickly whether there are texts, how many, and how long they are.
    "(mm_length) where mm_length > 0",
)

_COLUMN_TYPES = text(
    "select attname, format_type(atttypid, atttypmod) from pg_attribute "
    "where attrelid = cast(:table as regclass) and attnum > 0 and not attisdropped"
)


def prepare_table(connection: Connection, schema: str, table: str, dimension: int, name: str) -> NodeTable:
    """Return the table of a ``PGVectorStore``, after adding what is missing.

    Nothing is altered in a table that is complete, so that users who may not alter it can open it. Nodes that
    LlamaIndex wrote before are completed, which takes as long as adding them.

    Args:
        connection: Connection in a transaction: all is changed or nothing.
        schema: Name of the schema.
        table: Name of the table.
        dimension: Dimension of the vectors that the store expects.
        name: What errors call the table.

    Raises:
        StoreError: The table has vectors of another dimension, or holds a node twice.
    """
    nodes = _opened(connection, schema, table, dimension, name)
    if not _is_complete(connection, nodes):
        connection.execute(select(func.pg_advisory_xact_lock(lock_key(nodes.quoted_name))))
        if not _has_columns(connection, nodes):
            _add_columns(connection, nodes, name)
        elif not _is_complete(connection, nodes):
            _fill_tokens(connection, nodes)
        nodes.set_setting(connection, TOKENS_VERSION_KEY, TOKENS_VERSION)
    return nodes


def _opened(connection: Connection, schema: str, table: str, dimension: int, name: str) -> NodeTable:
    encoding = connection.scalar(text("show server_encoding"))
    if encoding != "UTF8":
        raise StoreError(
            f"{name}: the database has the encoding {encoding}, which lacks characters; make one with UTF8"
        )
    types = _types_of(connection, quoted(Table(table, MetaData(schema=schema))))
    vector_type = types.get("embedding", "")
    if vector_type not in (f"{kind}{size}" for kind in ("vector", "halfvec") for size in (f"({dimension})", "")):
        raise StoreError(
            f"{name} has vectors of the type {vector_type or 'none'}, not of dimension {dimension}; give PGVectorStore "
            "the embed_dim of the table, or another table_name"
        )
    return NodeTable(schema, table, vector_type, types["metadata_"])


def _types_of(connection: Connection, table: str) -> dict[str, str]:
    return {row.attname: row.format_type for row in connection.execute(_COLUMN_TYPES, {"table": table})}


def _has_columns(connection: Connection, nodes: NodeTable) -> bool:
    # Columns, indexes and the table of settings are added in one transaction.
    return "mm_key" in _types_of(connection, nodes.quoted_name)


def _is_complete(connection: Connection, nodes: NodeTable) -> bool:
    return _has_columns(connection, nodes) and nodes.get_setting(connection, TOKENS_VERSION_KEY) == TOKENS_VERSION


def _add_columns(connection: Connection, nodes: NodeTable, name: str) -> None:
    _require_each_node_once(connection, nodes, name)
    additions = ", ".join(f"add column {column}" for column in _COLUMNS)
    _run(connection, nodes, f"alter table %(nodes)s {additions}")
    _run(connection, nodes, "create unique index on %(nodes)s (mm_key)")
    nodes.settings.create(connection)
    _complete_nodes(connection, nodes)
    # A plain PGVectorStore would write rows that no search finds; with this it raises an error.
    required = ", ".join(f"alter column {column.split()[0]} set not null" for column in _COLUMNS)
    _run(connection, nodes, f"alter table %(nodes)s {required}")
    for index in _INDEXES:
        _run(connection, nodes, f"create index on %(nodes)s {index}")


def _run(connection: Connection, nodes: NodeTable, statement: str) -> None:
    connection.execute(DDL(statement, context={"nodes": nodes.quoted_name}))  # type: ignore[no-untyped-call]


def _require_each_node_once(connection: Connection, nodes: NodeTable, name: str) -> None:
    node_id = nodes.nodes.c.node_id
    twice = connection.scalar(select(node_id).group_by(node_id).having(func.count() > 1).limit(1))
    if twice is not None:
        raise StoreError(
            f"{name} holds the node {one_line(twice)} more than once; delete the older rows, or build the index in "
            "another table"
        )


# Rows that are there


def _complete_nodes(connection: Connection, nodes: NodeTable) -> None:
    """Replace the rows that LlamaIndex wrote."""
    columns = nodes.nodes.c
    vector = nodes.vector_text().label("vector")
    statement = select(columns.id, columns.node_id, columns.text, columns.metadata_, vector)
    for rows in _batches(connection, nodes, statement.where(columns.mm_key.is_(None))):
        read = [_node_of(*row) for _, *row in rows]
        records = records_of(read, uuid_of, None, {})
        connection.execute(delete(nodes.nodes).where(columns.id.in_([id_ for id_, *_ in rows])))
        nodes.upsert(connection, records)


def _node_of(node_id: str, content: str, metadata: dict[str, Any], vector: str) -> BaseNode:
    try:
        node = metadata_dict_to_node(metadata, content)
    except ValueError:
        # As LlamaIndex reads rows of its early versions.
        node = TextNode(id_=node_id, text=content, metadata=metadata)
    node.embedding = vector_of_text(vector).tolist()
    return node


def _fill_tokens(connection: Connection, nodes: NodeTable) -> None:
    """Write the full text again, as this version splits it."""
    columns = nodes.nodes.c
    change = (
        update(nodes.nodes)
        .where(columns.id == bindparam("row"))
        .values(mm_tokens=cast(bindparam("tokens"), TSVECTOR), mm_length=bindparam("length"))
    )
    statement = select(columns.id, *nodes.select_nodes(with_vectors=False).selected_columns)
    for rows in _batches(connection, nodes, statement):
        texts = [(id_, text_vector(searchable_text_of(stored_node(row).node()))) for id_, *row in rows]
        connection.execute(change, [{"row": id_, "tokens": tokens, "length": n} for id_, (tokens, n) in texts])


def _batches(connection: Connection, nodes: NodeTable, statement: Any) -> Iterator[Sequence[Any]]:
    """Yield the rows of a statement in batches, which may be changed meanwhile. The first column is ``id``."""
    id_ = nodes.nodes.c.id
    last = 0
    while rows := connection.execute(statement.where(id_ > last).order_by(id_).limit(_BATCH)).all():
        last = rows[-1][0]
        yield rows
