"""Captions and metadata of a folder's pictures: beside each picture, or in a table."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from llama_index_mm_zhipu.readers.captions import Captions, captions_in, joined
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.folder_files import OutsideLinks
from llama_index_mm_zhipu.readers.parsing.tables import header_of, rows_of
from llama_index_mm_zhipu.readers.parsing.encodings import GB18030, detect_encoding
from llama_index_mm_zhipu.readers.parsing.json_values import is_no_number
from llama_index_mm_zhipu.readers.parsing.lines import lines_of
from llama_index_mm_zhipu.readers.parsing.numbers import NumericColumns
from llama_index_mm_zhipu.readers.picture_record import RESERVED_KEYS

logger = logging.getLogger(__name__)

FILE_NAME = "file_name"
"""Metadata key of a picture's path within its folder."""

_KEYS = ("caption", "captions", "text")
# Excel writes semicolons where a comma is the decimal sign, and tabs as "Unicode text".
_DELIMITERS = (",", ";", "\t")


class Sidecars:
    """Reads captions from the files beside pictures: ``photo.txt`` or ``photo.json``.

    Args:
        links: What to do about files that are links out of the folder.
        encoding: Of the files; None detects that of each.
    """

    def __init__(self, links: OutsideLinks, encoding: str | None = None) -> None:
        self._links = links
        self._encoding = encoding
        self._guessed: list[Path] = []

    def read(self, picture: Path) -> str | RecordError:
        """Return the caption of a picture, empty if there is none.

        A ``.json`` holds a string, a list of strings, or an object with one of these under ``caption``, ``captions`` or
        ``text``.
        """
        text, structured = picture.with_suffix(".txt"), picture.with_suffix(".json")
        if text.is_file():
            return "" if self._links.leaves_out(text) else self._text_of(text)
        if not structured.is_file() or self._links.leaves_out(structured):
            return ""
        content = self._text_of(structured)
        return content if isinstance(content, RecordError) else _caption_in(content, structured)

    def warn(self) -> None:
        """Log how many files were not UTF-8, and the first of them."""
        if self._guessed:
            logger.warning(
                "%d files with captions, such as %s, are not UTF-8 and are read as GB18030 (GBK); give "
                "encoding='gb18030' to say so, or save them as UTF-8",
                len(self._guessed),
                self._guessed[0],
            )
            self._guessed = []

    def _text_of(self, file: Path) -> str | RecordError:
        encoding = self._encoding or detect_encoding(file)
        if self._encoding is None and encoding == GB18030:
            self._guessed.append(file)
        texts = []
        for line in lines_of(file, encoding=encoding):
            if isinstance(line, RecordError):
                return line
            texts.append(line.text.strip())
        return "\n".join(texts)


class CaptionTable:
    """Captions and metadata by file name, from a table with a header.

    Args:
        name_column: Of the images' paths.
        caption_column: Of the captions; a name that comes again adds one. None if there are none. All other columns
            are metadata.
    """

    def __init__(self, name_column: str, caption_column: str | None) -> None:
        self.captions = Captions()
        self._name_column = name_column
        self._caption_column = caption_column
        self._required = [column for column in (name_column, caption_column) if column is not None]
        self._metadata: dict[str, dict[str, str]] = {}
        self._numbers = NumericColumns(())

    def read(self, file: Path, encoding: str | None, folder: Path) -> Iterator[RecordError]:
        """Read a table, and yield the errors of its rows.

        Args:
            file: Fields stand between commas, semicolons or tabs, and may stand in quotes.
            encoding: Of the file; None for UTF-8.
            folder: Of the images; paths of images are within it, or absolute.
        """
        required = self._required
        delimiter, header = _sniffed(file, required, encoding)
        if header is None:
            yield RecordError(f"{file} is empty; a header with {' and '.join(required)} is expected")
            return
        if isinstance(header, RecordError):
            yield header
            return
        place, names = header
        if (error := self._error_of_names(place, names)) is not None:
            yield error
            return
        columns = [name for name in names if name and name not in required]
        self._numbers = NumericColumns(columns)
        differing: list[str] = []
        for row in rows_of(file, required=required, delimiter=delimiter, quoted=True, encoding=encoding):
            if isinstance(row, RecordError):
                yield row
                continue
            name = _name_within(folder, row.fields[self._name_column])
            self.captions.add(name, row.fields[self._caption_column] if self._caption_column else "", row.place)
            self._numbers.see(row.fields)
            metadata = self._metadata.setdefault(name, {})
            for column in columns:
                if (value := row.fields.get(column, "")).strip() and metadata.setdefault(column, value) != value:
                    differing.append(f"{row.place}: {column} of {name} is {value!r}, and {metadata[column]!r} before")
        if differing:
            logger.warning(
                "%d values differ between rows of one picture; the first of each is kept (%s)",
                len(differing),
                differing[0],
            )

    def metadata_of(self, name: str) -> dict[str, str | int | float]:
        """Return the metadata of a picture by its path within the folder; empty values are left out."""
        return {column: self._numbers.value(column, text) for column, text in self._metadata.get(name, {}).items()}

    def _error_of_names(self, place: str, names: Sequence[str]) -> RecordError | None:
        if twice := sorted({name for name in names if name and names.count(name) > 1}):
            return RecordError(f"{place}: more than one column is called {' or '.join(map(repr, twice))}")
        if missing := [name for name in self._required if name not in names]:
            return RecordError(
                f"{place}: there is no column {' nor '.join(missing)}, but {names}; name yours with name_column=… and "
                "caption_column=…, which is None where there are no captions"
            )
        own = {*RESERVED_KEYS, FILE_NAME}.difference(self._required)
        if taken := sorted(own.intersection(names)):
            return RecordError(
                f"{place}: the column {taken[0]!r} is called as this package's own metadata is; rename the column"
            )
        return None


def _name_within(folder: Path, text: str) -> str:
    """Return the path of an image within a folder, from one that may be absolute or written for Windows."""
    path = PurePosixPath(text.strip().replace("\\", "/"))
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _sniffed(
    file: Path, required: Sequence[str], encoding: str | None
) -> tuple[str, tuple[str, list[str]] | RecordError | None]:
    """Return the delimiter with which the required columns are found, a comma where none does, and the header."""
    headers = {delimiter: header_of(file, delimiter, encoding) for delimiter in _DELIMITERS}
    for delimiter, header in headers.items():
        if isinstance(header, tuple) and set(required) <= set(header[1]):
            return delimiter, header
    return ",", headers[","]


def _caption_in(content: str, file: Path) -> str | RecordError:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        return RecordError(f"{file}, line {getattr(error, 'lineno', 1)}: not JSON ({error})")
    if isinstance(value, dict):
        value = next((value[key] for key in _KEYS if key in value), False)
    captions = value if isinstance(value, list) else [value]
    if not all(isinstance(caption, str | None) or is_no_number(caption) for caption in captions):
        return RecordError(f"{file}, line 1: not a caption, nor an object with {', '.join(_KEYS)}")
    found = captions_in(value, "the file", f"{file}, line 1")
    return found if isinstance(found, RecordError) else joined(found)
