"""The index of nodes by term: a term stands for a node's id, its document's id, or one of its metadata values.

A table of (term, row id) lists the nodes that have an id, belong to a document, or have a metadata value. The terms of
new nodes are spread over the whole table: with a million nodes, a batch of 2,048 would change nearly every page that it
touches for one row only, and SQLite writes each changed page twice. New rows therefore go to a small table first, and
are moved to the large one in order, many at a time. Queries read both (``conditions.POSTINGS``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from llama_index_mm_zhipu.vector_store.conditions import LISTED, POSTINGS, id_terms
from llama_index_mm_zhipu.vector_store.inserts import insert_numbers
from llama_index_mm_zhipu.vector_store.vector_file import Ids

# Several parts of a statement share this parameter.
_LISTED = LISTED.replace("?", "?1")

_MIN_INTERVAL = 2**16
_MAX_SHARE = 16


class Postings(NamedTuple):
    """Terms and the row ids of the nodes that have them.

    Attributes:
        terms: A term for each row id; terms and row ids may be repeated.
        ids: The row ids.
    """

    terms: Ids
    ids: Ids


def insert_postings(
    connection: sqlite3.Connection,
    first: int,
    node_ids: Sequence[str],
    ref_doc_ids: Sequence[str | None],
    of_values: Postings,
) -> None:
    """Insert the postings of new nodes.

    Args:
        connection: Connection with an open transaction.
        first: Row id of the first node.
        node_ids: Ids of the nodes.
        ref_doc_ids: Ids of their documents, if any.
        of_values: The postings of their metadata values.
    """
    last = first + len(node_ids) - 1
    with_document = [position for position, document in enumerate(ref_doc_ids) if document is not None]
    documents = [document for document in ref_doc_ids if document is not None]
    terms = np.concatenate([id_terms(node_ids), id_terms(documents), of_values.terms])
    ids = np.concatenate([np.arange(first, last + 1), first + np.array(with_document, np.int64), of_values.ids])
    # In the order of the table, each of its pages is looked for once.
    order = np.lexsort((ids, terms))
    insert_numbers(connection, "insert or ignore into recent_postings", terms[order], ids[order])
    # Whatever was inserted before, at most one interval of row ids is in the table of recent postings.
    interval = _interval(last)
    if (first - 1) // interval != last // interval:
        _move_recent_postings(connection)


def fill_postings(connection: sqlite3.Connection) -> None:
    """Insert the postings of all nodes into the large table, in order."""
    connection.execute(f"insert or ignore into postings {_terms('> 0')} order by 1, 2")


def delete_postings(connection: sqlite3.Connection, packed_ids: str) -> None:
    """Delete the postings of nodes that are still there, with their metadata.

    Args:
        connection: Connection with an open transaction.
        packed_ids: Row ids of the nodes as a JSON list.
    """
    pairs = connection.execute(_terms(f"in ({_LISTED})"), (packed_ids,)).fetchall()
    for table in POSTINGS:
        # SQLite would read the whole table for "(term, id) in (select …)".
        connection.executemany(f"delete from {table} where term = ? and id = ?", pairs)


def clear_postings(connection: sqlite3.Connection) -> None:
    """Delete the postings of all nodes."""
    for table in POSTINGS:
        connection.execute(f"delete from {table}")


def _move_recent_postings(connection: sqlite3.Connection) -> None:
    connection.execute("insert into postings select term, id from recent_postings order by term, id")
    connection.execute("delete from recent_postings")


def _interval(last: int) -> int:
    """Return how many row ids lie between two moves: a power of two, so that longer intervals end where short ones do.

    A move changes most pages of the large table. Their number grows with the store, and so must the interval.
    """
    return max(_MIN_INTERVAL, 1 << (last // _MAX_SHARE).bit_length() >> 1)


def _terms(ids: str) -> str:
    """Return the query of the terms and row ids of nodes, given the test of their ids."""
    return (
        f"select id_term(node_id) as term, id from nodes where id {ids} union all "
        f"select id_term(ref_doc_id), id from nodes where id {ids} and ref_doc_id is not null union all "
        f"select value_id, id from node_metadata where id {ids}"
    )
