"""Wukong: a hundred million addresses of pictures on the web, with captions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from llama_index_mm_zhipu.readers.addressed_pictures import addressed_picture
from llama_index_mm_zhipu.readers.base import NodeOrError, PictureReader
from llama_index_mm_zhipu.readers.captions import in_one_line
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.parsing.tables import rows_of
from llama_index_mm_zhipu.readers.parsing.record import Record
from llama_index_mm_zhipu.readers.picture_files import picture_of_file

_FILE_NUMBER = re.compile(r"_(\d+)$")


class WukongReader(PictureReader):
    """Reads a file of Wukong, ``wukong_100m_{0..255}.csv``.

    ``load_data(file, images)``: without ``images``, nodes have addresses (``image_url``), which the embedding fetches
    with ``allow_urls=True``; many no longer answer. With it, pictures are those that the official downloader saved as
    ``{images}/{file:03d}/{row:05d}.jpg``. There are no ids in the file: they are made of its number and the row.

    Args:
        id_prefix: What node ids begin with, as of ``PictureReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``PictureReader``.
        show_progress: Show a progress bar.
    """

    def _records(self, file: str | Path, images: str | Path | None = None) -> Iterator[NodeOrError]:
        path = Path(file).expanduser()
        folder = Path(images).expanduser() if images is not None else None
        number = _FILE_NUMBER.search(path.stem)
        prefix = f"{int(number.group(1)):03d}" if number else path.stem
        rows = rows_of(path, required=("url", "caption"), show_progress=self.show_progress)
        # A row that cannot be used has its number all the same.
        for row, record in enumerate(rows):
            yield record if isinstance(record, RecordError) else _node(f"{prefix}/{row:05d}", record, folder)

    def _nothing_read(self, file: str | Path, images: str | Path | None = None) -> str:
        return f"{file} holds no pictures; expected the header url,caption and a line for each picture"


def _node(node_id: str, record: Record, images: Path | None) -> NodeOrError:
    caption = in_one_line(record.fields["caption"])
    if images is not None:
        return picture_of_file(node_id, images, f"{node_id}.jpg", caption, record.place)
    return addressed_picture(node_id, record.fields["url"], caption, record.place)
