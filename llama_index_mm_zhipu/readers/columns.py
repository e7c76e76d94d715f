"""``ColumnReader``: tables and JSON files of any form, described by ``Columns``."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from llama_index_mm_zhipu.arguments import explicit_constructor
from llama_index_mm_zhipu.readers.base import ImageReader, NodeOrError
from llama_index_mm_zhipu.readers.encodings import normalize_encoding, resolve_encoding
from llama_index_mm_zhipu.readers.image_nodes import (
    captions_of,
    image_id_of,
    image_of_base64,
    image_of_bytes,
    image_of_file,
    image_of_url,
    join_captions,
    path_of_url,
)
from llama_index_mm_zhipu.readers.json import (
    describe_value,
    is_not_finite,
    parse_object,
    read_objects,
    storable,
)
from llama_index_mm_zhipu.readers.lines import Record, RecordOrError, read_lines
from llama_index_mm_zhipu.readers.parquet import PARQUET, read_parquet
from llama_index_mm_zhipu.readers.records import RESERVED_KEYS, RecordError
from llama_index_mm_zhipu.readers.tables import NumericColumns, read_rows
from llama_index_mm_zhipu.types import OnError

JSON_LINES = (".jsonl", ".ndjson")
"""Suffixes of files with one JSON object per line."""

_JSON_ARRAY = ".json"


@explicit_constructor
@dataclass(frozen=True)
class Columns:
    r"""The meaning of the columns of a table, or of the keys of JSON objects.

    Attributes:
        caption: Column of captions, or several columns. In JSON its value may be a list of captions.
        image: Column of the name of the image file in the folder of images. If the value is a URL, the last part of
            its path is the name.
        url: Column of the URL of the image.
        base64: Column of the image itself in base64, or as bytes in a Parquet file.
        id: Column of image ids. None makes ids from the name of the file and the name of the image, or the number of
            the record if it has no image name.
        metadata: Columns to keep as metadata of the node. In a table, columns of numbers become numbers, so that
            filters such as ``price >= 100`` work; see ``ColumnReader``.
        delimiter: Delimiter between the fields of a table.
        names: Names of the columns if the first row of the table does not contain them.
        separators: Separators of columns that contain several values, by column.

    Examples:
        >>> from llama_index_mm_zhipu.readers import ColumnReader, Columns
        >>> columns = Columns(caption=("title", "text"), image="file", metadata=("category",), delimiter="\t")
        >>> [node] = ColumnReader(columns).load_data("goods.tsv", "images")
        >>> node.text, node.metadata["category"]
        ('裙子\n红色', '服装')
    """

    caption: str | tuple[str, ...] = "caption"
    image: str | None = None
    url: str | None = None
    base64: str | None = None
    id: str | None = None
    metadata: tuple[str, ...] = ()
    delimiter: str = ","
    names: tuple[str, ...] | None = None
    separators: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the columns.

        Raises:
            ValueError: No column contains images, or a metadata column has the name of this package's own metadata.
            TypeError: ``metadata`` or ``names`` is a string.
        """
        for given in (self.metadata, self.names):
            if isinstance(given, str):
                raise TypeError(f"{given!r} is a string, not a tuple of columns: give ({given!r},)")
        if reserved := sorted(RESERVED_KEYS.intersection(self.metadata)):
            raise ValueError(
                f"metadata={tuple(self.metadata)!r}: this package keeps metadata of its own under {reserved[0]!r}; "
                "rename the column"
            )
        if not (self.image or self.url or self.base64):
            raise ValueError("columns without an image: give image, url or base64")


WUDAOMM = Columns(caption="captions", image="name", url="url", metadata=("tag",))
"""WuDaoMM's base set, one JSON array per category: ``ColumnReader(WUDAOMM).load_data("Art.json", images="Art")``.

For copies with the key ``imagePath``, use ``dataclasses.replace(WUDAOMM, image="imagePath")``.

Examples:
    >>> from llama_index_mm_zhipu.readers import WUDAOMM, ColumnReader
    >>> nodes = ColumnReader(WUDAOMM).load_data("WuDaoMM/Art.json", "WuDaoMM/Art")
    >>> nodes[0].text, nodes[0].metadata["tag"]
    ('红苹果', '符号')
"""

PRODUCT1M = Columns(
    caption="title",
    image="url_2",
    url="url",
    id="id",
    metadata=("labels",),
    delimiter="#####",
    names=("id", "title", "url", "url_2", "labels"),
    separators={"labels": "#;#"},
)
"""Product1M, ``product1m_{split}_ossurl_v2.txt``; the training split has no labels.

Examples:
    >>> from llama_index_mm_zhipu.readers import PRODUCT1M, ColumnReader
    >>> nodes = ColumnReader(PRODUCT1M).load_data("Product1M/product1m_test_ossurl_v2.txt", "Product1M/images")
    >>> nodes[0].text, nodes[0].metadata["labels"]
    ('红苹果', ['品牌', '其他'])
"""


class ColumnReader(ImageReader):
    """Reads images from tables (``.csv``, ``.tsv``, ``.txt``, ``.parquet``), and JSON (``.json``, ``.jsonl``).

    ``load_data(file, images)``: with ``images``, images are files in that folder, named by the column ``image``.
    Without it, records contain the images as base64, or URLs that the embedding fetches with ``allow_urls=True``.
    Records are streamed, so memory use does not grow with the file.

    In a table of text, a metadata column that contains only plain numbers (``199``, ``-0.5``) becomes numbers. If any
    value is something else, such as ``007`` or a code of more than 15 digits, the whole column stays text. For an empty
    value the node has no metadata of that name. To find numeric columns, the table is read once more, until all
    metadata columns are known to be text. In JSON and Parquet, values have types; NaN and infinity become None.

    Parquet files need the extra ``parquet``. The column ``base64`` may be binary there, or a struct with a binary field
    ``bytes``, as Hugging Face's library datasets writes images. As metadata, dates and times become ISO 8601, durations
    seconds, and decimals numbers; columns that contain bytes are left out with a warning. ``delimiter``, ``names`` and
    ``encoding`` do not apply.

    Args:
        columns: Meaning of the columns; ``WUDAOMM`` and ``PRODUCT1M`` are predefined.
        encoding: Encoding of the file, such as ``"gb18030"`` (GBK, written by Excel on Chinese Windows). None detects
            UTF-8, UTF-16 with a byte order mark, and GB18030, which is a guess and logged as a warning.
        id_prefix: Prefix of node ids, see ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, see ``ImageReader``.
        show_progress: Whether to show a progress bar.

    Raises:
        ValueError: The encoding is unknown.

    Examples:
        >>> from llama_index_mm_zhipu.readers import ColumnReader, Columns
        >>> reader = ColumnReader(Columns(caption="标题", image="图片", metadata=("价格",)))
        >>> [(node.text, node.metadata["价格"]) for node in reader.load_data("goods.csv", "images")][:2]
        [('红苹果', 10), ('汽车', 10)]
    """

    def __init__(
        self,
        columns: Columns,
        *,
        encoding: str | None = None,
        id_prefix: str | None = None,
        on_error: OnError = "raise",
        show_progress: bool = False,
    ) -> None:
        super().__init__(id_prefix=id_prefix, on_error=on_error, show_progress=show_progress)
        self.columns = columns
        self._caption_columns = (columns.caption,) if isinstance(columns.caption, str) else columns.caption
        self.encoding = normalize_encoding(encoding)

    def _records(self, file: str | Path, images: str | Path | None = None) -> Iterator[NodeOrError]:
        path = Path(file).expanduser()
        folder = Path(images).expanduser() if images is not None else None
        required = self._required_columns(images)
        numbers: NumericColumns | None = None
        rows: Iterator[RecordOrError]
        if path.suffix.lower() == PARQUET:
            # Parquet has types, and its text is UTF-8.
            rows = self._parquet_rows(path, required, has_files=images is not None)
        else:
            encoding = resolve_encoding(path, self.encoding)
            numbers = self._numeric_columns(path, required, encoding)
            rows = self._rows(path, required, encoding, self.show_progress)
        seen: set[str] = set()
        for number, record in enumerate(rows):
            if isinstance(record, RecordError):
                yield record
                continue
            name = self._image_id(record, path.stem)
            if isinstance(name, RecordError):
                yield name
                continue
            if name in seen:
                yield RecordError(record.position, f"the image id {name!r} is listed twice")
                continue
            if name is not None:
                seen.add(name)
            yield self._node(name or f"{path.stem}/{number}", record, folder, numbers)

    def _empty_message(self, file: str | Path, images: str | Path | None = None) -> str:
        return f"{file} holds no images; expected records with {', '.join(self._required_columns(images))}"

    def _required_columns(self, images: str | Path | None) -> list[str]:
        columns = self.columns
        source = columns.image if images is not None else columns.base64 or columns.url
        if source is None:
            raise ValueError(
                "the columns name no image file: give Columns(image=…)"
                if images is not None
                else "the columns name only image files: give the folder of the images, images=…"
            )
        return [*([columns.id] if columns.id else []), source, *self._caption_columns]

    def _rows(
        self, file: Path, required: list[str], encoding: str | None, show_progress: bool
    ) -> Generator[RecordOrError, None, None]:
        expected = f"an object with {', '.join(required)}"
        if file.suffix.lower() == _JSON_ARRAY:
            yield from read_objects(file, expected, required, show_progress, encoding)
        elif file.suffix.lower() in JSON_LINES:
            yield from (parse_object(line, expected, *required) for line in read_lines(file, show_progress, encoding))
        else:
            has_names = self.columns.names is not None
            yield from read_rows(
                file,
                # With a header, a misspelt metadata column is an error. Without one, rows may lack their last fields.
                required=required if has_names else [*required, *self.columns.metadata],
                delimiter=self.columns.delimiter,
                names=self.columns.names,
                show_progress=show_progress,
                encoding=encoding,
            )

    def _parquet_rows(self, file: Path, required: list[str], *, has_files: bool) -> Iterator[RecordOrError]:
        columns = self.columns
        image = None if has_files else columns.base64
        texts = required.copy()
        if image is not None:
            # If the column has another use, too, it must hold text.
            texts.remove(image)
        return read_parquet(
            file,
            texts=texts,
            image=image,
            metadata=columns.metadata,
            # Makes ids of images that are not files.
            optional=[columns.image] if columns.image and columns.id is None else [],
            show_progress=self.show_progress,
        )

    def _numeric_columns(self, file: Path, required: list[str], encoding: str | None) -> NumericColumns | None:
        """Return the numeric metadata columns of a table; None for JSON, whose values have types."""
        if file.suffix.lower() in (_JSON_ARRAY, *JSON_LINES):
            return None
        columns = self.columns
        # A column may be both metadata and id; ids stay text.
        text = {*required, columns.id, columns.image, columns.url, columns.base64, *columns.separators}
        numbers = NumericColumns([column for column in columns.metadata if column not in text])
        with closing(self._rows(file, required, encoding, show_progress=False)) as rows:
            # Stops at once if there are no candidates.
            while numbers.may_hold_numbers and (row := next(rows, None)) is not None:
                if not isinstance(row, RecordError):
                    numbers.add_row(row.fields)
        return numbers

    def _image_id(self, record: Record, stem: str) -> str | RecordError | None:
        """Return the id from a record, or None if it has none."""
        columns, fields = self.columns, record.fields
        if columns.id is not None:
            return image_id_of(fields[columns.id], record.position, columns.id)
        name = fields.get(columns.image) if columns.image else None
        if not name or is_not_finite(name):
            return None
        return image_id_of(f"{stem}/{_image_name(str(name))}", record.position, str(columns.image))

    def _node(self, node_id: str, record: Record, images: Path | None, numbers: NumericColumns | None) -> NodeOrError:
        columns, fields, position = self.columns, record.fields, record.position
        captions: list[str] = []
        for column in self._caption_columns:
            found = self._values(record, column)
            if isinstance(found, RecordError):
                return found
            captions += found
        caption = join_captions(captions)
        metadata = self._metadata(record, numbers)
        if isinstance(metadata, RecordError):
            return metadata
        if images is not None:
            source = fields[columns.image]  # type: ignore[index]
            if is_not_finite(source):
                return RecordError(position, f"{columns.image} is {describe_value(source)}, not the name of a file")
            return image_of_file(node_id, images, _image_name(str(source or "")), caption, position, metadata)
        if columns.base64 is not None:
            image = fields[columns.base64]
            make_node = image_of_bytes if isinstance(image, bytes) else image_of_base64
            return make_node(node_id, image, caption, position, metadata)
        return image_of_url(node_id, fields[columns.url], caption, position, metadata)  # type: ignore[index]

    def _metadata(self, record: Record, numbers: NumericColumns | None) -> dict[str, Any] | RecordError:
        columns, fields = self.columns, record.fields
        metadata: dict[str, Any] = {}
        for column in columns.metadata:
            if column not in fields or (numbers is not None and not fields[column].strip()):
                continue
            if isinstance(fields[column], bytes):
                # The image of a Parquet file; the reader of the file logs a warning.
                continue
            value = self._values(record, column) if column in columns.separators else fields[column]
            if isinstance(value, RecordError):
                return value
            metadata[column] = (
                numbers.convert(column, value) if numbers is not None and isinstance(value, str) else value
            )
        # Values of a table can always be stored: their text was decoded, and their numbers are finite.
        stored: dict[str, Any] = storable(metadata) if numbers is None and metadata else metadata
        return stored

    def _values(self, record: Record, column: str) -> list[str] | RecordError:
        value, separator = record.fields.get(column), self.columns.separators.get(column)
        if separator and isinstance(value, str):
            value = value.split(separator)
        return captions_of(value, column, record.position)


def _image_name(value: str) -> str:
    """Return the name of an image file: the last part of a URL, or a path with slashes."""
    path = path_of_url(value.strip())
    return PurePosixPath(path).name if path is not None else value.strip().replace("\\", "/")
