"""Numbered lines of text files, read one at a time."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from tqdm.auto import tqdm

from llama_index_mm_zhipu.readers.encodings import GB18030, UTF_8, as_utf_8
from llama_index_mm_zhipu.readers.records import RecordError

MAX_LINE_BYTES = 1 << 28
"""Maximum length of a line, 256 MiB: an image in base64 is far shorter, a binary file without line ends may not be."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")


class Line(NamedTuple):
    """A line that is not blank.

    Attributes:
        position: File and line number, for messages.
        text: The line without its end.
    """

    position: str
    text: str


class Record(NamedTuple):
    """The fields of a row or JSON object by name.

    Attributes:
        position: File and line number, for messages.
        fields: Strings in a table, any JSON values in an object.
    """

    position: str
    fields: dict[str, Any]


LineOrError: TypeAlias = Line | RecordError
RecordOrError: TypeAlias = Record | RecordError


def read_lines(file: Path, show_progress: bool = False, encoding: str | None = None) -> Iterator[LineOrError]:
    r"""Read a text file line by line.

    Lines end with ``\n`` or ``\r\n`` only; other line separators may be part of captions. A byte order mark and blank
    lines are skipped.

    Args:
        file: The file.
        show_progress: Whether to show a progress bar, in bytes.
        encoding: Encoding of the file; None for UTF-8.

    Yields:
        Each line, or the ``RecordError`` of a line that is too long or not in this encoding.

    Raises:
        FileNotFoundError: The file does not exist.
        RecordError: The file is a workbook.
    """
    with open_as_utf_8(file, show_progress, encoding) as (stream, bar):
        if file.suffix.lower() in _WORKBOOKS:
            raise RecordError(str(file), "a workbook, not a text file; save it as CSV (UTF-8) and read that")
        number = 0
        while raw := stream.readline(MAX_LINE_BYTES):
            number += 1
            bar.update(len(raw))
            position = f"{file}, line {number}"
            if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
                yield RecordError(position, f"longer than {MAX_LINE_BYTES >> 20} MiB; is this a text file?")
                return
            if number == 1:
                raw = raw.removeprefix(_BYTE_ORDER_MARK)
            try:
                text = raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
            except UnicodeDecodeError as error:
                yield encoding_error(position, error, error.start, encoding)
                continue
            if text.strip():
                yield Line(position, text)


@contextmanager
def open_as_utf_8(file: Path, show_progress: bool, encoding: str | None = None) -> Iterator[tuple[BinaryIO, tqdm]]:
    """Open a text file as a UTF-8 stream, with a progress bar that the caller updates by the bytes read.

    Args:
        file: The file.
        show_progress: Whether to show a progress bar, in bytes.
        encoding: Encoding of the file; None for UTF-8. Bytes that cannot be decoded are invalid UTF-8 in the stream.

    Raises:
        FileNotFoundError: The file does not exist.
        IsADirectoryError: It is a folder.
    """
    require_file(file)
    bar = tqdm(
        total=file.stat().st_size, desc=f"Reading {file.name}", unit="B", unit_scale=True, disable=not show_progress
    )
    with file.open("rb") as stream, bar:
        if encoding is None or encoding == UTF_8:
            yield stream, bar
        else:
            # Sizes differ after transcoding: the transcoder itself updates the bar by the bytes of the file.
            yield as_utf_8(stream, encoding, bar), tqdm(disable=True)


def require_file(file: Path) -> None:
    """Raise an error if a path is not that of a file.

    Raises:
        FileNotFoundError: The file does not exist.
        IsADirectoryError: It is a folder.
    """
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder; give the file in it")
    if not file.is_file():
        raise FileNotFoundError(f"no such file: {file}; check the path of the data set")


def encoding_error(position: str, error: UnicodeDecodeError, byte: int, encoding: str | None = None) -> RecordError:
    """Return the error for text that is not in the expected encoding, with advice.

    Args:
        position: File and line.
        error: Decoding error of the line, or of a larger part of the file.
        byte: Offset of the invalid byte from 0, reported for UTF-8 files.
        encoding: Encoding that the user named; None for UTF-8 by default.
    """
    if encoding is not None:
        name = f"UTF-8 (byte {byte})" if encoding == UTF_8 else encoding
        other = "utf-8" if encoding == GB18030 else "gb18030"
        return RecordError(
            position, f"not {name}; give another encoding, such as encoding={other!r}, or none to have it detected"
        )
    start = error.object.rfind(b"\n", 0, error.start) + 1
    end = error.object.find(b"\n", error.start)
    line = error.object[start : end if end >= 0 else None]
    return RecordError(position, f"not UTF-8 (byte {byte}){_encoding_advice(line)}")


def _encoding_advice(line: bytes) -> str:
    try:
        # An incremental decoder accepts a line that ends within a character, as at the end of a chunk.
        codecs.getincrementaldecoder(GB18030)().decode(line)
    except UnicodeDecodeError:
        return "; save the file as UTF-8"
    return ", but perhaps GBK; convert the file with: iconv -f GB18030 -t UTF-8"
