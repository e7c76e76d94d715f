"""What is written to a store's SQLite file, always inside a transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llama_index_mm_zhipu.vector_store.conditions import LISTED, Condition
from llama_index_mm_zhipu.vector_store.nodes import NewNodes
from llama_index_mm_zhipu.vector_store.sessions import Reader


class Writer(Reader):
    """A reader that can also write; what it reads is what it has written so far."""

    def set_setting(self, key: str, value: Any) -> None:
        """Record a setting, any JSON value."""
        self._connection.execute("insert or replace into settings values (?, ?)", (key, json.dumps(value)))

    def clear_settings(self, keep: Sequence[str]) -> None:
        """Forget every recorded setting but these."""
        self._connection.execute(f"delete from settings where key not in ({LISTED})", (json.dumps(list(keep)),))

    def insert(self, new: NewNodes) -> None:
        """Insert nodes whose node ids are not there.

        Everything is handed over row by row: lists of all rows would keep Python's garbage collector busy for longer
        than the writing takes.
        """
        first = self._last_number("nodes") + 1
        ids = range(first, first + len(new))
        write_all = self._connection.executemany
        write_all("insert or ignore into pictures values (?, ?)", new.pictures())
        write_all(
            "insert into nodes values (?, ?, ?, ?, ?, ?)",
            ((id_, *row) for id_, row in zip(ids, new.rows(), strict=True)),
        )
        write_all("insert into vectors values (?, ?)", zip(ids, new.vectors, strict=True))
        write_all(
            "insert or ignore into metadata values (?, ?, ?, ?)",
            ((id_, *row) for id_, rows in zip(ids, new.metadata(), strict=True) for row in rows),
        )
        if self.has_full_text:
            write_all(
                "insert into texts (rowid, tokens) values (?, ?)",
                ((id_, tokens) for id_, tokens in zip(ids, new.tokens(), strict=True) if tokens),
            )

    def delete(self, condition: Condition) -> None:
        """Delete the nodes that meet a condition, and log it for whoever has an index of them."""
        ids = self.select_ids(condition)
        if not len(ids):
            return
        packed = (json.dumps(ids.tolist()),)
        run = self._connection.execute
        pictures = run(
            f"select distinct picture from nodes where id in ({LISTED}) and picture is not null", packed
        ).fetchall()
        run(f"insert into deletions (id) {LISTED}", packed)
        for table in ("nodes", "vectors", "metadata"):
            run(f"delete from {table} where id in ({LISTED})", packed)
        if self.has_full_text:
            run(f"delete from texts where rowid in ({LISTED})", packed)
        self._connection.executemany(
            "delete from pictures where hash = ?1 and not exists (select 1 from nodes where picture = ?1)", pictures
        )

    def cut_deletions(self, place: int) -> None:
        """Forget the log of deletions up to a place; who has not read so far compares all ids instead."""
        self._connection.execute("delete from deletions where seq <= ?", (place,))
