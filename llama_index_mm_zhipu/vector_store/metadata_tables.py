"""The tables of metadata: fields (key and kind), their distinct values, and which nodes have them.

Nodes refer to values by number. Numbers take a few bytes each, where keys and texts would be repeated with every node.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

from llama_index_mm_zhipu.vector_store.conditions import LISTED, NUMBERS, TEXTS
from llama_index_mm_zhipu.vector_store.inserts import insert_numbers, insert_rows
from llama_index_mm_zhipu.vector_store.metadata_values import MetadataColumn, MetadataValue
from llama_index_mm_zhipu.vector_store.postings import Postings

_NONE = np.empty(0, np.int64)
_VALUES_AT_ONCE = 500

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


def insert_metadata(connection: sqlite3.Connection, first: int, columns: Iterable[MetadataColumn]) -> Postings:
    """Insert the metadata of new nodes.

    Args:
        connection: Connection with an open transaction.
        first: Row id of the first node.
        columns: Their metadata.

    Returns:
        The postings of the values.
    """
    ids, fields, numbers = [_NONE], [_NONE], [_NONE]
    for key, kind, positions, values in columns:
        field = _number_of_field(connection, key, kind)
        number_of = _numbers_of_values(connection, field, list(dict.fromkeys(values))).__getitem__
        ids.append(first + np.asarray(positions, np.int64))
        fields.append(np.full(len(values), field))
        numbers.append(np.fromiter(map(number_of, values), np.int64, len(values)))
    rows = [np.concatenate(parts) for parts in (ids, fields, numbers)]
    by_id = np.argsort(rows[0], kind="stable")
    # A list may contain a value twice.
    insert_numbers(connection, "insert or ignore into node_metadata", *(column[by_id] for column in rows))
    return Postings(terms=rows[2], ids=rows[0])


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


def _number_of_field(connection: sqlite3.Connection, key: str, kind: str) -> int:
    """Return the number of a field, which is inserted if it is new."""
    found = connection.execute("select id from metadata_fields where (key, kind) = (?, ?)", (key, kind)).fetchone()
    if found is not None:
        return int(found[0])
    return int(connection.execute("insert into metadata_fields (key, kind) values (?, ?)", (key, kind)).lastrowid or 0)


# 1 and 1.0 are one value, for Python and for SQLite.
def _numbers_of_values(
    connection: sqlite3.Connection, field: int, values: Sequence[MetadataValue]
) -> dict[MetadataValue, int]:
    """Return the numbers of different values of a field, which are inserted where they are new."""
    numbers: dict[MetadataValue, int] = {}
    for start in range(0, len(values), _VALUES_AT_ONCE):
        some = values[start : start + _VALUES_AT_ONCE]
        query = f"select value, id from metadata_values where field = ? and value in ({', '.join('?' * len(some))})"
        numbers.update(connection.execute(query, (field, *some)))
    new = [value for value in values if value not in numbers]
    if not new:
        return numbers
    (last,) = connection.execute("select coalesce(max(id), 0) from metadata_values").fetchone()
    numbers.update(zip(new, count(last + 1)))
    rows = ((numbers[value], field, value) for value in new)
    insert_rows(connection, "insert into metadata_values (id, field, value)", 3, rows)
    return numbers


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
