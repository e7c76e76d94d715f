"""The forms of data sets that the command knows: how each is read, and what are its queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index.core.schema import ImageNode

from llama_index_mm_zhipu.embedding.nodes import OnError
from llama_index_mm_zhipu.evaluation.dataset import RetrievalDataset
from llama_index_mm_zhipu.evaluation.published import PUBLISHED
from llama_index_mm_zhipu.readers import (
    ChineseClipReader,
    CocoCnReader,
    Flickr8kCnReader,
    Flickr30kCnReader,
    FolderReader,
    JsonlReader,
    MugeRetrievalReader,
    PictureReader,
)
from llama_index_mm_zhipu.readers.tsv_datasets import TsvReader


@dataclass(frozen=True)
class Form:
    """A form of data sets.

    Attributes:
        described: In words.
        reader: Makes its reader.
        split: The one that is measured by default; None where there are none.
        has_images_elsewhere: Whether the folder of pictures is another one.
        merge_equal_captions: As in ``RetrievalDataset.from_nodes``.
        more: Further arguments of ``load_data``.
    """

    described: str
    reader: Callable[..., PictureReader]
    split: str | None = None
    has_images_elsewhere: bool = False
    merge_equal_captions: bool = True
    more: tuple[str, ...] = ()

    def read(self, path: Path, images: Path | None, split: str | None, on_error: OnError) -> Iterator[ImageNode]:
        """Yield the pictures of a data set."""
        return self.reader(on_error=on_error).lazy_load_data(*self._arguments(path, images, split))

    def queries(self, path: Path, images: Path | None, split: str | None, on_error: OnError) -> RetrievalDataset:
        """Return what is asked of a data set: its texts where it lists them, else the captions of its pictures."""
        reader = self.reader(on_error=on_error)
        if isinstance(reader, TsvReader):
            return RetrievalDataset.from_texts(reader.load_texts(*self._arguments(path, images, split)))
        nodes = self.read(path, images, split, on_error)
        return RetrievalDataset.from_nodes(nodes, merge_equal_captions=self.merge_equal_captions)

    def _arguments(self, path: Path, images: Path | None, split: str | None) -> list[Any]:
        optional = [images if self.has_images_elsewhere else None, split]
        return [path, *(each for each in optional if each is not None), *self.more]


FORMS = {
    "muge": Form("MUGE's retrieval task", MugeRetrievalReader, "valid"),
    "flickr30k-cn": Form(
        "Flickr30k-CN", Flickr30kCnReader, "test", has_images_elsewhere=True, merge_equal_captions=False
    ),
    "coco-cn": Form("COCO-CN", CocoCnReader, "test", has_images_elsewhere=True, merge_equal_captions=False),
    "flickr8k-cn": Form("Flickr8k-CN", Flickr8kCnReader, "test", has_images_elsewhere=True),
    "chinese-clip": Form("a folder in the form of Chinese-CLIP's scripts", ChineseClipReader, "test"),
    "jsonl": Form("lines of image_id, image_base64, caption", JsonlReader),
    "folder": Form("pictures with captions beside them", FolderReader, more=("sidecar",)),
}
"""By the name that the command takes."""


def form_of(name: str, path: Path) -> Form:
    """Return the form of a data set: MUGE, Flickr30k-CN and COCO-CN are published in that of Chinese-CLIP, too."""
    if name in PUBLISHED and any(path.glob("*_texts.jsonl")):
        return Form(FORMS[name].described, ChineseClipReader, FORMS[name].split)
    return FORMS[name]
