"""Flickr8k-CN: several Chinese captions for each picture of Flickr8k, which lies elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llama_index_mm_zhipu.readers.base import NodeOrError, PictureReader
from llama_index_mm_zhipu.readers.caption_datasets import read_caption_lines, read_named_pictures
from llama_index_mm_zhipu.readers.captions import Captions


class Flickr8kCnReader(PictureReader):
    """Reads Flickr8k-CN.

    ``load_data(folder, images, split, captions)``: ``folder`` is its ``data/``, ``images`` the folder of Flickr8k's
    pictures, ``split`` ``"train"``, ``"val"``, ``"test"`` or None for all captioned pictures, ``captions`` ``"zhc"``
    (written by people), ``"zhb"`` or ``"zhg"`` (machine translations), ``"enc"`` (English) or ``"zhmtest"`` (human
    translations of the test split).

    Args:
        id_prefix: What node ids begin with, as of ``PictureReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``PictureReader``.
        show_progress: Show a progress bar.
    """

    def _records(
        self, folder: str | Path, images: str | Path, split: str | None = None, captions: str = "zhc"
    ) -> Iterator[NodeOrError]:
        root = Path(folder).expanduser()
        gathered = Captions()
        yield from read_caption_lines(_caption_file(root, captions), gathered)
        listed = root / f"flickr8k{split}.txt" if split else None
        yield from read_named_pictures(gathered, listed, Path(images).expanduser(), "{}.jpg".format)

    def _nothing_read(self, folder: str | Path, *args: object, **kwargs: object) -> str:
        return f"{folder} names no pictures; expected lines such as 123456_ab12cd.jpg#zhc#0 一只狗"


def _caption_file(root: Path, captions: str) -> Path:
    # One of the published files is in the plural.
    plural = root / f"flickr8k{captions}.captions.txt"
    return plural if plural.is_file() else root / f"flickr8k{captions}.caption.txt"
