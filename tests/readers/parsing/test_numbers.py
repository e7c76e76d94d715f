"""Columns of plain numbers become numbers; whatever might be a code stays text."""

from __future__ import annotations

import pytest

from llama_index_mm_zhipu.readers.parsing.tables import NumericColumns, parse_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("199", 199),
        ("-5", -5),
        (" 42 ", 42),
        ("13800000000", 13_800_000_000),
        ("999999999999999", 999_999_999_999_999),
        ("0.5", 0.5),
        ("-0.125", -0.125),
        ("100.00", 100.0),
        ("0.30000000000000004", 0.1 + 0.2),
        ("19.9000000000000000000", 19.9),
    ],
)
def test_plain_numbers(text: str, number: float) -> None:
    found = parse_number(text)
    assert (found, type(found)) == (number, type(number))


@pytest.mark.parametrize(
    "text",
    [
        *("007", "00", "-01", "00.5", "+1", "1,000", "1_000", "1e5", "1E-3", "0x10", "１２", "一", "½", "²", "٣"),
        *("nan", "NaN", "inf", "-inf", "Infinity", "None", "true", "50%", "¥5", "5元", "1.2.3", "2024-01-01", "1 000"),
        *(".5", "5.", "-", "", "- 1", "--1", "1-", "9007199254740993", "6901234567890123", "12345678901234567.5"),
    ],
)
def test_what_stays_text(text: str) -> None:
    assert parse_number(text) is None


def converted(*values: str) -> list[str | int | float]:
    """Return the values of a column."""
    columns = NumericColumns(["a"])
    for value in values:
        columns.add_row({"a": value})
    return [columns.convert("a", value) for value in values if value.strip()]


def test_a_column_has_one_type() -> None:
    assert converted("1", "", " ", "3") == [1, 3]
    assert [type(value) for value in converted("1", "2.5", "3")] == [float, float, float]
    assert converted("1", "2.5", "n/a", "3") == ["1", "2.5", "n/a", "3"]
    assert converted("n/a", "1") == ["n/a", "1"]
    assert converted("007", "8") == ["007", "8"]
    assert converted("", "") == []


def test_only_the_named_columns_are_converted_and_rows_may_lack_them() -> None:
    columns = NumericColumns(["a"])
    columns.add_row({"b": "1"})
    assert columns.may_hold_numbers
    columns.add_row({"a": "x", "b": "1"})
    assert not columns.may_hold_numbers
    assert columns.convert("b", "1") == "1"
