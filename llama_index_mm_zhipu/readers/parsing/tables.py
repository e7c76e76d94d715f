"""Tables in text files: CSV, TSV, and those with a separator of several characters."""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from llama_index_mm_zhipu.readers.parsing.lines import LineOrError, Record, RecordOrError, lines_of
from llama_index_mm_zhipu.readers.records import RecordError

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
    quoted: bool | None = None,
    names: Sequence[str] | None = None,
    show_progress: bool = False,
    encoding: str | None = None,
) -> Iterator[RecordOrError]:
    """Read a table row by row.

    Args:
        file: The file.
        required: Columns that every row must have.
        delimiter: Between fields.
        quoted: Whether fields may stand in quotes; None for yes with ``QUOTED_DELIMITERS`` alone.
        names: Of the columns; None if the first row has them. Last fields may be missing from a row.
        show_progress: Show a progress bar.
        encoding: Of the file; None for UTF-8.

    Yields:
        Each row, or the error of one. A table without the required columns is one error.
    """
    lines = lines_of(file, show_progress, encoding)
    if quoted is None:
        quoted = delimiter in QUOTED_DELIMITERS
    rows = _quoted_rows(lines, delimiter) if quoted else _plain_rows(lines, delimiter, names)
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


def header_of(file: Path, delimiter: str, encoding: str | None = None) -> tuple[str, list[str]] | RecordError | None:
    """Return place and names of the first row of a table with quotes; None of an empty file."""
    with closing(_quoted_rows(lines_of(file, encoding=encoding), delimiter)) as rows:
        row = next(rows, None)
    return row if row is None or isinstance(row, RecordError) else (row[0], [name.strip() for name in row[1]])


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


def _quoted_rows(
    lines: Iterator[LineOrError], delimiter: str
) -> Generator[tuple[str, list[str]] | RecordError, None, None]:
    errors: list[RecordError] = []
    places: list[str] = []
    limit = _FieldLimit()

    def texts() -> Iterator[str]:
        for line in lines:
            if isinstance(line, RecordError):
                errors.append(line)
                continue
            if not places:
                places.append(line.place)
            limit.allow(len(line.text) + 1)
            # The csv module takes a carriage return within a field for the end of a row.
            yield line.text.replace("\r", " ") + "\n"

    rows = csv.reader(texts(), delimiter=delimiter, strict=True)
    while True:
        places.clear()
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield RecordError(f"{places[0]}: not a row of a CSV ({error})")
            continue
        finally:
            limit.restore()
        yield from errors
        errors.clear()
        if row is None:
            return
        yield places[0], row


class _FieldLimit:
    """Raises the csv module's limit on fields, one of the whole process, while a row is parsed that may exceed it.

    Its default, 128 KiB, is less than an image in base64. Rows that are shorter, as most are, leave it untouched.
    """

    def __init__(self) -> None:
        self._characters = 0
        self._raised_from: int | None = None

    def allow(self, characters: int) -> None:
        """Make room for so many more characters of the row that is being parsed."""
        self._characters += characters
        if self._raised_from is None and self._characters > csv.field_size_limit():
            # Held until the row is parsed: another reader must not lower the limit meanwhile.
            _limit_lock.acquire()
            self._raised_from = csv.field_size_limit()
            csv.field_size_limit(max(self._raised_from, MAX_FIELD_CHARACTERS))

    def restore(self) -> None:
        """Put the limit back at the end of a row."""
        self._characters = 0
        if self._raised_from is None:
            return
        try:
            # Unless somebody else has set another one.
            if csv.field_size_limit() == MAX_FIELD_CHARACTERS:
                csv.field_size_limit(self._raised_from)
        finally:
            self._raised_from = None
            _limit_lock.release()


# ASCII digits, no sign but "-", no leading zeros: "007", "+1", "1,000", "1e5", "50%" and "nan" stay text.
_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?")

_MAX_DIGITS = 15
"""What a float holds exactly, whatever the digits. Longer ones are codes rather than quantities."""


class NumericColumns:
    """Decides which columns of a table hold numbers only, and converts these.

    A column is one of integers if every value is one, and one of floats if every value is a number; empty values say
    nothing. Call ``see`` with every row first.

    Args:
        columns: Names of the columns that may be converted.
    """

    def __init__(self, columns: Collection[str]) -> None:
        self._types: dict[str, type[int] | type[float]] = {}
        self._candidates = list(columns)

    @property
    def may_hold_numbers(self) -> bool:
        """Whether any column may still be one of numbers."""
        return bool(self._candidates)

    def see(self, fields: Mapping[str, str]) -> None:
        """Take a row into account."""
        for column in self._candidates[:]:
            text = fields.get(column)
            if text is None or not text.strip():
                continue
            number = number_in(text)
            if number is None:
                self._candidates.remove(column)
                self._types.pop(column, None)
            elif isinstance(number, float):
                self._types[column] = float
            else:
                self._types.setdefault(column, int)

    def value(self, column: str, text: str) -> str | int | float:
        """Return a value as its column holds it."""
        column_type = self._types.get(column)
        number = number_in(text) if column_type is not None else None
        if column_type is None or number is None:
            return text
        return column_type(number)


def number_in(text: str) -> int | float | None:
    """Return the number that a text spells plainly, or None.

    Args:
        text: Blanks around the number do not matter.

    Examples:
        >>> [number_in(text) for text in ("199", "-0.5", "1,000", "007", "6901234567890123", "nan")]
        [199, -0.5, None, None, None, None]
    """
    digits = text.strip()
    found = _PLAIN.fullmatch(digits)
    if found is None:
        return None
    if found.group(1) is None:
        return int(digits) if len(digits.lstrip("-")) <= _MAX_DIGITS else None
    number = float(digits)
    significant = digits.lstrip("-").replace(".", "").strip("0")
    # Longer ones are floats, too, as other programs write them: 0.30000000000000004.
    return number if len(significant) <= _MAX_DIGITS or repr(number) == digits else None
