"""The form that Chinese-CLIP's own scripts read: ``{split}_imgs.tsv`` and ``{split}_texts.jsonl``."""

from __future__ import annotations

from pathlib import Path

from llama_index_mm_zhipu.readers.tsv_datasets import TsvReader


class ChineseClipReader(TsvReader):
    """Reads a data set in the form of Chinese-CLIP's scripts.

    ``load_data(folder, split)``: ``split`` is ``"train"``, ``"valid"`` or ``"test"``. Pictures stream; captions stay in
    memory. The pickles in ``lmdb/`` are never opened: the same is in the two files.

    Args:
        id_prefix: What node ids begin with, as of ``PictureReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``PictureReader``.
        show_progress: Show a progress bar.
    """

    text_key = "text"
    ids_key = "image_ids"

    def _files(self, folder: Path, split: str) -> tuple[Path, Path]:
        return folder / f"{split}_texts.jsonl", folder / f"{split}_imgs.tsv"
