"""``ColumnReader``: tables and JSON files of any form, whose columns it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from llama_index_mm_zhipu.readers.addressed_pictures import addressed_picture, path_of_address
from llama_index_mm_zhipu.readers.base import NodeOrError, PictureReader
from llama_index_mm_zhipu.readers.captions import captions_in, joined, with_whole_characters
from llama_index_mm_zhipu.readers.columns import Columns
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.inline_pictures import inline_picture
from llama_index_mm_zhipu.readers.parsing.delimited import rows_of
from llama_index_mm_zhipu.readers.parsing.json_arrays import objects_of
from llama_index_mm_zhipu.readers.parsing.json_objects import object_of
from llama_index_mm_zhipu.readers.parsing.lines import lines_of
from llama_index_mm_zhipu.readers.parsing.record import Record, RecordOrError
from llama_index_mm_zhipu.readers.picture_files import picture_of_file
from llama_index_mm_zhipu.readers.picture_ids import picture_id_of

_JSON_LINES = (".jsonl", ".ndjson")


class ColumnReader(PictureReader):
    """Reads pictures from delimited text (``.csv``, ``.tsv``, ``.txt``), JSON arrays (``.json``) or lines (``.jsonl``).

    ``load_data(file, images)``: with ``images``, pictures are files in that folder, named by the column ``picture``.
    Without it they are what the record holds: base64, or an address, which the embedding fetches with
    ``allow_urls=True``. Records stream, whatever the size of the file.

    Args:
        columns: What the columns hold; ``WUDAOMM`` and ``PRODUCT1M`` are there.
        **kwargs: Of ``PictureReader``: ``on_error``, ``show_progress``.

    Examples:
        >>> reader = ColumnReader(Columns(caption="说明", picture="图片", metadata=("类别",)))
    """

    def __init__(self, columns: Columns, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.columns = columns

    def _records(self, file: str | Path, images: str | Path | None = None) -> Iterator[NodeOrError]:
        path = Path(file).expanduser()
        folder = Path(images).expanduser() if images is not None else None
        seen: set[str] = set()
        for number, record in enumerate(self._rows(path, self._required(images))):
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
            yield self._node(name or f"{path.stem}/{number}", record, folder)

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

    def _rows(self, file: Path, required: list[str]) -> Iterator[RecordOrError]:
        form = f"an object with {', '.join(required)}"
        if file.suffix.lower() == ".json":
            yield from objects_of(file, form, required, self.show_progress)
        elif file.suffix.lower() in _JSON_LINES:
            yield from (object_of(line, form, *required) for line in lines_of(file, self.show_progress))
        else:
            named = self.columns.names is not None
            yield from rows_of(
                file,
                # What is misspelt shows in a row of names; without one, last fields may be missing.
                required=required if named else [*required, *self.columns.metadata],
                delimiter=self.columns.delimiter,
                names=self.columns.names,
                show_progress=self.show_progress,
            )

    def _captions(self) -> tuple[str, ...]:
        columns = self.columns.caption
        return (columns,) if isinstance(columns, str) else columns

    def _name_of(self, record: Record, stem: str) -> str | RecordError | None:
        """Return the id that a record gives itself, or None."""
        if self.columns.id is not None:
            return picture_id_of(record.fields[self.columns.id], record.place)
        name = record.fields.get(self.columns.picture) if self.columns.picture else None
        return picture_id_of(f"{stem}/{_file_name(str(name))}", record.place) if name else None

    def _node(self, node_id: str, record: Record, images: Path | None) -> NodeOrError:
        columns, fields, place = self.columns, record.fields, record.place
        caption = joined(text for column in self._captions() for text in self._values(fields, column))
        metadata = {column: self._metadata_value(fields, column) for column in columns.metadata if column in fields}
        if images is not None:
            name = _file_name(str(fields[columns.picture] or ""))  # type: ignore[index]
            return picture_of_file(node_id, images, name, caption, place, metadata)
        if columns.base64 is not None:
            return inline_picture(node_id, fields[columns.base64], caption, place, metadata)
        return addressed_picture(node_id, fields[columns.url], caption, place, metadata)  # type: ignore[index]

    def _values(self, fields: dict[str, Any], column: str) -> list[str]:
        value, separator = fields.get(column), self.columns.separators.get(column)
        return captions_in(value.split(separator) if separator and isinstance(value, str) else value)

    def _metadata_value(self, fields: dict[str, Any], column: str) -> Any:
        value = self._values(fields, column) if column in self.columns.separators else fields[column]
        # Of values within values, too.
        return json.loads(with_whole_characters(json.dumps(value, ensure_ascii=False)))


def _file_name(value: str) -> str:
    path = path_of_address(value.strip())
    return PurePosixPath(path).name if path is not None else value.strip().replace("\\", "/")
