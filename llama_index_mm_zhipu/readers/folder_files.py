"""Files of a folder, those that are hidden or lie outside it left out."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from llama_index_mm_zhipu.readers.image_nodes import Captions, captions_in, joined
from llama_index_mm_zhipu.readers.parsing.encodings import GB18030, detect_encoding
from llama_index_mm_zhipu.readers.parsing.json import is_no_number
from llama_index_mm_zhipu.readers.parsing.lines import lines_of
from llama_index_mm_zhipu.readers.parsing.tables import NumericColumns, header_of, rows_of
from llama_index_mm_zhipu.readers.records import RESERVED_KEYS, RecordError
from llama_index_mm_zhipu.text import one_line

logger = logging.getLogger(__name__)


class OutsideLinks:
    """Links that are not followed as they lead out of a folder; said in one warning.

    Args:
        root: The folder.
        follow_links: Whether they are followed all the same.
    """

    def __init__(self, root: Path, follow_links: bool = False) -> None:
        self.root = root
        self.follow_links = follow_links
        self._real_root = Path(os.path.realpath(root))
        self._left_out: list[Path] = []
        self._unreadable: list[OSError] = []

    def leaves_out(self, path: Path) -> bool:
        """Return whether a path within the folder is a link to somewhere else that is not to be followed."""
        if self.follow_links or not _is_link(path) or self.is_inside(path):
            return False
        self._left_out.append(path)
        return True

    def is_inside(self, path: Path) -> bool:
        """Whether a path, with all links followed, lies within the folder."""
        return Path(os.path.realpath(path)).is_relative_to(self._real_root)

    def left_out(self) -> str:
        """Say how many links were left out, and the first of them; empty if none was."""
        if not self._left_out:
            return ""
        first = self._left_out[0]
        return (
            f"left out {len(self._left_out)} links that lead out of {self.root}, such as "
            f"{one_line(first.relative_to(self.root).as_posix())} -> {one_line(os.path.realpath(first))}; "
            "follow_links=True reads them"
        )

    def note_unreadable(self, error: OSError) -> None:
        """Note a folder that cannot be listed."""
        self._unreadable.append(error)

    def warn(self) -> None:
        """Log what was left out."""
        if self._unreadable:
            first = self._unreadable[0]
            logger.warning(
                "left out %d folders in %s that cannot be listed, such as %s: %s",
                len(self._unreadable),
                one_line(str(self.root)),
                one_line(str(first.filename)),
                first.strerror,
            )
        if self._left_out:
            logger.warning("%s", self.left_out())


def visible_files(root: Path, endings: Collection[str], recursive: bool = True, *, links: OutsideLinks) -> list[Path]:
    """Return the files with certain endings, sorted; hidden files and folders are left out.

    Args:
        root: The folder.
        endings: In lower case, with the dot.
        recursive: Look into folders inside it, too.
        links: What to do about links that lead out of the folder. Links to folders are looked into only with its
            ``follow_links``, and each folder once, so links that lead in a circle end. It notes folders that cannot be
            listed.

    Raises:
        OSError: The folder itself cannot be listed.
    """
    files = [
        file
        for file in _entries(root, recursive, links)
        if file.suffix.lower() in endings and _may_be_file(file) and not links.leaves_out(file)
    ]
    return sorted(files)


def name_error(name: str, file: Path) -> RecordError | None:
    """Return the error of a name that no store can hold, as it is not UTF-8, or None."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return RecordError(f"the name of {one_line(str(file))} is not UTF-8; rename the file")
    return None


def _entries(root: Path, recursive: bool, links: OutsideLinks) -> Iterator[Path]:
    """Yield what is no folder, folders that links lead to after all others, so that files have their own paths."""
    folders, linked = [root], list[Path]()
    seen = {os.path.realpath(root)}
    while folders or linked:
        if folders:
            folder = folders.pop()
        else:
            folder = linked.pop(0)
            if (real := os.path.realpath(folder)) in seen:
                continue
            seen.add(real)
        for entry in _listed(folder, links):
            path = folder / entry.name
            if not _is_folder(entry):
                yield path
            elif not recursive:
                continue
            elif not entry.is_symlink():
                # A folder may have been reached by a link that leads into the middle of a tree.
                if (real := os.path.realpath(path)) not in seen:
                    seen.add(real)
                    folders.append(path)
            elif links.follow_links:
                linked.append(path)
            else:
                # Noted, where it leads out of the folder.
                links.leaves_out(path)


def _listed(folder: Path, links: OutsideLinks) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not _is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        if folder == links.root:
            raise
        links.note_unreadable(error)
        return []


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:
        return False


def _may_be_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # Such as on a disk that fails: whoever reads it says what is wrong, or skips it.
        return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_hidden(name: str) -> bool:
    # Office programs leave "~$lecture.pptx" beside what is open.
    return name.startswith((".", "~$"))


FILE_NAME = "file_name"
"""Metadata key of an image's path within its folder."""

_KEYS = ("caption", "captions", "text")
# Excel writes semicolons where a comma is the decimal sign, and tabs as "Unicode text".
_DELIMITERS = (",", ";", "\t")


class Sidecars:
    """Reads captions from the files beside images: ``photo.txt`` or ``photo.json``.

    Args:
        links: What to do about files that are links out of the folder.
        encoding: Of the files; None detects that of each.
    """

    def __init__(self, links: OutsideLinks, encoding: str | None = None) -> None:
        self._links = links
        self._encoding = encoding
        self._guessed: list[Path] = []

    def read(self, image: Path) -> str | RecordError:
        """Return the caption of an image, empty if there is none.

        A ``.json`` holds a string, a list of strings, or an object with one of these under ``caption``, ``captions`` or
        ``text``.
        """
        text, structured = image.with_suffix(".txt"), image.with_suffix(".json")
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
                "%d values differ between rows of one image; the first of each is kept (%s)",
                len(differing),
                differing[0],
            )

    def metadata_of(self, name: str) -> dict[str, str | int | float]:
        """Return the metadata of an image by its path within the folder; empty values are left out."""
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
