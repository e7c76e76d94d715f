"""Wukong: a hundred million addresses of pictures on the web, with captions."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from llama_index.core.schema import ImageNode

from llama_index_mm_zhipu.readers.base import NodeOrError, PictureReader
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.lines import Line, lines_of
from llama_index_mm_zhipu.readers.picture_files import picture_of_file

_COLUMNS = ["url", "caption"]
_FILE_NUMBER = re.compile(r"_(\d+)$")


class WukongReader(PictureReader):
    """Reads a file of Wukong, ``wukong_100m_{0..255}.csv``.

    ``load_data(file, images)``: without ``images``, nodes have addresses (``image_url``), which the embedding fetches
    with ``allow_urls=True``; many no longer answer. With it, pictures are those that the official downloader saved as
    ``{images}/{file:03d}/{row:05d}.jpg``. There are no ids in the file: they are made of its number and the row.

    Args:
        **kwargs: Of ``PictureReader``: ``on_error``, ``show_progress``.
    """

    def _records(self, file: str | Path, images: str | Path | None = None) -> Iterator[NodeOrError]:
        path = Path(file)
        found = _FILE_NUMBER.search(path.stem)
        number = int(found.group(1)) if found else 0
        row = -1
        for line in lines_of(path, self.show_progress):
            row += 1
            if isinstance(line, RecordError):
                yield line
                continue
            if row == 0:
                if _fields(line) != _COLUMNS:
                    yield RecordError(f"{line.place}: the header is not url,caption")
                    return
                continue
            yield _node(line, number, row - 1, Path(images) if images is not None else None)

    def _nothing_read(self, file: str | Path, images: str | Path | None = None) -> str:
        return f"{file} holds no pictures; expected the header url,caption and a line for each picture"


def _fields(line: Line) -> list[str]:
    # A caption may hold a carriage return, which the csv module takes for the end of a row.
    row = next(csv.reader([line.text.replace("\r", " ")], strict=True), [])
    return [field.strip() for field in row]


def _node(line: Line, number: int, row: int, images: Path | None) -> NodeOrError:
    try:
        fields = _fields(line)
    except csv.Error as error:
        return RecordError(f"{line.place}: not url,caption ({error})")
    if len(fields) != len(_COLUMNS) or not fields[0]:
        return RecordError(f"{line.place}: not url,caption, but {len(fields)} fields")
    url, caption = fields
    node_id = f"{number:03d}/{row:05d}"
    if images is not None:
        return picture_of_file(node_id, images / f"{node_id}.jpg", caption, line.place)
    return ImageNode(id_=node_id, image_url=url, text=caption)
