"""Flickr30k-CN: several Chinese captions for each picture of Flickr30k, which lies elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from llama_index_mm_zhipu.readers.base import NodeOrError, PictureReader
from llama_index_mm_zhipu.readers.caption_datasets import (
    NAMED_CAPTION,
    CaptionForm,
    read_caption_lines,
    read_named_pictures,
    unsegmented,
)
from llama_index_mm_zhipu.readers.captions import Captions
from llama_index_mm_zhipu.readers.errors import RecordError

# "1234567⇥两个男人", "1234567 两个男人" and "1234567.jpg,两个男人", the last under a header.
_VARIANT = CaptionForm(
    re.compile(r"(?P<name>\d+(?:\.jpg)?)[\t ,](?P<caption>.+)", re.DOTALL),
    "a picture's number, a tab, blank or comma and a caption",
    header=re.compile(r"[A-Za-z_ ]+[,\t][A-Za-z_ \d]+"),
)


class Flickr30kCnReader(PictureReader):
    """Reads Flickr30k-CN in the forms in which it goes round.

    ``load_data(folder, images, split)``: ``images`` is the folder of Flickr30k's pictures, ``split`` ``"train"``,
    ``"val"`` or ``"test"``. ``folder`` is the unpacked archive, with ``flickr30kzhbbosontrain/`` and the like, or holds
    ``flickr30k_cna_{split}.txt`` or ``flickr30k_cn_{split}.txt``. The archive's captions are segmented into words: the
    blanks are taken out. For the form of Chinese-CLIP's scripts there is ``ChineseClipReader``.

    Args:
        id_prefix: What node ids begin with, as of ``PictureReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``PictureReader``.
        show_progress: Show a progress bar.
    """

    def _records(self, folder: str | Path, images: str | Path, split: str = "test") -> Iterator[NodeOrError]:
        root, captions = Path(folder).expanduser(), Captions()
        found = sorted(root.glob(f"flickr30kzh*{split}/TextData"), key=_rank)
        archive = next(iter(found), None)
        listed = None
        if archive is not None:
            name = archive.parent.name
            listed = archive.parent / "ImageSets" / f"{name}.txt"
            segmented = archive / f"seg.{name}.caption.txt"
            yield from read_caption_lines(segmented, captions, NAMED_CAPTION, unsegmented)
        else:
            yield from self._read_variant(root, split, captions)
        yield from read_named_pictures(captions, listed, Path(images).expanduser(), "{}.jpg".format)

    def _nothing_read(self, folder: str | Path, images: str | Path, split: str = "test") -> str:
        return f"{folder} names no pictures of {split}; expected lines such as 1234567#zhb#0 两 个 男人"

    def _read_variant(self, root: Path, split: str, captions: Captions) -> Iterator[RecordError]:
        names = [f"flickr30k_cna_{split}.txt", f"flickr30k_cn_{split}.txt"]
        file = next((root / name for name in names if (root / name).is_file()), None)
        if file is None:
            raise FileNotFoundError(
                f"{root} holds neither a folder flickr30k…{split} with TextData in it nor {' or '.join(names)}"
            )
        yield from read_caption_lines(file, captions, _VARIANT)


def _rank(texts: Path) -> tuple[bool, str]:
    """Human translations before the machine's."""
    name = texts.parent.name
    return "zhm" not in name, name
