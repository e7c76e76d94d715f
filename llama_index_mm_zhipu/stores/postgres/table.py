"""The table of a ``PGVectorStore`` with the columns that an index needs beside LlamaIndex's own.

LlamaIndex's columns hold what LlamaIndex itself would write, so that a plain ``PGVectorStore`` reads the same table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pgvector.sqlalchemy import HALFVEC, VECTOR
from pydantic_core import from_json, to_json
from sqlalchemy import (
    BIGINT,
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    Uuid,
    bindparam,
    cast,
    delete,
    exists,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB, TSVECTOR, insert

from llama_index_mm_zhipu.stores.postgres.filters import (
    FilterCompiler,
    decode_text,
    encode_text,
    filter_document,
    json_text,
)
from llama_index_mm_zhipu.stores.postgres.text import text_vector
from llama_index_mm_zhipu.stores.records import Record, StoredNode, uuid_of
from llama_index_mm_zhipu.vector_store.contract import MODEL
from llama_index_mm_zhipu.vector_store.errors import ModelMismatchError
from llama_index_mm_zhipu.vector_store.vector_file import Vectors

_MAX_INDEXED_BYTES = 2_000
"""LlamaIndex indexes ``ref_doc_id``, and PostgreSQL's indexes take no longer values."""

TOKENS_VERSION_KEY = "mm:tokens_version"
"""Key in the table of settings of what ``clear`` leaves there."""


class NodeTable:
    """The table of nodes, and beside it the table of settings.

    Args:
        schema: Name of the schema.
        name: Name of the table.
        vector_type: Type of the vectors, such as ``vector(512)``.
        metadata_type: ``"json"`` or ``"jsonb"``.

    Attributes:
        nodes: The table of nodes. ``mm_key`` and ``mm_document`` are UUIDs that stand for the ids of node and document,
            ``mm_order`` grows with each node, ``mm_filter`` is what filters see, ``mm_tokens`` and ``mm_length`` are
            the text's tokens and their number.
        settings: The table of settings, values as JSON.
        filters: Compiles predicates to conditions on the nodes.
    """

    def __init__(self, schema: str, name: str, vector_type: str, metadata_type: str) -> None:
        self.nodes = Table(
            name,
            MetaData(schema=schema),
            Column("id", BIGINT, primary_key=True),
            Column("text", Text),
            Column("metadata_", JSONB() if metadata_type == "jsonb" else JSON()),
            Column("node_id", Text),
            Column("embedding", _vector_type(vector_type)),
            Column("mm_key", Uuid(as_uuid=False)),
            Column("mm_document", Uuid(as_uuid=False)),
            Column("mm_order", BIGINT),
            Column("mm_filter", JSONB),
            Column("mm_tokens", TSVECTOR),
            Column("mm_length", Integer),
        )
        self.settings = Table(
            settings_name(name), MetaData(schema=schema), Column("key", Text, primary_key=True), Column("value", Text)
        )
        columns = self.nodes.c
        self.filters = FilterCompiler(columns.mm_key, columns.mm_document, columns.mm_filter)

    @property
    def quoted_name(self) -> str:
        """Name with schema as PostgreSQL reads it, for ``regclass``."""
        return quoted(self.nodes)

    @property
    def content(self) -> ColumnElement[str]:
        """The node as JSON."""
        content: ColumnElement[str] = self.nodes.c.metadata_["_node_content"].astext
        return content

    def vector(self, vector: Vectors) -> ColumnElement[Any]:
        """Return a vector as a bound parameter."""
        return cast(bindparam(None, _vector_text(vector), type_=Text), self.nodes.c.embedding.type)

    def vector_text(self) -> ColumnElement[str]:
        """Return the column of vectors as text, for ``vector_of_text``."""
        return cast(self.nodes.c.embedding, Text)

    def any_node(self) -> ColumnElement[bool]:
        """Return whether there is any node."""
        return exists(select(self.nodes.c.id))

    # Nodes

    def select_nodes(self, *, with_vectors: bool) -> Select[Any]:
        """Return a statement that selects what ``stored_node`` needs."""
        columns = self.nodes.c
        node_type = columns.metadata_["_node_type"].astext
        vector = [self.vector_text().label("vector")] if with_vectors else []
        return select(columns.mm_key, columns.node_id, node_type, self.content, columns.mm_order, *vector)

    def upsert(self, connection: Connection, records: Iterable[Record]) -> None:
        """Insert records; each replaces the row with its key."""
        # In this order two writers never wait for each other.
        rows = [self._row(record) for record in sorted(records, key=lambda record: record.key)]
        columns = self.nodes.c
        # Texts that PostgreSQL converts: it then does not matter what the user's driver and engine make of lists.
        values = {name: cast(bindparam(name, type_=Text), columns[name].type) for name in rows[0]}
        statement = insert(self.nodes).values(values)
        new = {name: statement.excluded[name] for name in rows[0] if name != "mm_key"}
        connection.execute(statement.on_conflict_do_update(index_elements=[columns.mm_key], set_=new), rows)

    def _row(self, record: Record) -> dict[str, str]:
        tokens, length = text_vector(record.text)
        return {
            "text": _without_nul(_plain_text(record)),
            "metadata_": json_text(_llama_index_metadata(record)),
            "node_id": encode_text(record.node_id),
            "embedding": _vector_text(record.vector),
            "mm_key": record.key,
            "mm_document": uuid_of(record.ref_doc_id),
            "mm_order": str(record.order),
            "mm_filter": json_text(filter_document(record.rows)),
            "mm_tokens": tokens,
            "mm_length": str(length),
        }

    # Settings

    def write_settings(
        self, connection: Connection, new: Mapping[str, Any], everything: Mapping[str, Any], name: str, *, alone: bool
    ) -> bool:
        """Record settings, in the transaction that writes nodes.

        Writers share a lock, so that no other changes the settings before this one commits.

        Args:
            connection: The connection, in a transaction.
            new: Settings to record.
            everything: All settings, for an empty table.
            name: What errors call the table.
            alone: Whether no other writer may run. Only then are settings changed.

        Returns:
            Whether the settings are recorded. If not, the call has to be repeated ``alone``.

        Raises:
            ModelMismatchError: There are nodes of another embedding model.
        """
        self._lock(connection, alone=alone)
        stored = self._read_settings(connection)
        is_empty = not connection.scalar(select(self.any_node()))
        if not alone:
            return not is_empty and all(stored.get(key) == value for key, value in new.items())
        if is_empty:
            self.delete_settings(connection)
            new = {**everything, **new}
        elif new.get(MODEL, stored.get(MODEL)) != stored.get(MODEL) and MODEL in stored:
            raise ModelMismatchError(
                f"{name} was filled with the model {stored[MODEL]}, not with {new[MODEL]}; open it with that model, or "
                "build the index again in another table"
            )
        for key, value in new.items():
            self.set_setting(connection, key, value)
        return True

    def get_setting(self, connection: Connection, key: str) -> Any:
        """Return a setting, or None."""
        statement = select(self.settings.c.value).where(self.settings.c.key == encode_text(key))
        value = connection.scalar(statement)
        return None if value is None else json.loads(value)

    def set_setting(self, connection: Connection, key: str, value: Any) -> None:
        """Write a setting."""
        statement = insert(self.settings).values(key=encode_text(key), value=json.dumps(value))
        columns = self.settings.c
        connection.execute(
            statement.on_conflict_do_update(index_elements=[columns.key], set_={"value": statement.excluded.value})
        )

    def clear(self, connection: Connection) -> None:
        """Delete all nodes and settings."""
        self._lock(connection, alone=True)
        connection.execute(delete(self.nodes))
        self.delete_settings(connection)

    def delete_settings(self, connection: Connection) -> None:
        """Delete the settings of nodes."""
        connection.execute(delete(self.settings).where(self.settings.c.key != TOKENS_VERSION_KEY))

    def _read_settings(self, connection: Connection) -> dict[str, Any]:
        columns = self.settings.c
        rows = connection.execute(select(columns.key, columns.value))
        return {decode_text(key): json.loads(value) for key, value in rows}

    def _lock(self, connection: Connection, *, alone: bool) -> None:
        lock = func.pg_advisory_xact_lock if alone else func.pg_advisory_xact_lock_shared
        connection.execute(select(lock(lock_key(self.quoted_name))))


def stored_node(row: Sequence[Any]) -> StoredNode:
    """Return the node of a row of ``NodeTable.select_nodes``."""
    key, node_id, class_name, content, order, *vector = row
    return StoredNode(
        key, decode_text(node_id), class_name, content, order, vector_of_text(vector[0]) if vector else None
    )


def vector_of_text(text: str) -> Vectors:
    """Return a vector that was selected as text."""
    return np.asarray(from_json(text), np.float32)


def quoted(table: Table) -> str:
    """Return the name of a table with its schema as PostgreSQL reads it."""
    return ".".join('"{}"'.format(part.replace('"', '""')) for part in (table.schema or "public", table.name))


def settings_name(table: str) -> str:
    """Return the name of the table of settings; PostgreSQL would cut names of more than 63 bytes."""
    name = f"{table}_mm_settings"
    return name if len(name.encode()) <= 63 else f"mm_settings_{uuid_of(table)}"


def lock_key(table: str) -> ColumnElement[int]:
    """Return the number of the lock of writers to a table."""
    key: ColumnElement[int] = func.hashtextextended(f"llama-index-mm-zhipu {table}", 0)
    return key


def _llama_index_metadata(record: Record) -> dict[str, Any]:
    """Return what LlamaIndex's ``node_to_metadata_dict`` returns."""
    document = record.ref_doc_id
    if len(document.encode()) > _MAX_INDEXED_BYTES:
        document = uuid_of(document)
    ids = dict.fromkeys(("document_id", "doc_id", "ref_doc_id"), document)
    metadata: dict[str, Any] = _without_nul({**record.metadata, **ids})
    return {**metadata, "_node_content": record.content, "_node_type": record.class_name}


def _plain_text(record: Record) -> str:
    """Return the text of the node, without the page text that full text search looks at as well."""
    fields: dict[str, Any] = json.loads(record.content)
    resource = fields.get("text_resource") or {}
    return fields.get("text") or resource.get("text") or ""


def _without_nul(value: Any) -> Any:
    """Return JSON with U+FFFD for NUL, which PostgreSQL cannot store."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, Mapping):
        return {_without_nul(str(key)): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nul(item) for item in value]
    return value


def _vector_text(vector: Vectors) -> str:
    # Ten times as fast as Python's str.
    return to_json(vector.tolist()).decode()


def _vector_type(name: str) -> Any:
    kind, _, dimension = name.rstrip(")").partition("(")
    return (HALFVEC if kind == "halfvec" else VECTOR)(int(dimension) if dimension else None)
