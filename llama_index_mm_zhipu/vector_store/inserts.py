"""Insertion of many rows: statements with many rows each, which take half the time of a statement for each row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice
from typing import Any

import numpy as np

from llama_index_mm_zhipu.vector_store.vector_file import Ids

# Older builds of SQLite take 999 parameters.
_PARAMETERS = 990
_NUMBERS_AT_ONCE = 2**16


def insert_rows(connection: sqlite3.Connection, into: str, width: int, rows: Iterable[Iterable[Any]]) -> None:
    """Insert rows of values.

    Args:
        connection: Connection with an open transaction.
        into: Beginning of the statement, up to ``values``.
        width: Number of values in a row.
        rows: The rows.
    """
    _insert(connection, into, width, chain.from_iterable(rows))


def insert_numbers(connection: sqlite3.Connection, into: str, *columns: Ids) -> None:
    """Insert rows of integers that are given as columns.

    Args:
        connection: Connection with an open transaction.
        into: Beginning of the statement, up to ``values``.
        *columns: An array for each column.
    """
    rows = np.column_stack(columns).ravel()
    # Python's integers take five times the memory of the array.
    parts = (rows[start : start + _NUMBERS_AT_ONCE].tolist() for start in range(0, len(rows), _NUMBERS_AT_ONCE))
    _insert(connection, into, len(columns), chain.from_iterable(parts))


def _insert(connection: sqlite3.Connection, into: str, width: int, values: Iterator[Any]) -> None:
    size = _PARAMETERS // width * width
    while block := list(islice(values, size)):
        connection.execute(_statement(into, width, len(block) // width), block)


@lru_cache
def _statement(into: str, width: int, rows: int) -> str:
    row = f"({', '.join('?' * width)})"
    return f"{into} values {', '.join([row] * rows)}"
