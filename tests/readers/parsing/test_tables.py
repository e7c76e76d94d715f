"""Tables: quotes where CSV has them, none elsewhere, rows counted by their first line."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llama_index_mm_zhipu.readers.parsing.tables import MAX_FIELD_CHARACTERS, read_rows


def read(path: Path, content: str, **options: Any) -> list[dict[str, str] | str]:
    """Return the fields of each row, or the message of what is none."""
    path.write_bytes(content.encode())
    return [getattr(row, "fields", None) or str(row) for row in read_rows(path, **{"required": ("a",), **options})]


def test_fields_in_quotes_hold_commas_and_line_ends(tmp_path: Path) -> None:
    rows = read(tmp_path / "t.csv", '\ufeffa,b\r\n"一, 二","行\n行"\r\n带\r回车,"他说""好"""\r\n')
    assert rows == [{"a": "一, 二", "b": "行\n行"}, {"a": "带 回车", "b": '他说"好"'}]


def test_other_delimiters_know_no_quotes(tmp_path: Path) -> None:
    assert read(tmp_path / "t.tsv", 'a\tb\n"一\t二"\n', delimiter="\t") == [{"a": '"一', "b": '二"'}]
    rows = read(tmp_path / "t.txt", "1##一##x##y\n2##二\n", delimiter="##", names=("a", "b", "c"))
    assert rows == [{"a": "1", "b": "一", "c": "x##y"}, {"a": "2", "b": "二"}]


def test_bad_rows_are_named_and_the_others_read(tmp_path: Path) -> None:
    rows = read(tmp_path / "t.csv", 'b,a\n"一"二,三\n1\n1,2,3\n四,五\n')
    assert rows == [
        f"{tmp_path}/t.csv, line 2: not a row of a CSV (',' expected after '\"')",
        f"{tmp_path}/t.csv, line 3: a row without a",
        f"{tmp_path}/t.csv, line 4: 3 fields in a table of 2 columns",
        {"b": "四", "a": "五"},
    ]


def test_a_quote_that_nobody_closes_is_named_where_it_opens(tmp_path: Path) -> None:
    (error,) = read(tmp_path / "t.csv", 'a,b\n1,"二\n3,四\n')
    assert "line 2: not a row of a CSV (unexpected end of data)" in str(error)


def test_a_wrong_column_is_one_error(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", "x,y\n1,2\n3,4\n") == [
        f"{tmp_path}/t.csv, line 1: there is no column a, but ['x', 'y']"
    ]


def test_fields_may_be_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    csv.field_size_limit(131_072)
    long = "A" * 131_073
    assert read(tmp_path / "t.csv", f"a\n{long}\n") == [{"a": long}]


def test_a_column_that_comes_twice_is_one_error(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", "a,b,a\n1,2,3\n") == [
        f"{tmp_path}/t.csv, line 1: more than one column is called 'a'"
    ]
    # As spreadsheets write them.
    assert read(tmp_path / "t.csv", "a,,\n1,,\n") == [{"a": "1", "": ""}]


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_has_no_rows(tmp_path: Path, content: str) -> None:
    assert read(tmp_path / "t.csv", content) == []


def test_the_limit_of_the_csv_module_is_what_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit(131_072)
    try:
        (tmp_path / "t.csv").write_text(f"a,b\n1,{'A' * 200_000}\n2,x\n3,{'B' * 200_000}\n", encoding="utf-8")
        for row in read_rows(tmp_path / "t.csv", required=("a",)):
            assert not isinstance(row, Exception)
            assert csv.field_size_limit() == 131_072
        # Of a reading that is left early, of one that ends in an error, and of fields over many lines.
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


def test_many_threads_read_long_fields_and_leave_the_limit(tmp_path: Path) -> None:
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
