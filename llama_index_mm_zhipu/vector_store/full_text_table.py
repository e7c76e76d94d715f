"""The FTS5 table of a store's file: made when missing, filled anew when it does not follow the nodes."""

from __future__ import annotations

import json
import sqlite3

from llama_index_mm_zhipu.vector_store.fulltext import ASCII_SYMBOLS, TOKENS_VERSION, tokens_of
from llama_index_mm_zhipu.vector_store.nodes import node_from_row
from llama_index_mm_zhipu.vector_store.schema_old import NodeRow, Setting
from llama_index_mm_zhipu.vector_store.transactions import transaction


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
