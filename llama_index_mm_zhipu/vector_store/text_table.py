"""The full-text table: SQLite's FTS5 as an inverted index, without a copy of the texts and without positions.

A row id holds the length of a text above the row id of its node. The list of texts with a term, which FTS5 returns in
the order of row ids, thus has everything that BM25 needs to know of a text. FTS5's own ``bm25`` looks up the length of
each text in a table, which takes ten times as long as the list.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import numpy as np

from llama_index_mm_zhipu.vector_store.fulltext import TERM_CHARACTERS, TextTerms
from llama_index_mm_zhipu.vector_store.vector_file import Ids

_ID_BITS = 36
_MAX_LENGTH = (1 << 63 - _ID_BITS) - 1

_CHUNK = 16_384
_HASH_SIZE = 8 * 2**20
"""Texts that are written in the order of their row ids, and bytes of a segment that FTS5 collects in memory, by default
1 MiB. FTS5 writes a segment when the memory is full, and at every row id below the last. Many small segments, which it
then merges, make large transactions take twice as long."""


class TextSize(NamedTuple):
    """Size of all texts together.

    Attributes:
        texts: Number of texts that have a token.
        tokens: Number of their tokens.
        unicode: Version of the Unicode data by which all changes were made; empty if there were several.
    """

    texts: int = 0
    tokens: int = 0
    unicode: str = unicodedata.unidata_version

    @property
    def is_exact(self) -> bool:
        """Whether the table has the texts of the present nodes only.

        Another Python may know characters as letters or symbols that this one does not know, and split a text into
        other tokens. The terms of a text that was added by one and removed by the other may stay in the table.
        """
        return self.unicode == unicodedata.unidata_version

    def with_texts(self, added: TextSize) -> TextSize:
        """Return the size after texts were added."""
        return self._changed(self.texts + added.texts, self.tokens + added.tokens)

    def without_texts(self, removed: TextSize) -> TextSize:
        """Return the size after texts were removed."""
        return self._changed(max(0, self.texts - removed.texts), max(0, self.tokens - removed.tokens))

    def _changed(self, texts: int, tokens: int) -> TextSize:
        return TextSize(texts, tokens, self.unicode if self.is_exact else "")


class TextRows(NamedTuple):
    """Texts, by ascending length and row id of the node.

    Attributes:
        rows: Row ids of the full-text table.
    """

    rows: Ids

    @property
    def ids(self) -> Ids:
        """Row ids of the nodes."""
        ids: Ids = self.rows & (2**_ID_BITS - 1)
        return ids

    @property
    def lengths(self) -> Ids:
        """Ids of tokens."""
        lengths: Ids = self.rows >> _ID_BITS
        return lengths


def text_row(id_: int, length: int) -> int:
    """Return the row id of the text of a node.

    Args:
        id_: Row id of the node.
        length: Number of tokens.
    """
    return min(length, _MAX_LENGTH) << _ID_BITS | id_


def create(connection: sqlite3.Connection) -> None:
    """Create an empty full-text table in place of the one that there may be."""
    connection.execute("drop table if exists texts")
    # Terms are written normalised and separated by spaces; the tokenizer for ASCII changes them least.
    options = f"content = '', detail = none, columnsize = 0, tokenize = \"ascii tokenchars '{TERM_CHARACTERS}'\""
    connection.execute(f"create virtual table texts using fts5 (terms, {options})")
    connection.execute("insert into texts (texts, rank) values ('hashsize', ?)", (_HASH_SIZE,))


def add(connection: sqlite3.Connection, texts: Iterable[tuple[int, TextTerms]]) -> TextSize:
    """Add texts by row id of the node, and return their size."""
    return _write(connection, "insert into texts (rowid, terms) values (?, ?)", texts)


def remove(connection: sqlite3.Connection, texts: Iterable[tuple[int, TextTerms]]) -> TextSize:
    """Remove texts, given what was added, and return their size."""
    return _write(connection, "insert into texts (texts, rowid, terms) values ('delete', ?, ?)", texts)


def remove_all(connection: sqlite3.Connection) -> None:
    """Remove all texts."""
    connection.execute("insert into texts (texts) values ('delete-all')")


def rows_matching(connection: sqlite3.Connection, expression: str, limit: int | None = None) -> TextRows:
    """Return the texts that match an FTS5 expression, or the first of them."""
    # One text with all numbers is read three times as fast as a row for each.
    if limit is None:
        found = connection.execute("select group_concat(rowid) from texts where texts match ?", (expression,))
    else:
        first = "select rowid from texts where texts match ? order by rowid limit ?"
        found = connection.execute(f"select group_concat(rowid) from ({first})", (expression, limit))
    (numbers,) = found.fetchone()
    return TextRows(np.fromstring(numbers or "", dtype=np.int64, sep=","))


def count_matching(connection: sqlite3.Connection, expression: str) -> int:
    """Return the number of texts that match an FTS5 expression."""
    return int(connection.execute("select count(*) from texts where texts match ?", (expression,)).fetchone()[0])


def _write(connection: sqlite3.Connection, statement: str, texts: Iterable[tuple[int, TextTerms]]) -> TextSize:
    remaining = iter(texts)
    count = tokens = 0
    while True:
        # Lists of numbers and texts: tuples would keep Python's garbage collector busy.
        rows: list[int] = []
        terms: list[str] = []
        for id_, text in islice(remaining, _CHUNK):
            rows.append(text_row(id_, text.length))
            terms.append(text.terms)
            tokens += text.length
        if not rows:
            return TextSize(count, tokens)
        count += len(rows)
        in_order = sorted(range(len(rows)), key=rows.__getitem__)
        # FTS5 takes three times as long for statements of many rows.
        connection.executemany(statement, ((rows[place], terms[place]) for place in in_order))
