"""Caption files of the Flickr-CN and COCO-CN kind: a line is an image's name, marks after ``#``, and a caption."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llama_index_mm_zhipu.readers.base import ImageReader, NodeOrError
from llama_index_mm_zhipu.readers.image_nodes import Captions, image_of_file
from llama_index_mm_zhipu.readers.parsing.lines import lines_of
from llama_index_mm_zhipu.readers.records import RecordError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaptionForm:
    """Form of the lines of a caption file.

    Attributes:
        line: Pattern with the groups ``name`` and ``caption``.
        described: In words, for errors.
        header: Pattern of a first line that is no caption.
    """

    line: re.Pattern[str]
    described: str
    header: re.Pattern[str] | None = None


# "123456_ab12cd.jpg#zhc#0 一只狗" and "COCO_val2014_000000000123#0⇥一只猫": name, marks, one blank, caption.
NAMED_CAPTION = CaptionForm(
    re.compile(r"(?P<name>[^#\s]+)#\S+\s(?P<caption>.*)", re.DOTALL),
    "an image's name, '#', a number and a caption",
)

_PART_OF_SPEECH = re.compile(r":[A-Za-z]+\d*$")
_ENDING = re.compile(r"\.jpg(?:\.\d+)?$", re.IGNORECASE)


def read_caption_lines(
    file: Path,
    captions: Captions,
    form: CaptionForm = NAMED_CAPTION,
    rewrite: Callable[[str], str] = str,
) -> Iterator[RecordError]:
    """Read captions by image name without its ending, and yield the errors of lines.

    Args:
        file: The caption file.
        captions: Where they go.
        form: Of the lines.
        rewrite: Makes what is kept of what stands in the file.
    """
    for number, line in enumerate(lines_of(file)):
        if isinstance(line, RecordError):
            yield line
            continue
        found = form.line.fullmatch(line.text.strip())
        if found is None:
            if number or form.header is None or not form.header.fullmatch(line.text.strip()):
                yield RecordError(f"{line.place}: not {form.described}")
        else:
            captions.add(_stem_of(found["name"]), rewrite(found["caption"].strip()), line.place)


def read_named_images(
    captions: Captions, split: Path | None, images: Path, file_of: Callable[[str], str | None]
) -> Iterator[NodeOrError]:
    """Yield the captioned images, or those of a split.

    Args:
        captions: By name without ending.
        split: File that lists the images of a split, a name a line; None for all that have captions.
        images: Folder of the images.
        file_of: Returns where in it the image of a name lies, or None for what is no such name.
    """
    seen: set[str] = set()
    for name in _names_in(split) if split is not None else captions.places.items():
        if isinstance(name, RecordError):
            yield name
            continue
        stem, place = name
        file = file_of(stem)
        if file is None:
            yield RecordError(f"{place}: {stem!r} is no name such as COCO_val2014_000000000123")
        elif stem in seen:
            yield RecordError(f"{place}: the image {stem!r} comes a second time")
        else:
            seen.add(stem)
            yield image_of_file(stem, images, file, captions.by_id.get(stem, ""), place)
    if bare := len(seen - captions.by_id.keys()):
        logger.warning("%d of %d images of %s have no caption in the file of captions", bare, len(seen), split)


def unsegmented(words: str) -> str:
    """Join the words of a caption: ``两:m 个:q 男人:n  骑车:v`` is ``两个男人，骑车``, two blanks being a comma."""
    text = ""
    for word in words.split(" "):
        bare = _PART_OF_SPEECH.sub("", word) if word else "，"
        between = " " if text[-1:].isascii() and text[-1:].isalnum() and bare[:1].isascii() else ""
        text += between + bare
    return text


def _names_in(file: Path) -> Iterator[tuple[str, str] | RecordError]:
    for line in lines_of(file):
        yield line if isinstance(line, RecordError) else (_stem_of(line.text.strip()), line.place)


def _stem_of(name: str) -> str:
    """Return an image's name without its ending, which some lines of Flickr8k-CN give as ``.jpg.1``."""
    return _ENDING.sub("", name)


class Flickr8kCnReader(ImageReader):
    """Reads Flickr8k-CN.

    ``load_data(folder, images, split, captions)``: ``folder`` is its ``data/``, ``images`` the folder of Flickr8k's
    images, ``split`` ``"train"``, ``"val"``, ``"test"`` or None for all captioned images, ``captions`` ``"zhc"``
    (written by people), ``"zhb"`` or ``"zhg"`` (machine translations), ``"enc"`` (English) or ``"zhmtest"`` (human
    translations of the test split).

    Args:
        id_prefix: What node ids begin with, as of ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``ImageReader``.
        show_progress: Show a progress bar.
    """

    def _records(
        self, folder: str | Path, images: str | Path, split: str | None = None, captions: str = "zhc"
    ) -> Iterator[NodeOrError]:
        root = Path(folder).expanduser()
        gathered = Captions()
        yield from read_caption_lines(_flickr8k_file(root, captions), gathered)
        listed = root / f"flickr8k{split}.txt" if split else None
        yield from read_named_images(gathered, listed, Path(images).expanduser(), "{}.jpg".format)

    def _nothing_read(self, folder: str | Path, *args: object, **kwargs: object) -> str:
        return f"{folder} names no images; expected lines such as 123456_ab12cd.jpg#zhc#0 一只狗"


def _flickr8k_file(root: Path, captions: str) -> Path:
    # One of the published files is in the plural.
    plural = root / f"flickr8k{captions}.captions.txt"
    return plural if plural.is_file() else root / f"flickr8k{captions}.caption.txt"


# "1234567⇥两个男人", "1234567 两个男人" and "1234567.jpg,两个男人", the last under a header.
_VARIANT = CaptionForm(
    re.compile(r"(?P<name>\d+(?:\.jpg)?)[\t ,](?P<caption>.+)", re.DOTALL),
    "an image's number, a tab, blank or comma and a caption",
    header=re.compile(r"[A-Za-z_ ]+[,\t][A-Za-z_ \d]+"),
)


class Flickr30kCnReader(ImageReader):
    """Reads Flickr30k-CN in the forms in which it goes round.

    ``load_data(folder, images, split)``: ``images`` is the folder of Flickr30k's images, ``split`` ``"train"``,
    ``"val"`` or ``"test"``. ``folder`` is the unpacked archive, with ``flickr30kzhbbosontrain/`` and the like, or holds
    ``flickr30k_cna_{split}.txt`` or ``flickr30k_cn_{split}.txt``. The archive's captions are segmented into words: the
    blanks are taken out. For the form of Chinese-CLIP's scripts there is ``ChineseClipReader``.

    Args:
        id_prefix: What node ids begin with, as of ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``ImageReader``.
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
        yield from read_named_images(captions, listed, Path(images).expanduser(), "{}.jpg".format)

    def _nothing_read(self, folder: str | Path, images: str | Path, split: str = "test") -> str:
        return f"{folder} names no images of {split}; expected lines such as 1234567#zhb#0 两 个 男人"

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


_SEGMENTED = ".bosonseg"
_FOLDER = re.compile(r"COCO_(\w+?2014)_")


class CocoCnReader(ImageReader):
    """Reads COCO-CN.

    ``load_data(folder, images, split, captions)``: ``images`` is the folder with ``train2014/`` and ``val2014/``,
    ``split`` ``"train"``, ``"val"``, ``"test"`` or None for all captioned images, ``captions``
    ``"human-written-caption"``, ``"manually-translated-caption"`` or another part of a file's name between ``imageid.``
    and ``.txt``, or the name of a file such as ``"coco-cn_ext.icap2020"``. The words of ``….bosonseg`` are joined.

    Args:
        id_prefix: What node ids begin with, as of ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``ImageReader``.
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
        yield from read_caption_lines(_coco_file(root, captions), gathered, rewrite=rewrite)
        listed = root / f"coco-cn_{split}.txt" if split else None
        yield from read_named_images(gathered, listed, Path(images).expanduser(), _file_of)

    def _nothing_read(self, folder: str | Path, *args: object, **kwargs: object) -> str:
        return f"{folder} names no images; expected lines such as COCO_val2014_000000000123#0, a tab and a caption"


def _file_of(stem: str) -> str | None:
    found = _FOLDER.match(stem)
    return f"{found.group(1)}/{stem}.jpg" if found else None


def _coco_file(root: Path, captions: str) -> Path:
    # What was published later is not called so.
    other = root / f"{captions}.txt"
    return other if other.is_file() else root / f"imageid.{captions}.txt"
