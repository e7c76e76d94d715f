"""The form that Chinese-CLIP's own scripts read: ``{split}_imgs.tsv`` and ``{split}_texts.jsonl``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llama_index_mm_zhipu.readers.base import NodeOrError, PictureReader
from llama_index_mm_zhipu.readers.captions import Captions
from llama_index_mm_zhipu.readers.tsv_pictures import read_captions, read_pictures


class ChineseClipReader(PictureReader):
    """Reads a data set in the form of Chinese-CLIP's scripts.

    ``load_data(folder, split)``: ``split`` is ``"train"``, ``"valid"`` or ``"test"``. Pictures stream; captions stay in
    memory. The pickles in ``lmdb/`` are never opened: the same is in the two files.

    Args:
        **kwargs: Of ``PictureReader``: ``on_error``, ``show_progress``.
    """

    def _records(self, folder: str | Path, split: str = "train") -> Iterator[NodeOrError]:
        root, captions = Path(folder).expanduser(), Captions()
        yield from read_captions(root / f"{split}_texts.jsonl", captions, text_key="text", ids_key="image_ids")
        yield from read_pictures(root / f"{split}_imgs.tsv", captions, self.show_progress)

    def _nothing_read(self, folder: str | Path, split: str = "train") -> str:
        return f"{Path(folder) / f'{split}_imgs.tsv'} holds no pictures; expected lines of id, tab, base64"
