"""``ColumnReader``: tables and JSON files of any form, whose columns it is told."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from llama_index_mm_zhipu.arguments import explicit_constructor
from llama_index_mm_zhipu.readers.base import ImageReader, NodeOrError
from llama_index_mm_zhipu.readers.image_nodes import (
    addressed_image,
    captions_in,
    image_id_of,
    image_of_file,
    inline_image,
    joined,
    path_of_address,
)
from llama_index_mm_zhipu.readers.parsing.encodings import checked_encoding, encoding_of
from llama_index_mm_zhipu.readers.parsing.json import described, is_no_number, object_of, objects_of, storable
from llama_index_mm_zhipu.readers.parsing.lines import Record, RecordOrError, lines_of
from llama_index_mm_zhipu.readers.parsing.tables import NumericColumns, rows_of
from llama_index_mm_zhipu.readers.records import RESERVED_KEYS, RecordError
from llama_index_mm_zhipu.types import OnError


@explicit_constructor
@dataclass(frozen=True)
class Columns:
    """What the columns of a table, or the keys of JSON objects, hold.

    Attributes:
        caption: Of captions, one or several; in JSON a list of captions, too.
        image: Of the image's file within the folder of images. Of an address, the last part is taken.
        url: Of the image's address.
        base64: Of the image itself.
        id: Of its id; None makes one of the file's name and the image's, or the record's number.
        metadata: Kept as metadata of the node. In a table, a column of numbers becomes numbers, so that filters such as
            ``price >= 100`` find them; see ``ColumnReader``.
        delimiter: Between fields of a table.
        names: Of the columns of a table without a first row of names.
        separators: Between the values of columns that hold several, by column.
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
        """Refuse columns without an image.

        Raises:
            ValueError: There is none, or metadata is called as this package's own is.
            TypeError: ``metadata`` or ``names`` is a string.
        """
        for given in (self.metadata, self.names):
            if isinstance(given, str):
                raise TypeError(f"{given!r} stands where a tuple of columns should: give ({given!r},)")
        if reserved := sorted(RESERVED_KEYS.intersection(self.metadata)):
            raise ValueError(
                f"metadata={tuple(self.metadata)!r}: this package keeps metadata of its own under {reserved[0]!r}; "
                "rename the column"
            )
        if not (self.image or self.url or self.base64):
            raise ValueError("columns without an image: give image, url or base64")


WUDAOMM = Columns(caption="captions", image="name", url="url", metadata=("tag",))
"""WuDaoMM's base set, an array per category: ``ColumnReader(WUDAOMM).load_data("Art.json", images="Art")``.

Copies that call the image ``imagePath`` are read with ``dataclasses.replace(WUDAOMM, image="imagePath")``.
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
"""Product1M, ``product1m_{split}_ossurl_v2.txt``; the training split has no labels."""


JSON_LINES = (".jsonl", ".ndjson")
"""Endings of files that hold one JSON object a line."""

_JSON_ARRAY = ".json"


class ColumnReader(ImageReader):
    """Reads images from delimited text (``.csv``, ``.tsv``, ``.txt``), JSON arrays (``.json``) or lines (``.jsonl``).

    ``load_data(file, images)``: with ``images``, images are files in that folder, named by the column ``image``.
    Without it they are what the record holds: base64, or an address, which the embedding fetches with
    ``allow_urls=True``. Records stream, whatever the size of the file.

    In a table, a metadata column whose values are all plain numbers (``199``, ``-0.5``) becomes numbers; codes such as
    ``007`` or those of more than 15 digits stay text, and a column with any other value stays text as a whole. Where a
    value is empty, the node has no such metadata. The table is read once more for that, until every metadata column
    is known to be text. JSON says by itself what is a number; NaN and infinity become None.

    Args:
        columns: What the columns hold; ``WUDAOMM`` and ``PRODUCT1M`` are there.
        encoding: Of the file, such as ``"gb18030"`` (GBK, Excel's on Chinese Windows). None detects UTF-8, UTF-16 with
            a byte order mark, and GB18030, which is a guess and logged as a warning.
        id_prefix: What node ids begin with, as of ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``ImageReader``.
        show_progress: Show a progress bar.

    Raises:
        ValueError: The encoding is unknown.

    Examples:
        >>> reader = ColumnReader(Columns(caption="说明", image="图片", metadata=("类别",)))
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
        self.encoding = checked_encoding(encoding)

    def _records(self, file: str | Path, images: str | Path | None = None) -> Iterator[NodeOrError]:
        path = Path(file).expanduser()
        folder = Path(images).expanduser() if images is not None else None
        required = self._required(images)
        encoding = encoding_of(path, self.encoding)
        numbers = self._numeric_columns(path, required, encoding)
        seen: set[str] = set()
        for number, record in enumerate(self._rows(path, required, encoding, self.show_progress)):
            if isinstance(record, RecordError):
                yield record
                continue
            name = self._name_of(record, path.stem)
            if isinstance(name, RecordError):
                yield name
                continue
            if name in seen:
                yield RecordError(f"{record.place}: the image id {name!r} comes a second time")
                continue
            if name is not None:
                seen.add(name)
            yield self._node(name or f"{path.stem}/{number}", record, folder, numbers)

    def _nothing_read(self, file: str | Path, images: str | Path | None = None) -> str:
        return f"{file} holds no images; expected records with {', '.join(self._required(images))}"

    def _required(self, images: str | Path | None) -> list[str]:
        columns = self.columns
        source = columns.image if images is not None else columns.base64 or columns.url
        if source is None:
            raise ValueError(
                "the columns name no image file: give Columns(image=…)"
                if images is not None
                else "the columns name image files alone: give the folder where they lie, images=…"
            )
        return [*([columns.id] if columns.id else []), source, *self._captions()]

    def _rows(
        self, file: Path, required: list[str], encoding: str | None, show_progress: bool
    ) -> Generator[RecordOrError, None, None]:
        form = f"an object with {', '.join(required)}"
        if file.suffix.lower() == _JSON_ARRAY:
            yield from objects_of(file, form, required, show_progress, encoding)
        elif file.suffix.lower() in JSON_LINES:
            yield from (object_of(line, form, *required) for line in lines_of(file, show_progress, encoding))
        else:
            named = self.columns.names is not None
            yield from rows_of(
                file,
                # What is misspelt shows in a row of names; without one, last fields may be missing.
                required=required if named else [*required, *self.columns.metadata],
                delimiter=self.columns.delimiter,
                names=self.columns.names,
                show_progress=show_progress,
                encoding=encoding,
            )

    def _numeric_columns(self, file: Path, required: list[str], encoding: str | None) -> NumericColumns | None:
        """Find the metadata columns of a table that hold numbers; None of JSON, whose values have types."""
        if file.suffix.lower() in (_JSON_ARRAY, *JSON_LINES):
            return None
        columns = self.columns
        # A column may be both metadata and id: ids are text.
        text = {*required, columns.id, columns.image, columns.url, columns.base64, *columns.separators}
        numbers = NumericColumns([column for column in columns.metadata if column not in text])
        with closing(self._rows(file, required, encoding, show_progress=False)) as rows:
            # Without any candidate, no row is read.
            while numbers.may_hold_numbers and (row := next(rows, None)) is not None:
                if not isinstance(row, RecordError):
                    numbers.see(row.fields)
        return numbers

    def _captions(self) -> tuple[str, ...]:
        columns = self.columns.caption
        return (columns,) if isinstance(columns, str) else columns

    def _name_of(self, record: Record, stem: str) -> str | RecordError | None:
        """Return the id that a record gives itself, or None."""
        columns, fields, place = self.columns, record.fields, record.place
        if columns.id is not None:
            return image_id_of(fields[columns.id], place, columns.id)
        name = fields.get(columns.image) if columns.image else None
        if not name or is_no_number(name):
            return None
        return image_id_of(f"{stem}/{_file_name(str(name))}", place, str(columns.image))

    def _node(self, node_id: str, record: Record, images: Path | None, numbers: NumericColumns | None) -> NodeOrError:
        columns, fields, place = self.columns, record.fields, record.place
        captions: list[str] = []
        for column in self._captions():
            found = self._values(record, column)
            if isinstance(found, RecordError):
                return found
            captions += found
        metadata: dict[str, Any] = {}
        for column in columns.metadata:
            if column not in fields or (numbers is not None and not fields[column].strip()):
                continue
            value = self._values(record, column) if column in columns.separators else fields[column]
            if isinstance(value, RecordError):
                return value
            metadata[column] = numbers.value(column, value) if numbers is not None and isinstance(value, str) else value
        caption = joined(captions)
        # Text of tables was decoded, and numbers are finite: all of it can be stored.
        if numbers is None and metadata:
            metadata = storable(metadata)
        if images is not None:
            source = fields[columns.image]  # type: ignore[index]
            if is_no_number(source):
                return RecordError(f"{place}: {columns.image} is {described(source)}, not the name of a file")
            return image_of_file(node_id, images, _file_name(str(source or "")), caption, place, metadata)
        if columns.base64 is not None:
            return inline_image(node_id, fields[columns.base64], caption, place, metadata)
        return addressed_image(node_id, fields[columns.url], caption, place, metadata)  # type: ignore[index]

    def _values(self, record: Record, column: str) -> list[str] | RecordError:
        value, separator = record.fields.get(column), self.columns.separators.get(column)
        return captions_in(
            value.split(separator) if separator and isinstance(value, str) else value, column, record.place
        )


def _file_name(value: str) -> str:
    path = path_of_address(value.strip())
    return PurePosixPath(path).name if path is not None else value.strip().replace("\\", "/")


_CAPTION_NAMES = (
    *("caption", "captions", "text", "title", "description", "desc", "name", "query", "alt"),
    *("图片描述", "描述", "标题", "说明", "图片说明", "文本", "文案", "商品名", "商品名称", "名称", "品名"),
)
_ID_NAMES = ("image_id", "id", "img_id", "picture_id", "item_id", "sku", "no", "编号", "图片编号", "商品编号", "序号")

# Data URIs, and base64 of JPEG, PNG, GIF, WebP and BMP.
_BASE64_STARTS = ("data:image", "/9j/", "iVBORw0K", "R0lGOD", "UklGR", "Qk")


def column_reader_call(fields: Mapping[str, Any], file: Path) -> str:
    """Return code that reads a file whose records look like this one, ``…`` standing for what is not evident."""
    left = dict(fields)
    columns: dict[str, str] = {}

    def take(column: str, names: tuple[str, ...], fits: Callable[[str, Any], bool]) -> None:
        by_name = {key.lower(): key for key in left}
        known = [by_name[name] for name in names if name in by_name]
        found = next((key for key in [*known, *left] if fits(key, left[key])), None)
        if found is not None:
            columns[column] = found
            del left[found]

    for source, fits in (("base64", _is_base64), ("url", _is_url), ("image", _is_file_name)):
        if not columns:
            take(source, (), fits)
    source = next(iter(columns), "base64")
    take("caption", _CAPTION_NAMES, lambda key, value: _is_caption(value))
    take("id", _ID_NAMES, lambda key, value: key.lower() in _ID_NAMES or key.lower().endswith("_id"))
    shown = {name: repr(columns[name]) if name in columns else "…" for name in ("caption", source)}
    if "id" in columns:
        shown["id"] = repr(columns["id"])
    # ColumnReader goes by the ending.
    path = file if file.suffix.lower() in JSON_LINES else file.with_suffix(JSON_LINES[0])
    images = ", images=…" if source == "image" else ""
    arguments = ", ".join(f"{name}={value}" for name, value in shown.items())
    renamed = f" after renaming it to {path.name}" if path != file else ""
    return f"ColumnReader(Columns({arguments})).load_data({str(path)!r}{images}){renamed}"


def _is_base64(key: str, value: Any) -> bool:
    return isinstance(value, str) and (value.startswith(_BASE64_STARTS) or _is_called(key, "base64", "b64"))


def _is_url(key: str, value: Any) -> bool:
    return isinstance(value, str) and path_of_address(value) is not None


def _is_file_name(key: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    return Path(value).suffix.lower() in Image.registered_extensions() or _is_called(key, "image_path", "file_name")


def _is_caption(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def _is_called(key: str, *names: str) -> bool:
    return any(name in key.lower() for name in names)
