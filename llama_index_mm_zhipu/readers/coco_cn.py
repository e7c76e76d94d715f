"""COCO-CN: Chinese captions for pictures of MS-COCO, which lie elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from llama_index_mm_zhipu.readers.base import NodeOrError, PictureReader
from llama_index_mm_zhipu.readers.caption_lines import read_caption_lines, read_names
from llama_index_mm_zhipu.readers.captions import Captions
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.picture_files import picture_of_file

_FOLDER = re.compile(r"COCO_(\w+?2014)_")


class CocoCnReader(PictureReader):
    """Reads COCO-CN.

    ``load_data(folder, images, split, captions)``: ``images`` is the folder with ``train2014/`` and ``val2014/``,
    ``split`` ``"train"``, ``"val"``, ``"test"`` or None for all captioned pictures, ``captions``
    ``"human-written-caption"``, ``"manually-translated-caption"`` or another part of a file's name between ``imageid.``
    and ``.txt``.

    Args:
        **kwargs: Of ``PictureReader``: ``on_error``, ``show_progress``.
    """

    def _records(
        self,
        folder: str | Path,
        images: str | Path,
        split: str | None = None,
        captions: str = "human-written-caption",
    ) -> Iterator[NodeOrError]:
        root = Path(folder)
        gathered = Captions()
        yield from read_caption_lines(root / f"imageid.{captions}.txt", gathered)
        wanted = read_names(root / f"coco-cn_{split}.txt") if split else iter(gathered.places.items())
        for name in wanted:
            if isinstance(name, RecordError):
                yield name
                continue
            stem, place = name
            found = _FOLDER.match(stem)
            if found is None:
                yield RecordError(f"{place}: {stem!r} is no name such as COCO_val2014_000000000123")
                continue
            file = Path(images) / found.group(1) / f"{stem}.jpg"
            yield picture_of_file(stem, file, gathered.by_id.get(stem, ""), place)

    def _nothing_read(
        self,
        folder: str | Path,
        images: str | Path,
        split: str | None = None,
        captions: str = "human-written-caption",
    ) -> str:
        return f"{folder} names no pictures; expected lines such as COCO_val2014_000000000123#0, a tab and a caption"
