"""Tables in text files: CSV, TSV and tables with any delimiter, and the detection of numeric columns."""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from llama_index_mm_zhipu.readers.lines import LineOrError, Record, RecordOrError, read_lines
from llama_index_mm_zhipu.readers.records import RecordError

QUOTED_DELIMITERS = (",", ";")
"""Delimiters of tables whose fields may be quoted, as in CSV (RFC 4180); in other tables quotes are plain text."""

MAX_FIELD_CHARACTERS = 1 << 26
"""Maximum length of a field in a CSV, 64 Mi: after a missing closing quote, the rest of the file would be one field."""

_limit_lock = threading.Lock()


def read_rows(
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
        delimiter: Delimiter between fields.
        quoted: Whether fields may be quoted; None means only with ``QUOTED_DELIMITERS``.
        names: Names of the columns; None if the first row contains them. A row may lack its last fields.
        show_progress: Whether to show a progress bar.
        encoding: Encoding of the file; None for UTF-8.

    Yields:
        Each row, or its error. A table without the required columns is a single error.
    """
    lines = read_lines(file, show_progress, encoding)
    if quoted is None:
        quoted = delimiter in QUOTED_DELIMITERS
    rows = _quoted_rows(lines, delimiter) if quoted else _plain_rows(lines, delimiter, names)
    for row in rows:
        if isinstance(row, RecordError):
            yield row
            continue
        position, fields = row
        if names is None:
            names = [field.strip() for field in fields]
            if twice := [column for column in required if names.count(column) > 1]:
                yield RecordError(position, f"more than one column is called {' or '.join(map(repr, twice))}")
                return
            if missing := [column for column in required if column not in names]:
                yield RecordError(position, f"there is no column {' nor '.join(missing)}, but {names}")
                return
        elif len(fields) > len(names):
            yield RecordError(position, f"{len(fields)} fields in a table of {len(names)} columns")
        else:
            record = Record(position, dict(zip(names, fields, strict=False)))
            missing = [column for column in required if column not in record.fields]
            yield RecordError(position, f"a row without {' and '.join(missing)}") if missing else record


def read_header(file: Path, delimiter: str, encoding: str | None = None) -> tuple[str, list[str]] | RecordError | None:
    """Return the position and the column names of the first row of a CSV; None for an empty file."""
    with closing(_quoted_rows(read_lines(file, encoding=encoding), delimiter)) as rows:
        row = next(rows, None)
    return row if row is None or isinstance(row, RecordError) else (row[0], [name.strip() for name in row[1]])


def _plain_rows(
    lines: Iterator[LineOrError], delimiter: str, names: Sequence[str] | None
) -> Iterator[tuple[str, list[str]] | RecordError]:
    # With known columns, further delimiters are part of the last field.
    limit = len(names) - 1 if names is not None else -1
    for line in lines:
        yield line if isinstance(line, RecordError) else (line.position, line.text.split(delimiter, limit))


def _quoted_rows(
    lines: Iterator[LineOrError], delimiter: str
) -> Generator[tuple[str, list[str]] | RecordError, None, None]:
    errors: list[RecordError] = []
    # Position of the first line of the row that is being parsed: a quoted field may span several lines.
    positions: list[str] = []
    limit = _FieldLimit()

    def texts() -> Iterator[str]:
        for line in lines:
            if isinstance(line, RecordError):
                errors.append(line)
                continue
            if not positions:
                positions.append(line.position)
            limit.allow(len(line.text) + 1)
            # The csv module reads a carriage return in a field as the end of the row.
            yield line.text.replace("\r", " ") + "\n"

    rows = csv.reader(texts(), delimiter=delimiter, strict=True)
    while True:
        positions.clear()
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield RecordError(positions[0], f"not a row of a CSV ({error})")
            continue
        finally:
            limit.restore()
        yield from errors
        errors.clear()
        if row is None:
            return
        yield positions[0], row


class _FieldLimit:
    """Raises the field size limit of the csv module while a row is parsed whose fields may exceed it.

    The default limit, 128 KiB, is less than an image in base64 needs. The limit is global to the process, so it is
    changed only for long rows, and by one reader at a time.
    """

    def __init__(self) -> None:
        self._characters = 0
        self._raised_from: int | None = None

    def allow(self, characters: int) -> None:
        """Raise the limit if the row, with these additional characters, may exceed it."""
        self._characters += characters
        if self._raised_from is None and self._characters > csv.field_size_limit():
            # Released by ``restore``: another reader must not lower the limit while this row is parsed.
            _limit_lock.acquire()
            self._raised_from = csv.field_size_limit()
            csv.field_size_limit(max(self._raised_from, MAX_FIELD_CHARACTERS))

    def restore(self) -> None:
        """Restore the limit at the end of a row."""
        self._characters = 0
        if self._raised_from is None:
            return
        try:
            # Keep a limit that other code has set meanwhile.
            if csv.field_size_limit() == MAX_FIELD_CHARACTERS:
                csv.field_size_limit(self._raised_from)
        finally:
            self._raised_from = None
            _limit_lock.release()


# ASCII digits, "-" as the only sign, no leading zeros: "007", "+1", "1,000", "1e5", "50%" and "nan" stay text.
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?")

_MAX_DIGITS = 15
"""Digits that every float can hold exactly. Longer numbers are probably codes, not quantities."""


class NumericColumns:
    """Finds the columns of a table that contain only numbers, and converts their values.

    A column is of integers if all its values are integers, and of floats if all are numbers; empty values are ignored.
    Call ``add_row`` with every row before ``convert``.

    Args:
        columns: Names of the columns that may be converted.
    """

    def __init__(self, columns: Collection[str]) -> None:
        self._types: dict[str, type[int] | type[float]] = {}
        self._candidates = list(columns)

    @property
    def may_hold_numbers(self) -> bool:
        """Whether any column may still be numeric."""
        return bool(self._candidates)

    def add_row(self, fields: Mapping[str, str]) -> None:
        """Exclude the columns whose value in a row is not a number."""
        for column in self._candidates[:]:
            text = fields.get(column)
            if text is None or not text.strip():
                continue
            number = parse_number(text)
            if number is None:
                self._candidates.remove(column)
                self._types.pop(column, None)
            elif isinstance(number, float):
                self._types[column] = float
            else:
                self._types.setdefault(column, int)

    def convert(self, column: str, text: str) -> str | int | float:
        """Return a value of a column as an integer, a float or a string, depending on the column."""
        column_type = self._types.get(column)
        number = parse_number(text) if column_type is not None else None
        if column_type is None or number is None:
            return text
        return column_type(number)


def parse_number(text: str) -> int | float | None:
    """Return the number in a text, or None if the text is not a plain number.

    Args:
        text: The text; blanks around the number are ignored.

    Examples:
        >>> [parse_number(text) for text in ("199", "-0.5", "1,000", "007", "6901234567890123", "nan")]
        [199, -0.5, None, None, None, None]
    """
    digits = text.strip()
    found = _PLAIN_NUMBER.fullmatch(digits)
    if found is None:
        return None
    if found.group(1) is None:
        return int(digits) if len(digits.lstrip("-")) <= _MAX_DIGITS else None
    number = float(digits)
    significant = digits.lstrip("-").replace(".", "").strip("0")
    # Programs write longer ones, too, for a float that needs them: 0.30000000000000004.
    return number if len(significant) <= _MAX_DIGITS or repr(number) == digits else None
