"""Images in a tsv of ids and base64, captions in a jsonl beside it that names image ids."""

from __future__ import annotations

import logging
import re
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

from llama_index_mm_zhipu.readers.base import ImageReader, NodeOrError
from llama_index_mm_zhipu.readers.image_nodes import (
    Captions,
    addressed_image,
    captions_in,
    image_id_of,
    image_of_file,
    in_one_line,
    inline_image,
)
from llama_index_mm_zhipu.readers.parsing.json import described, is_no_number, object_of
from llama_index_mm_zhipu.readers.parsing.lines import LineOrError, Record, lines_of
from llama_index_mm_zhipu.readers.parsing.tables import rows_of
from llama_index_mm_zhipu.readers.records import RecordError

logger = logging.getLogger(__name__)


class ImageText(NamedTuple):
    """A text of a data set with the images that it belongs to.

    Attributes:
        text: A caption or a query.
        image_ids: Node ids of its images; none where they are not known.
        place: File and line.
    """

    text: str
    image_ids: tuple[str, ...]
    place: str


class TsvReader(ImageReader):
    """Reads data sets of this form; those that have it say how their files and keys are called."""

    text_key: ClassVar[str]
    ids_key: ClassVar[str]

    def load_texts(self, folder: str | Path, split: str = "train") -> list[ImageText]:
        """Read the texts alone, each with all of its images: the queries of a retrieval evaluation.

        Args:
            folder: As in ``load_data``.
            split: As in ``load_data``.

        Raises:
            RecordError: A line cannot be used, with ``on_error="raise"``.
            FileNotFoundError: The file is missing.
        """
        file, _ = self._existing_files(folder, split)
        source = self.source_of(folder, split)
        texts = self._usable(_texts_in(file, self.text_key, self.ids_key))
        return [text._replace(image_ids=tuple(map(source.id_of, text.image_ids))) for text in texts]

    def _records(self, folder: str | Path, split: str = "train") -> Iterator[NodeOrError]:
        texts, images = self._existing_files(folder, split)
        captions = Captions()
        for text in _texts_in(texts, self.text_key, self.ids_key):
            if isinstance(text, RecordError):
                yield text
                continue
            for image_id in text.image_ids:
                captions.add(image_id, text.text, text.place)
        yield from read_images(images, captions, self.show_progress)

    def _nothing_read(self, folder: str | Path, split: str = "train") -> str:
        return nothing_read(self._files(Path(folder).expanduser(), split)[1])

    def _existing_files(self, folder: str | Path, split: str) -> tuple[Path, Path]:
        """Return the file of texts and that of images, or name the splits that there are instead.

        Raises:
            FileNotFoundError: The file of images is missing.
        """
        texts, images = self._files(Path(folder).expanduser(), split)
        if not images.is_file():
            ending = images.name.removeprefix(split)
            splits = sorted(file.name.removesuffix(ending) for file in images.parent.glob(f"*{ending}"))
            there = f"there are the splits {', '.join(splits)}" if splits else "is this the folder of the data set?"
            raise FileNotFoundError(f"no such file: {images}; {there}")
        return texts, images

    @abstractmethod
    def _files(self, folder: Path, split: str) -> tuple[Path, Path]:
        """Return the file of texts and that of images."""


def nothing_read(images: Path) -> str:
    """Say that a tsv held no image."""
    return f"{images} holds no images; expected lines of id, tab, base64"


def _texts_in(file: Path, text_key: str, ids_key: str) -> Iterator[ImageText | RecordError]:
    form = f"an object with {text_key} and {ids_key}"
    keys: set[str] = set()
    for line in lines_of(file):
        record = object_of(line, form, text_key)
        if isinstance(record, RecordError):
            yield record
            continue
        keys.update(record.fields)
        text, image_ids = record.fields[text_key], record.fields.get(ids_key)
        if not image_ids or is_no_number(image_ids):
            image_ids = []
        if not isinstance(text, str):
            yield RecordError(f"{record.place}: {text_key} is no text, but {described(text)}")
        elif not isinstance(image_ids, list):
            yield RecordError(f"{record.place}: {ids_key} is no list, but {described(image_ids)}")
        else:
            ids = [image_id_of(value, record.place, ids_key) for value in image_ids]
            bad = next((each for each in ids if isinstance(each, RecordError)), None)
            yield bad or ImageText(in_one_line(text), tuple(map(str, ids)), record.place)
    if keys and ids_key not in keys:
        # As in MUGE's test split; or the key is called otherwise.
        logger.warning("no line of %s has %s, but %s: its texts are of no image", file, ids_key, sorted(keys))


def read_images(file: Path, captions: Captions, show_progress: bool = False) -> Iterator[NodeOrError]:
    """Read images with their captions from a tsv, and name captions whose image is not there.

    Args:
        file: Lines of id, tab, base64.
        captions: Of these images.
        show_progress: Show a progress bar.
    """
    seen: set[str] = set()
    for line in lines_of(file, show_progress):
        if isinstance(line, RecordError):
            yield line
            continue
        image_id, tab, encoded = line.text.partition("\t")
        image_id = image_id.strip()
        if not tab or not image_id:
            yield RecordError(f"{line.place}: not an image id, a tab and base64")
        elif image_id in seen:
            yield RecordError(f"{line.place}: the image id {image_id!r} comes a second time")
        else:
            seen.add(image_id)
            yield inline_image(image_id, encoded, captions.by_id.get(image_id, ""), line.place)
    for image_id, place in captions.places.items():
        if image_id not in seen:
            yield RecordError(f"{place}: there is no image {image_id!r} in {file.name}")


class ChineseClipReader(TsvReader):
    """Reads a data set in the form of Chinese-CLIP's scripts.

    ``load_data(folder, split)``: ``split`` is ``"train"``, ``"valid"`` or ``"test"``. Images stream; captions stay in
    memory. The pickles in ``lmdb/`` are never opened: the same is in the two files.

    Args:
        id_prefix: What node ids begin with, as of ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``ImageReader``.
        show_progress: Show a progress bar.
    """

    text_key = "text"
    ids_key = "image_ids"

    def _files(self, folder: Path, split: str) -> tuple[Path, Path]:
        return folder / f"{split}_texts.jsonl", folder / f"{split}_imgs.tsv"


class MugeRetrievalReader(TsvReader):
    """Reads MUGE's ``Multimodal_Retrieval``: images, with the queries that ask for them as captions.

    ``load_data(folder, split)``: ``split`` is ``"train"``, ``"valid"`` or ``"test"``, whose queries name no images.
    The files' prefix ``MR_`` may be missing.

    Args:
        id_prefix: What node ids begin with, as of ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``ImageReader``.
        show_progress: Show a progress bar.
    """

    text_key = "query_text"
    ids_key = "item_ids"

    def _files(self, folder: Path, split: str) -> tuple[Path, Path]:
        return _file(folder, f"{split}_queries.jsonl"), _file(folder, f"{split}_imgs.tsv")


class MugeCaptionReader(ImageReader):
    """Reads MUGE's ``ECommerce-IC``: images with advertising lines as captions.

    ``load_data(folder, split)``: ``split`` is ``"train"``, ``"valid"`` or ``"test"``, which has no captions.

    Args:
        id_prefix: What node ids begin with, as of ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``ImageReader``.
        show_progress: Show a progress bar.
    """

    def _records(self, folder: str | Path, split: str = "train") -> Iterator[NodeOrError]:
        root, captions = Path(folder).expanduser(), Captions()
        for line in lines_of(root / f"IC_{split}.jsonl"):
            error = _add_captions(line, captions)
            if error is not None:
                yield error
        yield from read_images(root / f"IC_{split}.tsv", captions, self.show_progress)

    def _nothing_read(self, folder: str | Path, split: str = "train") -> str:
        return nothing_read(Path(folder) / f"IC_{split}.tsv")


def _file(folder: Path, name: str) -> Path:
    prefixed = folder / f"MR_{name}"
    return prefixed if prefixed.is_file() else folder / name


def _add_captions(line: LineOrError, captions: Captions) -> RecordError | None:
    record = object_of(line, "an object with image_id and text", "image_id")
    if isinstance(record, RecordError):
        return record
    image_id = image_id_of(record.fields["image_id"], record.place, "image_id")
    if isinstance(image_id, RecordError):
        return image_id
    texts = captions_in(record.fields.get("text"), "text", record.place)
    if isinstance(texts, RecordError):
        return texts
    for text in texts:
        captions.add(image_id, text, record.place)
    return None


_FILE_NUMBER = re.compile(r"_(\d+)$")


class WukongReader(ImageReader):
    """Reads a file of Wukong, ``wukong_100m_{0..255}.csv``.

    ``load_data(file, images)``: without ``images``, nodes have addresses (``image_url``), which the embedding fetches
    with ``allow_urls=True``; many no longer answer. With it, images are those that the official downloader saved as
    ``{images}/{file:03d}/{row:05d}.jpg``. There are no ids in the file: they are made of its number and the row.

    Args:
        id_prefix: What node ids begin with, as of ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``ImageReader``.
        show_progress: Show a progress bar.
    """

    def _records(self, file: str | Path, images: str | Path | None = None) -> Iterator[NodeOrError]:
        path = Path(file).expanduser()
        folder = Path(images).expanduser() if images is not None else None
        number = _FILE_NUMBER.search(path.stem)
        prefix = f"{int(number.group(1)):03d}" if number else path.stem
        rows = rows_of(path, required=("url", "caption"), show_progress=self.show_progress)
        # A row that cannot be used has its number all the same.
        for row, record in enumerate(rows):
            yield record if isinstance(record, RecordError) else _node(f"{prefix}/{row:05d}", record, folder)

    def _nothing_read(self, file: str | Path, images: str | Path | None = None) -> str:
        return f"{file} holds no images; expected the header url,caption and a line for each image"


def _node(node_id: str, record: Record, images: Path | None) -> NodeOrError:
    caption = in_one_line(record.fields["caption"])
    if images is not None:
        return image_of_file(node_id, images, f"{node_id}.jpg", caption, record.place)
    return addressed_image(node_id, record.fields["url"], caption, record.place)
