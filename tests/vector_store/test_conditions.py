"""Values that are passed to SQL come back unchanged, and ``contains_any`` agrees with Python's ``in``."""

from __future__ import annotations

import math
import sqlite3
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_mm_zhipu.vector_store.conditions import among, encode_texts, encode_values, register_functions


@pytest.fixture(scope="module")
def connection() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    register_functions(connection)
    return connection


def test_encoded_values_come_back_unchanged(connection: sqlite3.Connection) -> None:
    values = [
        0.1 + 0.2,
        5e-324,
        sys.float_info.max,
        -math.inf,
        -0.0,
        2**63 - 1,
        -(2**63),
        "",
        "a\0b",
        "红'😀",
        "t",
        1,
        "1",
    ]
    rows = connection.execute("select decoded(value) from json_each(?)", (encode_values(values),)).fetchall()
    assert [(type(value), value) for (value,) in rows] == [(type(value), value) for value in values]


@pytest.mark.parametrize("extra", [[], [0.5], ["a\0b"]])
def test_a_list_of_values_is_one_parameter(connection: sqlite3.Connection, extra: list[float | str]) -> None:
    values = [*range(50_000), *extra]
    sql, parameters = among("value", values)
    assert len(parameters) == 1
    for value in (*values[:3], *values[-3:]):
        assert connection.execute(f"select {sql} from (select ? as value)", (*parameters, value)).fetchone() == (1,)
    assert connection.execute(f"select {sql} from (select -1 as value)", parameters).fetchone() == (0,)


@given(text=st.text("ab红\0", max_size=12), texts=st.lists(st.text("ab红\0", max_size=4), max_size=30))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_texts_are_found_as_python_finds_them(connection: sqlite3.Connection, text: str, texts: list[str]) -> None:
    (found,) = connection.execute("select contains_any(?, ?)", (text, encode_texts(texts))).fetchone()
    assert bool(found) == any(part in text for part in texts)
