"""Data sets of captions for image files: Flickr8k-CN, Flickr30k-CN, COCO-CN and Wukong."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llama_index_mm_zhipu.readers.base import ImageReader, NodeOrError
from llama_index_mm_zhipu.readers.image_nodes import Captions, image_of_file, image_of_url, without_line_breaks
from llama_index_mm_zhipu.readers.lines import Record, read_lines
from llama_index_mm_zhipu.readers.records import RecordError
from llama_index_mm_zhipu.readers.tables import read_rows

logger = logging.getLogger(__name__)

_PART_OF_SPEECH = re.compile(r":[A-Za-z]+\d*$")
_JPEG_SUFFIX = re.compile(r"\.jpg(?:\.\d+)?$", re.IGNORECASE)


@dataclass(frozen=True)
class _CaptionForm:
    """Format of the lines of a caption file.

    Attributes:
        line: Pattern of a line with the groups ``name`` and ``caption``.
        expected: Description of a line for errors.
        header: Pattern of a first line that is not a caption.
    """

    line: re.Pattern[str]
    expected: str
    header: re.Pattern[str] | None = None


# Name, "#" with a mark, one blank, caption: "123456_ab12cd.jpg#zhc#0 一只狗", "COCO_val2014_000000000123#0⇥一只猫".
_NAMED_CAPTION = _CaptionForm(
    re.compile(r"(?P<name>[^#\s]+)#\S+\s(?P<caption>.*)", re.DOTALL),
    "an image's name, '#', a number and a caption",
)

# "1234567⇥两个男人", "1234567 两个男人", and "1234567.jpg,两个男人" below a header.
_NUMBERED_CAPTION = _CaptionForm(
    re.compile(r"(?P<name>\d+(?:\.jpg)?)[\t ,](?P<caption>.+)", re.DOTALL),
    "an image's number, a tab, blank or comma and a caption",
    header=re.compile(r"[A-Za-z_ ]+[,\t][A-Za-z_ \d]+"),
)


class Flickr8kCnReader(ImageReader):
    """Reads Flickr8k-CN.

    ``load_data(folder, images, split, captions)``: ``folder`` is its ``data/``, ``images`` the folder of Flickr8k's
    images, ``split`` ``"train"``, ``"val"``, ``"test"`` or None for all captioned images, ``captions`` ``"zhc"``
    (written by people), ``"zhb"`` or ``"zhg"`` (machine translations), ``"enc"`` (English) or ``"zhmtest"`` (human
    translations of the test split).

    Args:
        id_prefix: Prefix of node ids, see ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, see ``ImageReader``.
        show_progress: Whether to show a progress bar.

    Examples:
        >>> from llama_index_mm_zhipu.readers import Flickr8kCnReader
        >>> nodes = Flickr8kCnReader().load_data("flickr8kcn/data", "flickr8kcn/images", "test")
        >>> [node.text for node in nodes][:2]
        ['红苹果', '汽车']
    """

    def _records(
        self, folder: str | Path, images: str | Path, split: str | None = None, captions: str = "zhc"
    ) -> Iterator[NodeOrError]:
        root = Path(folder).expanduser()
        gathered = Captions()
        yield from _read_captions(_flickr8k_file(root, captions), gathered)
        listed = root / f"flickr8k{split}.txt" if split else None
        yield from _read_images(gathered, listed, Path(images).expanduser(), "{}.jpg".format)

    def _empty_message(self, folder: str | Path, *args: object, **kwargs: object) -> str:
        return f"{folder} names no images; expected lines such as 123456_ab12cd.jpg#zhc#0 一只狗"


def _flickr8k_file(root: Path, captions: str) -> Path:
    # The name of one of the published files is in the plural.
    plural = root / f"flickr8k{captions}.captions.txt"
    return plural if plural.is_file() else root / f"flickr8k{captions}.caption.txt"


class Flickr30kCnReader(ImageReader):
    """Reads Flickr30k-CN in its published and in its redistributed formats.

    ``load_data(folder, images, split)``: ``images`` is the folder of Flickr30k's images, ``split`` ``"train"``,
    ``"val"`` or ``"test"``. ``folder`` is the unpacked archive, with folders such as ``flickr30kzhbbosontrain/``, or
    contains ``flickr30k_cna_{split}.txt`` or ``flickr30k_cn_{split}.txt``. The archive's captions are segmented into
    words, which are joined. For the format of Chinese-CLIP's scripts, use ``ChineseClipReader``.

    Args:
        id_prefix: Prefix of node ids, see ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, see ``ImageReader``.
        show_progress: Whether to show a progress bar.

    Examples:
        >>> from llama_index_mm_zhipu.readers import Flickr30kCnReader
        >>> nodes = Flickr30kCnReader().load_data("flickr30kcn", "flickr30kcn/images", "test")
        >>> [node.text for node in nodes][:2]
        ['红苹果', '汽车']
    """

    def _records(self, folder: str | Path, images: str | Path, split: str = "test") -> Iterator[NodeOrError]:
        root, captions = Path(folder).expanduser(), Captions()
        text_folders = sorted(root.glob(f"flickr30kzh*{split}/TextData"), key=_archive_rank)
        listed = None
        if text_folders:
            archive = text_folders[0].parent
            listed = archive / "ImageSets" / f"{archive.name}.txt"
            segmented = text_folders[0] / f"seg.{archive.name}.caption.txt"
            yield from _read_captions(segmented, captions, rewrite=_join_words)
        else:
            yield from _read_captions(_flickr30k_file(root, split), captions, _NUMBERED_CAPTION)
        yield from _read_images(captions, listed, Path(images).expanduser(), "{}.jpg".format)

    def _empty_message(self, folder: str | Path, images: str | Path, split: str = "test") -> str:
        return f"{folder} names no images of {split}; expected lines such as 1234567#zhb#0 两 个 男人"


def _archive_rank(text_folder: Path) -> tuple[bool, str]:
    """Sort key that puts human translations before machine translations."""
    name = text_folder.parent.name
    return "zhm" not in name, name


def _flickr30k_file(root: Path, split: str) -> Path:
    names = [f"flickr30k_cna_{split}.txt", f"flickr30k_cn_{split}.txt"]
    file = next((root / name for name in names if (root / name).is_file()), None)
    if file is None:
        raise FileNotFoundError(
            f"{root} holds neither a folder flickr30k…{split} with TextData in it nor {' or '.join(names)}"
        )
    return file


_SEGMENTED = ".bosonseg"
_COCO_FOLDER = re.compile(r"COCO_(\w+?2014)_")


class CocoCnReader(ImageReader):
    """Reads COCO-CN.

    ``load_data(folder, images, split, captions)``: ``images`` is the folder with ``train2014/`` and ``val2014/``,
    ``split`` ``"train"``, ``"val"``, ``"test"`` or None for all captioned images. ``captions`` is
    ``"human-written-caption"``, ``"manually-translated-caption"``, or another part of a file name between ``imageid.``
    and ``.txt``, or the name of a file such as ``"coco-cn_ext.icap2020"``. The words of ``….bosonseg`` are joined.

    Args:
        id_prefix: Prefix of node ids, see ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, see ``ImageReader``.
        show_progress: Whether to show a progress bar.

    Examples:
        >>> from llama_index_mm_zhipu.readers import CocoCnReader
        >>> nodes = CocoCnReader().load_data("coco-cn", "coco-cn/images", "test")
        >>> [node.text for node in nodes][:2]
        ['红苹果', '汽车']
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
        rewrite = _join_words if captions.endswith(_SEGMENTED) else str
        yield from _read_captions(_coco_file(root, captions), gathered, rewrite=rewrite)
        listed = root / f"coco-cn_{split}.txt" if split else None
        yield from _read_images(gathered, listed, Path(images).expanduser(), _coco_image)

    def _empty_message(self, folder: str | Path, *args: object, **kwargs: object) -> str:
        return f"{folder} names no images; expected lines such as COCO_val2014_000000000123#0, a tab and a caption"


def _coco_file(root: Path, captions: str) -> Path:
    # Files that were published later lack the prefix.
    other = root / f"{captions}.txt"
    return other if other.is_file() else root / f"imageid.{captions}.txt"


def _coco_image(stem: str) -> str | None:
    found = _COCO_FOLDER.match(stem)
    return f"{found.group(1)}/{stem}.jpg" if found else None


_WUKONG_NUMBER = re.compile(r"_(\d+)$")


class WukongReader(ImageReader):
    """Reads a file of Wukong, ``wukong_100m_{0..255}.csv``.

    ``load_data(file, images)``: without ``images``, nodes have URLs (``image_url``), which the embedding fetches with
    ``allow_urls=True``; many of them are no longer available. With it, images are the files that the official
    downloader saved as ``{images}/{file:03d}/{row:05d}.jpg``. The data set has no ids: ids consist of the number of the
    file and of the row.

    Args:
        id_prefix: Prefix of node ids, see ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, see ``ImageReader``.
        show_progress: Whether to show a progress bar.

    Examples:
        >>> from llama_index_mm_zhipu.readers import WukongReader
        >>> nodes = WukongReader().load_data("wukong/wukong_100m_0.csv")
        >>> nodes[0].image_url, nodes[0].text
        ('https://img.example.cn/0.jpg', '红苹果')
        >>> nodes = WukongReader().load_data("wukong/wukong_100m_0.csv", "wukong/images")
        >>> nodes[0].image_path.endswith("00000.jpg")
        True
    """

    def _records(self, file: str | Path, images: str | Path | None = None) -> Iterator[NodeOrError]:
        path = Path(file).expanduser()
        folder = Path(images).expanduser() if images is not None else None
        number = _WUKONG_NUMBER.search(path.stem)
        prefix = f"{int(number.group(1)):03d}" if number else path.stem
        rows = read_rows(path, required=("url", "caption"), show_progress=self.show_progress)
        # Invalid rows are counted too, as the downloader does.
        for row, record in enumerate(rows):
            yield record if isinstance(record, RecordError) else _wukong_node(f"{prefix}/{row:05d}", record, folder)

    def _empty_message(self, file: str | Path, images: str | Path | None = None) -> str:
        return f"{file} holds no images; expected the header url,caption and a line for each image"


def _wukong_node(node_id: str, record: Record, images: Path | None) -> NodeOrError:
    caption = without_line_breaks(record.fields["caption"])
    if images is not None:
        return image_of_file(node_id, images, f"{node_id}.jpg", caption, record.position)
    return image_of_url(node_id, record.fields["url"], caption, record.position)


def _read_captions(
    file: Path,
    captions: Captions,
    form: _CaptionForm = _NAMED_CAPTION,
    rewrite: Callable[[str], str] = str,
) -> Iterator[RecordError]:
    """Read captions by image name without its suffix, and yield the errors of lines.

    Args:
        file: The caption file.
        captions: Receives the captions.
        form: Format of the lines.
        rewrite: Called with each caption; returns the caption to keep.
    """
    for number, line in enumerate(read_lines(file)):
        if isinstance(line, RecordError):
            yield line
            continue
        text = line.text.strip()
        found = form.line.fullmatch(text)
        if found is not None:
            captions.add(_without_suffix(found["name"]), rewrite(found["caption"].strip()), line.position)
        elif number or form.header is None or not form.header.fullmatch(text):
            yield RecordError(line.position, f"not {form.expected}")


def _read_images(
    captions: Captions, split: Path | None, images: Path, path_of: Callable[[str], str | None]
) -> Iterator[NodeOrError]:
    """Yield the captioned images, or those of a split.

    Args:
        captions: Captions by image name without suffix.
        split: File with the image names of a split, one a line; None for all captioned images.
        images: Folder of the images.
        path_of: Returns the path in this folder for an image name, or None for an invalid name.
    """
    seen: set[str] = set()
    for name in _names_in(split) if split is not None else captions.positions.items():
        if isinstance(name, RecordError):
            yield name
            continue
        stem, position = name
        path = path_of(stem)
        if path is None:
            yield RecordError(position, f"{stem!r} is not a name such as COCO_val2014_000000000123")
        elif stem in seen:
            yield RecordError(position, f"the image {stem!r} is listed twice")
        else:
            seen.add(stem)
            yield image_of_file(stem, images, path, captions.by_id.get(stem, ""), position)
    if uncaptioned := len(seen - captions.by_id.keys()):
        logger.warning("%d of %d images of %s have no caption in the file of captions", uncaptioned, len(seen), split)


def _names_in(file: Path) -> Iterator[tuple[str, str] | RecordError]:
    for line in read_lines(file):
        yield line if isinstance(line, RecordError) else (_without_suffix(line.text.strip()), line.position)


def _without_suffix(name: str) -> str:
    """Return an image name without its suffix, which is ``.jpg.1`` in some lines of Flickr8k-CN."""
    return _JPEG_SUFFIX.sub("", name)


def _join_words(words: str) -> str:
    """Join the words of a segmented caption: ``两:m 个:q 男人:n  骑车:v`` is ``两个男人，骑车``.

    Parts of speech are removed, and a double blank becomes a comma. Blanks between words in Latin script are kept.
    """
    text = ""
    for word in words.split(" "):
        bare = _PART_OF_SPEECH.sub("", word) if word else "，"
        between = " " if text[-1:].isascii() and text[-1:].isalnum() and bare[:1].isascii() else ""
        text += between + bare
    return text
