"""Tables in text files: CSV, TSV, and those with a separator of several characters."""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.parsing.lines import LineOrError, lines_of
from llama_index_mm_zhipu.readers.parsing.record import Record, RecordOrError

QUOTED_DELIMITERS = (",", ";")
"""With these, fields may stand in quotes, as in CSV (RFC 4180); with others, a quote is a character like any."""

MAX_FIELD_CHARACTERS = 1 << 26
"""Longest field in a CSV, 64 Mi: after a quote that nobody closed, the rest of the file would be one field."""

_limit_lock = threading.Lock()


def rows_of(
    file: Path,
    *,
    required: Sequence[str],
    delimiter: str = ",",
    names: Sequence[str] | None = None,
    show_progress: bool = False,
) -> Iterator[RecordOrError]:
    """Read a table row by row.

    Args:
        file: UTF-8.
        required: Columns that every row must have.
        delimiter: Between fields.
        names: Of the columns; None if the first row has them. Last fields may be missing from a row.
        show_progress: Show a progress bar.

    Yields:
        Each row, or the error of one. A table without the required columns is one error.
    """
    lines = lines_of(file, show_progress)
    rows = _quoted_rows(lines, delimiter) if delimiter in QUOTED_DELIMITERS else _plain_rows(lines, delimiter, names)
    for row in rows:
        if isinstance(row, RecordError):
            yield row
            continue
        place, fields = row
        if names is None:
            names = [field.strip() for field in fields]
            if twice := [column for column in required if names.count(column) > 1]:
                yield RecordError(f"{place}: more than one column is called {' or '.join(map(repr, twice))}")
                return
            if missing := [column for column in required if column not in names]:
                yield RecordError(f"{place}: there is no column {' nor '.join(missing)}, but {names}")
                return
        elif len(fields) > len(names):
            yield RecordError(f"{place}: {len(fields)} fields in a table of {len(names)} columns")
        else:
            yield _checked(Record(place, dict(zip(names, fields, strict=False))), required)


def _checked(row: Record, required: Sequence[str]) -> RecordOrError:
    missing = [column for column in required if column not in row.fields]
    return RecordError(f"{row.place}: a row without {' and '.join(missing)}") if missing else row


def _plain_rows(
    lines: Iterator[LineOrError], delimiter: str, names: Sequence[str] | None
) -> Iterator[tuple[str, list[str]] | RecordError]:
    # From left to right: the last field may hold the delimiter.
    limit = len(names) - 1 if names is not None else -1
    for line in lines:
        yield line if isinstance(line, RecordError) else (line.place, line.text.split(delimiter, limit))


def _quoted_rows(lines: Iterator[LineOrError], delimiter: str) -> Iterator[tuple[str, list[str]] | RecordError]:
    errors: list[RecordError] = []
    places: list[str] = []

    def texts() -> Iterator[str]:
        for line in lines:
            if isinstance(line, RecordError):
                errors.append(line)
                continue
            if not places:
                places.append(line.place)
            # The csv module takes a carriage return within a field for the end of a row.
            yield line.text.replace("\r", " ") + "\n"

    _raise_field_limit()
    rows = csv.reader(texts(), delimiter=delimiter, strict=True)
    while True:
        places.clear()
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield RecordError(f"{places[0]}: not a row of a CSV ({error})")
            continue
        yield from errors
        errors.clear()
        if row is None:
            return
        yield places[0], row


def _raise_field_limit() -> None:
    """Let the csv module read fields as long as pictures in base64; its own limit, 128 KiB, is one of the process.

    It is not lowered again: another thread may be reading.
    """
    with _limit_lock:
        csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
