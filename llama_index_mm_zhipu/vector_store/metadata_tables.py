"""The tables of metadata: fields (key and kind), their distinct values, and which nodes have them.

Nodes refer to values by number. Numbers take a few bytes each, where keys and texts would be repeated with every node.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from llama_index_mm_zhipu.vector_store.conditions import LISTED, NUMBERS, TEXTS
from llama_index_mm_zhipu.vector_store.nodes import MetadataRow

_OF_FIELD = "from metadata_values where field = (select id from metadata_fields where key = ? and kind = ?)"


class MetadataExample(NamedTuple):
    """One of the values under a metadata key.

    Attributes:
        value: Text or number; booleans are 0 and 1.
        is_text: Whether the value is text.
        is_item: Whether the value is an item of a list.
    """

    value: str | int | float
    is_text: bool
    is_item: bool


class MetadataValues(NamedTuple):
    """Values under a metadata key, or items of lists under it.

    Attributes:
        texts: The first texts in order.
        numbers: The smallest and the largest number, perhaps repeated; booleans are 0 and 1.
    """

    texts: list[str]
    numbers: list[float]


# Writing


def insert_metadata(connection: sqlite3.Connection, ids: Sequence[int], rows: Iterable[Iterable[MetadataRow]]) -> None:
    """Insert the metadata rows of nodes.

    Args:
        connection: Connection with an open transaction.
        ids: Row ids of the nodes.
        rows: The metadata rows of each node.
    """
    numbers = _Numbers(connection)
    connection.executemany(
        # A list may contain a value twice.
        "insert or ignore into node_metadata values (?, ?, ?)",
        ((id_, *numbers[row]) for id_, of_node in zip(ids, rows, strict=True) for row in of_node),
    )


def delete_metadata(connection: sqlite3.Connection, packed_ids: str) -> None:
    """Delete the metadata rows of nodes, and the values and fields that no node has any more.

    The postings of the nodes must be deleted before.

    Args:
        connection: Connection with an open transaction.
        packed_ids: Row ids of the nodes as a JSON list.
    """
    query = f"select distinct field, value_id from node_metadata where id in ({LISTED})"
    numbers = connection.execute(query, (packed_ids,)).fetchall()
    connection.execute(f"delete from node_metadata where id in ({LISTED})", (packed_ids,))
    unused = "not exists (select 1 from {} where term = ?1)"
    connection.executemany(
        "delete from metadata_values where id = ?1 and "
        f"{unused.format('postings')} and {unused.format('recent_postings')}",
        ((value_id,) for _, value_id in numbers),
    )
    connection.executemany(
        "delete from metadata_fields where id = ?1 and not exists (select 1 from metadata_values where field = ?1)",
        ((field,) for field in {field for field, _ in numbers}),
    )


def clear_metadata(connection: sqlite3.Connection) -> None:
    """Delete the metadata rows of all nodes."""
    for table in ("node_metadata", "metadata_values", "metadata_fields"):
        connection.execute(f"delete from {table}")


class _Numbers(dict[MetadataRow, tuple[int, int]]):
    """The numbers of the field and the value of metadata rows, which are inserted where they are new.

    They are valid within one transaction: another one may delete values.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self._connection = connection
        self._fields: dict[tuple[str, str], int] = {}

    # 1 and 1.0 are one value, for Python and for SQLite.
    def __missing__(self, row: MetadataRow) -> tuple[int, int]:
        key, kind, value = row
        field = self._fields.get((key, kind))
        if field is None:
            field = self._fields[key, kind] = self._number("metadata_fields", "key, kind", (key, kind))
        self[row] = numbers = field, self._number("metadata_values", "field, value", (field, value))
        return numbers

    def _number(self, table: str, columns: str, values: tuple[int | str, int | str | float]) -> int:
        run = self._connection.execute
        found = run(f"select id from {table} where ({columns}) = (?, ?)", values).fetchone()
        if found is not None:
            return int(found[0])
        inserted = run(f"insert into {table} ({columns}) values (?, ?)", values)
        return int(inserted.lastrowid or 0)


# Reading


def metadata_keys(connection: sqlite3.Connection) -> list[str]:
    """Return the keys under which any node has metadata other than None, in order."""
    return [key for (key,) in connection.execute("select distinct key from metadata_fields order by key")]


def metadata_texts(connection: sqlite3.Connection, key: str) -> dict[str, str]:
    """Return the texts under a metadata key by node id."""
    query = (
        "select node_id, value from node_metadata as own join metadata_values on metadata_values.id = value_id "
        "join nodes on nodes.id = own.id "
        f"where own.field = (select id from metadata_fields where key = ? and kind = 'scalar') and {TEXTS}"
    )
    return dict(connection.execute(query, (key,)))


def metadata_examples(connection: sqlite3.Connection, key: str) -> list[MetadataExample]:
    """Return an example each of: a number, a text, a number in a list, a text in a list."""
    examples = []
    for row_kind in ("scalar", "item"):
        for is_text, test in ((False, NUMBERS), (True, TEXTS)):
            # Reads the first entry of a range of the index, whatever the number of values.
            query = f"select value {_OF_FIELD} and {test} order by value limit 1"
            for (value,) in connection.execute(query, (key, row_kind)):
                examples.append(MetadataExample(value, is_text, row_kind == "item"))
    return examples


def metadata_values(connection: sqlite3.Connection, key: str, limit: int) -> MetadataValues:
    """Return the first texts under a metadata key, and the smallest and the largest number."""
    texts: list[str] = []
    numbers: list[float] = []
    for row_kind in ("scalar", "item"):
        for order in ("asc", "desc"):
            query = f"select value {_OF_FIELD} and {NUMBERS} order by value {order} limit 1"
            numbers += [value for (value,) in connection.execute(query, (key, row_kind))]
        query = f"select value {_OF_FIELD} and {TEXTS} order by value limit ?"
        texts += [value for (value,) in connection.execute(query, (key, row_kind, limit))]
    return MetadataValues(sorted(set(texts))[:limit], sorted(numbers))
