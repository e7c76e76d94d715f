"""COCO-CN: Chinese captions for pictures of MS-COCO, which lie elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from llama_index_mm_zhipu.readers.base import NodeOrError, PictureReader
from llama_index_mm_zhipu.readers.caption_datasets import read_caption_lines, read_named_pictures, unsegmented
from llama_index_mm_zhipu.readers.captions import Captions

_SEGMENTED = ".bosonseg"
_FOLDER = re.compile(r"COCO_(\w+?2014)_")


class CocoCnReader(PictureReader):
    """Reads COCO-CN.

    ``load_data(folder, images, split, captions)``: ``images`` is the folder with ``train2014/`` and ``val2014/``,
    ``split`` ``"train"``, ``"val"``, ``"test"`` or None for all captioned pictures, ``captions``
    ``"human-written-caption"``, ``"manually-translated-caption"`` or another part of a file's name between ``imageid.``
    and ``.txt``, or the name of a file such as ``"coco-cn_ext.icap2020"``. The words of ``….bosonseg`` are joined.

    Args:
        id_prefix: What node ids begin with, as of ``PictureReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``PictureReader``.
        show_progress: Show a progress bar.
    """

    def _records(
        self,
        folder: str | Path,
        images: str | Path,
        split: str | None = None,
        captions: str = "human-written-caption",
    ) -> Iterator[NodeOrError]:
        root = Path(folder).expanduser()
        gathered = Captions()
        rewrite = unsegmented if captions.endswith(_SEGMENTED) else str
        yield from read_caption_lines(_caption_file(root, captions), gathered, rewrite=rewrite)
        listed = root / f"coco-cn_{split}.txt" if split else None
        yield from read_named_pictures(gathered, listed, Path(images).expanduser(), _file_of)

    def _nothing_read(self, folder: str | Path, *args: object, **kwargs: object) -> str:
        return f"{folder} names no pictures; expected lines such as COCO_val2014_000000000123#0, a tab and a caption"


def _file_of(stem: str) -> str | None:
    found = _FOLDER.match(stem)
    return f"{found.group(1)}/{stem}.jpg" if found else None


def _caption_file(root: Path, captions: str) -> Path:
    # What was published later is not called so.
    other = root / f"{captions}.txt"
    return other if other.is_file() else root / f"imageid.{captions}.txt"
