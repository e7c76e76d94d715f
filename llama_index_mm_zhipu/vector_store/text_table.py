"""The full-text table: SQLite's FTS5 as an inverted index, without a copy of the texts and without positions.

A row id holds the length of a text above the row id of its node. The list of texts with a term, which FTS5 returns in
the order of row ids, thus has everything that BM25 needs to know of a text. FTS5's own ``bm25`` looks up the length of
each text in a table, which takes ten times as long as the list.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.vector_store.fulltext import TERM_CHARACTERS, TextTerms

_ID_BITS = 36
_MAX_LENGTH = 2 ** (63 - _ID_BITS) - 1

_CHUNK = 8_192
"""Texts that are written in the order of their row ids: FTS5 begins a new segment at every row id below the last."""

_ROWS_AT_ONCE = 1_000_000

Numbers = npt.NDArray[np.int64]


class TextSize(NamedTuple):
    """Size of all texts together.

    Attributes:
        texts: Number of texts that have a token.
        tokens: Number of their tokens.
    """

    texts: int = 0
    tokens: int = 0


class TextRows(NamedTuple):
    """Texts, by ascending length and row id of the node.

    Attributes:
        rows: Row ids of the full-text table.
    """

    rows: Numbers

    @property
    def ids(self) -> Numbers:
        """Row ids of the nodes."""
        ids: Numbers = self.rows & (2**_ID_BITS - 1)
        return ids

    @property
    def lengths(self) -> Numbers:
        """Numbers of tokens."""
        lengths: Numbers = self.rows >> _ID_BITS
        return lengths


def create(connection: sqlite3.Connection) -> None:
    """Create an empty full-text table in place of the one that there may be."""
    connection.execute("drop table if exists texts")
    # Terms are written normalised and separated by spaces; the tokenizer for ASCII changes them least.
    options = f"content = '', detail = none, columnsize = 0, tokenize = \"ascii tokenchars '{TERM_CHARACTERS}'\""
    connection.execute(f"create virtual table texts using fts5 (terms, {options})")


def add(connection: sqlite3.Connection, texts: Iterable[tuple[int, TextTerms]]) -> TextSize:
    """Add texts by row id of the node, and return their size."""
    return _write(connection, "insert into texts (rowid, terms) values (?, ?)", texts)


def remove(connection: sqlite3.Connection, texts: Iterable[tuple[int, TextTerms]]) -> TextSize:
    """Remove texts, given what was added, and return their size."""
    return _write(connection, "insert into texts (texts, rowid, terms) values ('delete', ?, ?)", texts)


def remove_all(connection: sqlite3.Connection) -> None:
    """Remove all texts."""
    connection.execute("insert into texts (texts) values ('delete-all')")


def rows_matching(connection: sqlite3.Connection, expression: str) -> TextRows:
    """Return the texts that match an FTS5 expression."""
    parts: list[Numbers] = []
    last = -1
    while True:
        # One text with all numbers is read three times as fast as a row for each.
        query = (
            "select count(*), group_concat(rowid) from "
            "(select rowid from texts where texts match ? and rowid > ? order by rowid limit ?)"
        )
        count, joined = connection.execute(query, (expression, last, _ROWS_AT_ONCE)).fetchone()
        if count:
            parts.append(np.fromstring(joined, dtype=np.int64, sep=","))
            last = int(parts[-1][-1])
        if count < _ROWS_AT_ONCE:
            return TextRows(np.concatenate(parts) if parts else np.empty(0, np.int64))


def _write(connection: sqlite3.Connection, statement: str, texts: Iterable[tuple[int, TextTerms]]) -> TextSize:
    remaining: Iterator[tuple[int, TextTerms]] = iter(texts)
    count = tokens = 0
    while chunk := list(islice(remaining, _CHUNK)):
        count += len(chunk)
        tokens += sum(text.length for _, text in chunk)
        rows = [(min(text.length, _MAX_LENGTH) << _ID_BITS | id_, text.terms) for id_, text in chunk]
        connection.executemany(statement, sorted(rows))
    return TextSize(count, tokens)
