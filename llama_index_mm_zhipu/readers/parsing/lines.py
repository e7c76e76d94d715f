"""Lines of text files of any size, numbered, one at a time."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from tqdm.auto import tqdm

from llama_index_mm_zhipu.readers.parsing.encodings import GB18030, UTF_8, as_utf_8
from llama_index_mm_zhipu.readers.records import RecordError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

MAX_LINE_BYTES = 1 << 28
"""Longest line that is read, 256 MiB: an image in base64 is far shorter, a file without line ends is not."""


class Line(NamedTuple):
    """A line that is not blank.

    Attributes:
        place: File and number, for messages.
        text: Without its end.
    """

    place: str
    text: str


LineOrError: TypeAlias = Line | RecordError


_WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")


def lines_of(file: Path, show_progress: bool = False, encoding: str | None = None) -> Iterator[LineOrError]:
    r"""Read a text file line by line.

    Lines end with ``\n`` alone, less one ``\r`` before it: captions may hold other line ends. A byte order mark and
    blank lines are left out.

    Args:
        file: The file.
        show_progress: Show a progress bar, in bytes.
        encoding: Of the file; None for UTF-8.

    Yields:
        Each line, or the ``RecordError`` of one that is not in this encoding or too long.

    Raises:
        FileNotFoundError: There is no such file.
        RecordError: It is a workbook.
    """
    with reading(file, show_progress, encoding) as (stream, bar):
        if file.suffix.lower() in _WORKBOOKS:
            raise RecordError(f"{file} is a workbook, not a text: save it as CSV (UTF-8), and read that")
        number = 0
        while raw := stream.readline(MAX_LINE_BYTES):
            number += 1
            bar.update(len(raw))
            place = f"{file}, line {number}"
            if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
                yield RecordError(f"{place}: longer than {MAX_LINE_BYTES >> 20} MiB; is this a text file?")
                return
            if number == 1:
                raw = raw.removeprefix(_BYTE_ORDER_MARK)
            try:
                text = raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
            except UnicodeDecodeError as error:
                yield encoding_error(place, error, error.start, encoding)
                continue
            if text.strip():
                yield Line(place, text)


@contextmanager
def reading(file: Path, show_progress: bool, encoding: str | None = None) -> Iterator[tuple[BinaryIO, tqdm]]:
    """Open a text file as a stream of UTF-8 with a progress bar, which whoever reads updates by what was read.

    Args:
        file: The file.
        show_progress: Show a progress bar, in bytes.
        encoding: Of the file, None for UTF-8; what cannot be decoded is invalid UTF-8 in the stream.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder; give the file in it")
    if not file.is_file():
        raise FileNotFoundError(f"no such file: {file}; check the path of the data set")
    bar = tqdm(
        total=file.stat().st_size, desc=f"Reading {file.name}", unit="B", unit_scale=True, disable=not show_progress
    )
    with file.open("rb") as stream, bar:
        if encoding is None or encoding == UTF_8:
            yield stream, bar
        else:
            # The bytes read from this stream are not those of the file: it updates the bar by itself.
            yield as_utf_8(stream, encoding, bar), tqdm(disable=True)


def encoding_error(place: str, error: UnicodeDecodeError, byte: int, encoding: str | None = None) -> RecordError:
    """Return the error of what is not in the file's encoding, with what to do.

    Args:
        place: File and line.
        error: Of a line, or of what was read at once.
        byte: Where, from 0, in a UTF-8 file.
        encoding: As it was given; None for UTF-8 by default.
    """
    if encoding is not None:
        name = f"UTF-8 (byte {byte})" if encoding == UTF_8 else encoding
        other = "utf-8" if encoding == GB18030 else "gb18030"
        return RecordError(
            f"{place}: not {name}; give another encoding, such as encoding={other!r}, or none to have it detected"
        )
    start = error.object.rfind(b"\n", 0, error.start) + 1
    end = error.object.find(b"\n", error.start)
    line = error.object[start : end if end >= 0 else None]
    return RecordError(f"{place}: not UTF-8 (byte {byte}){_hint(line)}")


def _hint(raw: bytes) -> str:
    try:
        # Incremental, as what was read at once may end within a character.
        codecs.getincrementaldecoder("gb18030")().decode(raw)
    except UnicodeDecodeError:
        return "; save the file as UTF-8"
    return ", but perhaps GBK; convert the file with: iconv -f GB18030 -t UTF-8"


class Record(NamedTuple):
    """Fields by name.

    Attributes:
        place: File and line, for messages.
        fields: Strings of a table, any values of JSON.
    """

    place: str
    fields: dict[str, Any]


RecordOrError: TypeAlias = Record | RecordError
