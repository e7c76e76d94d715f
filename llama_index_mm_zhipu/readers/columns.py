"""``ColumnReader``: tables and JSON files of any form, whose columns it is told."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

from llama_index_mm_zhipu.embedding.nodes import OnError
from llama_index_mm_zhipu.readers.addressed_pictures import addressed_picture, path_of_address
from llama_index_mm_zhipu.readers.base import NodeOrError, PictureReader
from llama_index_mm_zhipu.readers.captions import captions_in, joined
from llama_index_mm_zhipu.readers.columns_old import Columns
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.image_nodes import inline_picture
from llama_index_mm_zhipu.readers.parsing.tables import rows_of
from llama_index_mm_zhipu.readers.parsing.encodings import checked_encoding, encoding_of
from llama_index_mm_zhipu.readers.parsing.json import objects_of
from llama_index_mm_zhipu.readers.parsing.json_objects import object_of
from llama_index_mm_zhipu.readers.parsing.json_values import described, is_no_number, storable
from llama_index_mm_zhipu.readers.parsing.lines import lines_of
from llama_index_mm_zhipu.readers.parsing.numbers import NumericColumns
from llama_index_mm_zhipu.readers.parsing.record import Record, RecordOrError
from llama_index_mm_zhipu.readers.picture_files import picture_of_file
from llama_index_mm_zhipu.readers.picture_ids import picture_id_of

JSON_LINES = (".jsonl", ".ndjson")
"""Endings of files that hold one JSON object a line."""

_JSON_ARRAY = ".json"


class ColumnReader(PictureReader):
    """Reads pictures from delimited text (``.csv``, ``.tsv``, ``.txt``), JSON arrays (``.json``) or lines (``.jsonl``).

    ``load_data(file, images)``: with ``images``, pictures are files in that folder, named by the column ``picture``.
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
        id_prefix: What node ids begin with, as of ``PictureReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``PictureReader``.
        show_progress: Show a progress bar.

    Raises:
        ValueError: The encoding is unknown.

    Examples:
        >>> reader = ColumnReader(Columns(caption="说明", picture="图片", metadata=("类别",)))
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
                yield RecordError(f"{record.place}: the picture id {name!r} comes a second time")
                continue
            if name is not None:
                seen.add(name)
            yield self._node(name or f"{path.stem}/{number}", record, folder, numbers)

    def _nothing_read(self, file: str | Path, images: str | Path | None = None) -> str:
        return f"{file} holds no pictures; expected records with {', '.join(self._required(images))}"

    def _required(self, images: str | Path | None) -> list[str]:
        columns = self.columns
        source = columns.picture if images is not None else columns.base64 or columns.url
        if source is None:
            raise ValueError(
                "the columns name no picture file: give Columns(picture=…)"
                if images is not None
                else "the columns name picture files alone: give the folder where they lie, images=…"
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
        text = {*required, columns.id, columns.picture, columns.url, columns.base64, *columns.separators}
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
            return picture_id_of(fields[columns.id], place, columns.id)
        name = fields.get(columns.picture) if columns.picture else None
        if not name or is_no_number(name):
            return None
        return picture_id_of(f"{stem}/{_file_name(str(name))}", place, str(columns.picture))

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
            source = fields[columns.picture]  # type: ignore[index]
            if is_no_number(source):
                return RecordError(f"{place}: {columns.picture} is {described(source)}, not the name of a file")
            return picture_of_file(node_id, images, _file_name(str(source or "")), caption, place, metadata)
        if columns.base64 is not None:
            return inline_picture(node_id, fields[columns.base64], caption, place, metadata)
        return addressed_picture(node_id, fields[columns.url], caption, place, metadata)  # type: ignore[index]

    def _values(self, record: Record, column: str) -> list[str] | RecordError:
        value, separator = record.fields.get(column), self.columns.separators.get(column)
        return captions_in(
            value.split(separator) if separator and isinstance(value, str) else value, column, record.place
        )


def _file_name(value: str) -> str:
    path = path_of_address(value.strip())
    return PurePosixPath(path).name if path is not None else value.strip().replace("\\", "/")
