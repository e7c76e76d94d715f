"""COCO-CN: Chinese captions for pictures of MS-COCO, which lie elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from llama_index_mm_zhipu.readers.base import NodeOrError, PictureReader
from llama_index_mm_zhipu.readers.caption_lines import read_caption_lines, read_named_pictures
from llama_index_mm_zhipu.readers.captions import Captions

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
        listed = root / f"coco-cn_{split}.txt" if split else None
        yield from read_named_pictures(gathered, listed, lambda stem: _file_of(Path(images), stem))

    def _nothing_read(
        self,
        folder: str | Path,
        images: str | Path,
        split: str | None = None,
        captions: str = "human-written-caption",
    ) -> str:
        return f"{folder} names no pictures; expected lines such as COCO_val2014_000000000123#0, a tab and a caption"


def _file_of(images: Path, stem: str) -> Path | None:
    found = _FOLDER.match(stem)
    return images / found.group(1) / f"{stem}.jpg" if found else None
