"""``FolderReader``: images in a folder, with captions and metadata from sidecar files or a CSV."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from llama_index.core.schema import ImageNode
from PIL import Image
from tqdm.auto import tqdm

from llama_index_mm_zhipu.arguments import as_path, explicit_arguments
from llama_index_mm_zhipu.images import FORMATS, ImageError, read_file
from llama_index_mm_zhipu.readers.base import ImageReader, NodeOrError
from llama_index_mm_zhipu.readers.encodings import (
    GB18030,
    detect_encoding,
    normalize_encoding,
    resolve_encoding,
)
from llama_index_mm_zhipu.readers.folder_files import OutsideLinks, list_files, name_error
from llama_index_mm_zhipu.readers.image_nodes import Captions, captions_of, join_captions
from llama_index_mm_zhipu.readers.json import is_not_finite
from llama_index_mm_zhipu.readers.lines import read_lines
from llama_index_mm_zhipu.readers.records import FILE_NAME, RESERVED_KEYS, ImageRecord, RecordError, content_hash
from llama_index_mm_zhipu.readers.tables import NumericColumns, read_header, read_rows
from llama_index_mm_zhipu.types import OnError

logger = logging.getLogger(__name__)

SIDECAR = "sidecar"
"""Value of ``captions`` for files beside each image: ``photo.txt`` or ``photo.json``."""

_SIDECAR_KEYS = ("caption", "captions", "text")
_NOT_TABLES = (".json", ".jsonl", ".parquet")
# Excel writes semicolons in countries with a decimal comma, and tabs as "Unicode text".
_DELIMITERS = (",", ";", "\t")


class FolderReader(ImageReader):
    """Reads every image file in a folder; nodes refer to the files by their paths.

    Node ids end with the path within the folder, so indexing the folder again replaces its images.
    ``metadata["file_name"]`` is the same path.

    ``load_data(folder, captions)``: ``captions`` is None, ``"sidecar"`` for a ``.txt`` or ``.json`` file of the same
    name beside each image, or the path of a CSV with a header. A header without the columns is an error, whatever
    ``on_error`` is: it would leave all images without captions.

    Other columns of the CSV become metadata. A column of plain numbers becomes numbers, so that filters such as
    ``price >= 100`` work; all other columns stay text, for example those with ``007`` or codes of more than 15 digits.
    Empty values are left out. If an image has several rows, all captions are read, and the first value of each other
    column. The table is kept in memory.

    Args:
        recursive: Whether to read subfolders too.
        hash_contents: Whether to read and hash every file, so that an ``IngestionPipeline`` finds changed images.
        name_column: Column of the CSV with the paths of images, absolute or within the folder; ``"file_name"`` by
            default.
        caption_column: Column of the CSV with captions, or None if the CSV contains only metadata.
        encoding: Encoding of the CSV or the sidecar files, such as ``"gb18030"`` (GBK, written by Excel on Chinese
            Windows). None detects UTF-8, UTF-16 with a byte order mark, and GB18030, which is a guess and logged as a
            warning.
        follow_links: Whether to follow links that lead out of the folder, and links to folders. By default they are
            left out with a warning; links to files inside the folder are always followed.
        id_prefix: Prefix of node ids, see ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, see ``ImageReader``.
        show_progress: Whether to show a progress bar.

    Raises:
        ValueError: The encoding is unknown.

    Examples:
        >>> from llama_index_mm_zhipu.readers import FolderReader
        >>> reader = FolderReader(name_column="图片", caption_column="标题")
        >>> [(node.text, node.metadata["价格"]) for node in reader.load_data("images", "goods.csv")][:2]
        [('红苹果', 10), ('汽车', 10)]
    """

    ids_are_files = True

    def __init__(
        self,
        *,
        recursive: bool = True,
        hash_contents: bool = True,
        name_column: str = FILE_NAME,
        caption_column: str | None = "caption",
        encoding: str | None = None,
        follow_links: bool = False,
        id_prefix: str | None = None,
        on_error: OnError = "raise",
        show_progress: bool = False,
    ) -> None:
        super().__init__(id_prefix=id_prefix, on_error=on_error, show_progress=show_progress)
        self.recursive = recursive
        self.hash_contents = hash_contents
        self.name_column = name_column
        self.caption_column = caption_column
        self.encoding = normalize_encoding(encoding)
        self.follow_links = follow_links
        self._excluded_links = ""

    def _records(self, folder: str | Path, captions: str | Path | None = None) -> Iterator[NodeOrError]:
        # Absolute paths remain valid when the working directory changes.
        root = Path(folder).expanduser().absolute()
        if not root.is_dir():
            raise FileNotFoundError(f"no such folder: {root}; check the path of the images")
        if (bad_name := name_error(str(root), root)) is not None:
            raise bad_name
        links = OutsideLinks(root, self.follow_links)
        sidecars = _Sidecars(links, self.encoding)
        table = _CaptionTable(self.name_column, self.caption_column)
        if captions is not None and captions != SIDECAR:
            file = as_path(captions, "captions")
            if file.suffix.lower() in _NOT_TABLES:
                raise ValueError(
                    f"{file} is not a CSV; captions are 'sidecar' or a CSV, and ColumnReader reads other tables"
                )
            yield from table.read(file, resolve_encoding(file, self.encoding), root)
        images = _images_in(root, self.recursive, links)
        names = {image.relative_to(root).as_posix() for image in images}
        try:
            for image in tqdm(images, desc=f"Reading {root.name}", unit="image", disable=not self.show_progress):
                name = image.relative_to(root).as_posix()
                caption = sidecars.read(image) if captions == SIDECAR else table.captions.by_id.get(name, "")
                if isinstance(caption, RecordError):
                    yield caption
                else:
                    yield self._node(image, name, caption, table.metadata_of(name))
        finally:
            links.warn()
            sidecars.warn()
            self._excluded_links = links.summary()
        for name, position in table.captions.positions.items():
            if name not in names:
                yield RecordError(position, f"there is no image {name} in {root}")

    def _empty_message(self, folder: str | Path, captions: str | Path | None = None) -> str:
        return f"{folder} holds no images; {self._excluded_links or 'expected files such as .jpg or .png'}"

    def _node(self, file: Path, name: str, caption: str, metadata: dict[str, str | int | float]) -> NodeOrError:
        if (error := name_error(name, file)) is not None:
            return error
        digest = _hash_of_file(file) if self.hash_contents else None
        return ImageRecord.of(name, digest, image_path=str(file), text=caption, metadata={FILE_NAME: name, **metadata})


@explicit_arguments
def read_folder(
    folder: str | Path,
    *,
    captions: str | Path | None = None,
    name_column: str = FILE_NAME,
    caption_column: str | None = "caption",
    encoding: str | None = None,
    recursive: bool = True,
    follow_links: bool = False,
    hash_contents: bool = True,
    id_prefix: str | None = None,
    show_progress: bool = False,
) -> list[ImageNode]:
    """Return a node for every image file in a folder: short for ``FolderReader(…).load_data(folder, captions)``.

    Args:
        folder: Folder of image files (``.jpg``, ``.png``, ``.webp``, …). Hidden files and folders, such as
            ``._photo.jpg`` from macOS, are left out.
        captions: None, ``"sidecar"`` for a ``.txt`` or ``.json`` file beside each image, or the path of a CSV with a
            header. Other columns of the CSV become metadata, columns of plain numbers as numbers.
        name_column: Column of the CSV with the paths of images, absolute or within the folder; ``"file_name"`` by
            default.
        caption_column: Column of the CSV with captions, or None if the CSV contains only metadata.
        encoding: Encoding of the CSV or the sidecar files, such as ``"gb18030"`` (GBK, written by Excel on Chinese
            Windows); None detects it as ``FolderReader`` does.
        recursive: Whether to read subfolders too.
        follow_links: Whether to follow links that lead out of the folder, and links to folders. By default they are
            left out with a warning.
        hash_contents: Whether to read and hash every file, so that ``build_index`` and an ``IngestionPipeline`` find
            changed images.
        id_prefix: Prefix of node ids, without the slash. The default consists of the name of the folder and a hash of
            its path, so that images of two folders never replace each other.
        show_progress: Whether to show a progress bar.

    Returns:
        Nodes sorted by path.

    Raises:
        FileNotFoundError: The folder or the CSV does not exist.
        ValueError: The folder contains no images, a file name is not UTF-8, a caption cannot be read, a column is
            missing from the CSV or has the name of this package's own metadata, or the encoding is unknown.

    Examples:
        >>> nodes = read_folder("images", captions="goods.csv", name_column="图片", caption_column="标题")
        >>> len(nodes), nodes[0].text, nodes[0].metadata["价格"]
        (12, '红苹果', 10)
    """
    reader = FolderReader(
        recursive=recursive,
        hash_contents=hash_contents,
        name_column=name_column,
        caption_column=caption_column,
        encoding=encoding,
        follow_links=follow_links,
        id_prefix=id_prefix,
        show_progress=show_progress,
    )
    return reader.load_data(folder, captions)


def _images_in(root: Path, recursive: bool, links: OutsideLinks) -> list[Path]:
    return list_files(root, image_suffixes(), recursive, links=links)


def image_suffixes() -> set[str]:
    """Return the suffixes of image files in lower case, with the dot."""
    return {suffix for suffix, format_ in Image.registered_extensions().items() if format_ in (*FORMATS, "MPO")}


def _hash_of_file(file: Path) -> str | None:
    try:
        return content_hash(read_file(file))
    except ImageError:
        # The embedding reports the error or skips the image.
        return None


class _Sidecars:
    """Reads captions from the files beside images, ``photo.txt`` or ``photo.json``.

    Args:
        links: Decides about files that are links out of the folder.
        encoding: Encoding of the files; None detects the encoding of each file.
    """

    def __init__(self, links: OutsideLinks, encoding: str | None = None) -> None:
        self._links = links
        self._encoding = encoding
        self._guessed: list[Path] = []

    def read(self, image: Path) -> str | RecordError:
        """Return the caption of an image, or ``""`` if there is none.

        A ``.json`` file contains a string, a list of strings, or an object with one of these under ``caption``,
        ``captions`` or ``text``.
        """
        text, structured = image.with_suffix(".txt"), image.with_suffix(".json")
        if text.is_file():
            return "" if self._links.excludes(text) else self._text_of(text)
        if not structured.is_file() or self._links.excludes(structured):
            return ""
        content = self._text_of(structured)
        return content if isinstance(content, RecordError) else _caption_in_json(content, structured)

    def warn(self) -> None:
        """Log the number of files whose encoding is a guess, and the first of them."""
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
        for line in read_lines(file, encoding=encoding):
            if isinstance(line, RecordError):
                return line
            texts.append(line.text.strip())
        return "\n".join(texts)


def _caption_in_json(content: str, file: Path) -> str | RecordError:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        return RecordError(f"{file}, line {getattr(error, 'lineno', 1)}", f"not JSON ({error})")
    position = f"{file}, line 1"
    if isinstance(value, dict):
        value = next((value[key] for key in _SIDECAR_KEYS if key in value), False)
    captions = value if isinstance(value, list) else [value]
    if not all(isinstance(caption, str | None) or is_not_finite(caption) for caption in captions):
        return RecordError(position, f"not a caption, nor an object with {', '.join(_SIDECAR_KEYS)}")
    found = captions_of(value, "the file", position)
    return found if isinstance(found, RecordError) else join_captions(found)


class _CaptionTable:
    """Captions and metadata by file name, from a CSV with a header.

    Args:
        name_column: Column with the paths of images.
        caption_column: Column with captions, or None. All other columns are metadata. Several rows of an image add
            their captions.
    """

    def __init__(self, name_column: str, caption_column: str | None) -> None:
        self.captions = Captions()
        self._name_column = name_column
        self._caption_column = caption_column
        self._required = [column for column in (name_column, caption_column) if column is not None]
        self._metadata: dict[str, dict[str, str]] = {}
        self._numbers = NumericColumns(())

    def read(self, file: Path, encoding: str | None, folder: Path) -> Iterator[RecordError]:
        """Read the table, and yield the errors of its rows.

        Args:
            file: The table. Fields are separated by commas, semicolons or tabs, and may be quoted.
            encoding: Encoding of the file; None for UTF-8.
            folder: Folder of the images; the table has their paths within it, or absolute paths.

        Raises:
            RecordError: The header lacks a column, so that no row can be used.
        """
        delimiter, header = _delimiter_and_header(file, self._required, encoding)
        if header is None:
            header = RecordError(str(file), f"the file is empty; expected a header with {' and '.join(self._required)}")
        if isinstance(header, RecordError):
            raise header
        if (error := self._header_error(*header)) is not None:
            raise error
        columns = [name for name in header[1] if name and name not in self._required]
        yield from self._read_rows(file, delimiter, columns, encoding, folder)

    def metadata_of(self, name: str) -> dict[str, str | int | float]:
        """Return the metadata of an image by its path within the folder; empty values are left out."""
        return {column: self._numbers.convert(column, text) for column, text in self._metadata.get(name, {}).items()}

    def _read_rows(
        self, file: Path, delimiter: str, columns: Sequence[str], encoding: str | None, folder: Path
    ) -> Iterator[RecordError]:
        self._numbers = NumericColumns(columns)
        differing: list[str] = []
        for row in read_rows(file, required=self._required, delimiter=delimiter, quoted=True, encoding=encoding):
            if isinstance(row, RecordError):
                yield row
                continue
            name = _name_within(folder, row.fields[self._name_column])
            self.captions.add(name, row.fields[self._caption_column] if self._caption_column else "", row.position)
            self._numbers.add_row(row.fields)
            metadata = self._metadata.setdefault(name, {})
            for column in columns:
                if (value := row.fields.get(column, "")).strip() and metadata.setdefault(column, value) != value:
                    differing.append(
                        f"{row.position}: {column} of {name} is {value!r}, and {metadata[column]!r} before"
                    )
        if differing:
            logger.warning(
                "%d values differ between rows of one image; the first of each is kept (%s)",
                len(differing),
                differing[0],
            )

    def _header_error(self, position: str, names: Sequence[str]) -> RecordError | None:
        if twice := sorted({name for name in names if name and names.count(name) > 1}):
            return RecordError(position, f"more than one column is called {' or '.join(map(repr, twice))}")
        if missing := [name for name in self._required if name not in names]:
            return RecordError(
                position,
                f"there is no column {' nor '.join(missing)}, but {names}; name yours with name_column=… and "
                "caption_column=…, which is None where there are no captions",
            )
        own = {*RESERVED_KEYS, FILE_NAME}.difference(self._required)
        if taken := sorted(own.intersection(names)):
            return RecordError(
                position, f"the column {taken[0]!r} has the name of this package's own metadata; rename the column"
            )
        return None


def _delimiter_and_header(
    file: Path, required: Sequence[str], encoding: str | None
) -> tuple[str, tuple[str, list[str]] | RecordError | None]:
    """Return the delimiter that yields the required columns, by default a comma, and the header."""
    headers = {delimiter: read_header(file, delimiter, encoding) for delimiter in _DELIMITERS}
    for delimiter, header in headers.items():
        if isinstance(header, tuple) and set(required) <= set(header[1]):
            return delimiter, header
    return ",", headers[","]


def _name_within(folder: Path, text: str) -> str:
    """Return the path of an image within a folder, from a path that may be absolute or have backslashes."""
    path = PurePosixPath(text.strip().replace("\\", "/"))
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
