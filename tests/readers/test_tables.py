"""Tables with and without quoted fields, and the detection of numeric columns."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llama_index_mm_zhipu.readers.tables import MAX_FIELD_CHARACTERS, NumericColumns, parse_number, read_rows


def read(path: Path, content: str, **options: Any) -> list[dict[str, str] | str]:
    """Return the fields of each row, or the message of an error."""
    path.write_bytes(content.encode())
    return [getattr(row, "fields", None) or str(row) for row in read_rows(path, **{"required": ("a",), **options})]


def test_quoted_fields_may_contain_commas_and_line_ends(tmp_path: Path) -> None:
    rows = read(tmp_path / "t.csv", '\ufeffa,b\r\n"一, 二","行\n行"\r\n带\r回车,"他说""好"""\r\n')
    assert rows == [{"a": "一, 二", "b": "行\n行"}, {"a": "带 回车", "b": '他说"好"'}]


def test_quotes_are_plain_text_with_other_delimiters(tmp_path: Path) -> None:
    assert read(tmp_path / "t.tsv", 'a\tb\n"一\t二"\n', delimiter="\t") == [{"a": '"一', "b": '二"'}]
    rows = read(tmp_path / "t.txt", "1##一##x##y\n2##二\n", delimiter="##", names=("a", "b", "c"))
    assert rows == [{"a": "1", "b": "一", "c": "x##y"}, {"a": "2", "b": "二"}]


def test_invalid_rows_are_errors_and_others_are_read(tmp_path: Path) -> None:
    rows = read(tmp_path / "t.csv", 'b,a\n"一"二,三\n1\n1,2,3\n四,五\n')
    assert rows == [
        f"{tmp_path}/t.csv, line 2: not a row of a CSV (',' expected after '\"')",
        f"{tmp_path}/t.csv, line 3: a row without a",
        f"{tmp_path}/t.csv, line 4: 3 fields in a table of 2 columns",
        {"b": "四", "a": "五"},
    ]


def test_the_error_of_an_unclosed_quote_names_the_line_where_it_opens(tmp_path: Path) -> None:
    (error,) = read(tmp_path / "t.csv", 'a,b\n1,"二\n3,四\n')
    assert "line 2: not a row of a CSV (unexpected end of data)" in str(error)


def test_a_missing_column_is_a_single_error(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", "x,y\n1,2\n3,4\n") == [
        f"{tmp_path}/t.csv, line 1: there is no column a, but ['x', 'y']"
    ]


def test_fields_may_be_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    csv.field_size_limit(131_072)
    long = "A" * 131_073
    assert read(tmp_path / "t.csv", f"a\n{long}\n") == [{"a": long}]


def test_a_duplicate_column_is_a_single_error(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", "a,b,a\n1,2,3\n") == [
        f"{tmp_path}/t.csv, line 1: more than one column is called 'a'"
    ]
    # Spreadsheets write empty names for unused columns.
    assert read(tmp_path / "t.csv", "a,,\n1,,\n") == [{"a": "1", "": ""}]


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_has_no_rows(tmp_path: Path, content: str) -> None:
    assert read(tmp_path / "t.csv", content) == []


def test_the_field_limit_of_the_csv_module_is_restored(tmp_path: Path) -> None:
    before = csv.field_size_limit(131_072)
    try:
        (tmp_path / "t.csv").write_text(f"a,b\n1,{'A' * 200_000}\n2,x\n3,{'B' * 200_000}\n", encoding="utf-8")
        for row in read_rows(tmp_path / "t.csv", required=("a",)):
            assert not isinstance(row, Exception)
            assert csv.field_size_limit() == 131_072
        # Also when reading stops early or ends with an error, and with fields of many lines.
        assert next(read_rows(tmp_path / "t.csv", required=("a",))).fields["a"] == "1"
        (error,) = read(tmp_path / "t.csv", 'a,b\n1,"' + "x\n" * 200_000)
        assert "line 2: not a row of a CSV" in str(error)
        (row,) = read(tmp_path / "t.csv", 'a,b\n1,"' + "x\n" * 200_000 + '"\n')
        assert len(row["b"]) == 400_000
        assert csv.field_size_limit() == 131_072
        csv.field_size_limit(MAX_FIELD_CHARACTERS + 1)
        assert len(read(tmp_path / "t.csv", f"a\n{'A' * 200_000}\n")) == 1
        assert csv.field_size_limit() == MAX_FIELD_CHARACTERS + 1
    finally:
        csv.field_size_limit(before)


def test_threads_read_long_fields_and_restore_the_limit(tmp_path: Path) -> None:
    before = csv.field_size_limit(131_072)
    try:
        (tmp_path / "t.csv").write_text("a\n" + f"{'A' * 150_000}\nx\n" * 20, encoding="utf-8")

        def lengths(_: int) -> list[int]:
            return [len(row.fields["a"]) for row in read_rows(tmp_path / "t.csv", required=("a",))]

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lengths, range(16))) == [[150_000, 1] * 20] * 16
        assert csv.field_size_limit() == 131_072
    finally:
        csv.field_size_limit(before)


# Numeric columns


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
def test_plain_numbers_are_parsed(text: str, number: float) -> None:
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
def test_other_texts_are_not_numbers(text: str) -> None:
    assert parse_number(text) is None


def converted(*values: str) -> list[str | int | float]:
    """Return the converted values of a column that are not blank."""
    columns = NumericColumns(["a"])
    for value in values:
        columns.add_row({"a": value})
    return [columns.convert("a", value) for value in values if value.strip()]


def test_all_values_of_a_column_have_the_same_type() -> None:
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
