"""Statements of many rows insert each row once, whatever their number."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import numpy as np
import pytest

from llama_index_mm_zhipu.vector_store import inserts
from llama_index_mm_zhipu.vector_store.inserts import insert_numbers, insert_rows


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(":memory:")
    database.execute("create table rows (id integer primary key, name text)")
    yield database
    database.close()


@pytest.mark.parametrize("count", [0, 1, 494, 495, 496, 990, 2000])
def test_rows_are_inserted_in_their_order(connection: sqlite3.Connection, count: int) -> None:
    insert_rows(connection, "insert into rows", 2, ((number, f"名{number}") for number in range(count)))
    assert connection.execute("select * from rows").fetchall() == [(number, f"名{number}") for number in range(count)]


def test_rows_of_numbers_are_inserted_in_parts(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inserts, "_NUMBERS_AT_ONCE", 7)
    numbers = np.arange(1200)
    insert_numbers(connection, "insert or ignore into rows", numbers, -numbers)
    insert_numbers(connection, "insert or ignore into rows", numbers, numbers)
    assert connection.execute("select count(*), sum(id + name) from rows").fetchone() == (1200, 0)
