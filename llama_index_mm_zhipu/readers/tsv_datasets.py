"""Chinese-CLIP's data sets and MUGE: a TSV of image ids and base64, and a JSON Lines file of texts for these ids."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

from llama_index_mm_zhipu.readers.base import ImageReader, NodeOrError
from llama_index_mm_zhipu.readers.image_nodes import (
    Captions,
    captions_of,
    image_id_of,
    image_of_base64,
    without_line_breaks,
)
from llama_index_mm_zhipu.readers.json import describe_value, is_not_finite, parse_object
from llama_index_mm_zhipu.readers.lines import LineOrError, read_lines
from llama_index_mm_zhipu.readers.records import RecordError

logger = logging.getLogger(__name__)


class ImageText(NamedTuple):
    """A text of a data set with the images that it describes.

    Attributes:
        text: A caption or a query.
        image_ids: Node ids of its images; empty if they are unknown.
        position: File and line.
    """

    text: str
    image_ids: tuple[str, ...]
    position: str


class TsvReader(ImageReader):
    """Base class for data sets whose texts name several images each; subclasses define file names and keys."""

    text_key: ClassVar[str]
    ids_key: ClassVar[str]

    def load_texts(self, folder: str | Path, split: str = "train") -> list[ImageText]:
        """Return the texts with the ids of all their images, for example as queries for an evaluation.

        Args:
            folder: As in ``load_data``.
            split: As in ``load_data``.

        Raises:
            RecordError: A line cannot be used, and ``on_error="raise"``.
            FileNotFoundError: A file does not exist.

        Examples:
            >>> from llama_index_mm_zhipu.readers import ChineseClipReader
            >>> text = ChineseClipReader(id_prefix="flickr").load_texts("Flickr30k-CN", "test")[0]
            >>> text.text, text.image_ids
            ('红苹果', ('flickr/1',))
        """
        file, _ = self._existing_files(folder, split)
        source = self.source_of(folder, split)
        texts = self._without_errors(_read_texts(file, self.text_key, self.ids_key))
        return [text._replace(image_ids=tuple(map(source.id_of, text.image_ids))) for text in texts]

    def _records(self, folder: str | Path, split: str = "train") -> Iterator[NodeOrError]:
        texts, images = self._existing_files(folder, split)
        captions = Captions()
        for text in _read_texts(texts, self.text_key, self.ids_key):
            if isinstance(text, RecordError):
                yield text
                continue
            for image_id in text.image_ids:
                captions.add(image_id, text.text, text.position)
        yield from _read_images(images, captions, self.show_progress)

    def _empty_message(self, folder: str | Path, split: str = "train") -> str:
        return _empty_tsv_message(self._files(Path(folder).expanduser(), split)[1])

    def _existing_files(self, folder: str | Path, split: str) -> tuple[Path, Path]:
        """Return the file of texts and the file of images.

        Raises:
            FileNotFoundError: The file of images does not exist; the message names the splits that do.
        """
        texts, images = self._files(Path(folder).expanduser(), split)
        if not images.is_file():
            ending = images.name.removeprefix(split)
            splits = sorted(file.name.removesuffix(ending) for file in images.parent.glob(f"*{ending}"))
            hint = f"there are the splits {', '.join(splits)}" if splits else "is this the folder of the data set?"
            raise FileNotFoundError(f"no such file: {images}; {hint}")
        return texts, images

    @abstractmethod
    def _files(self, folder: Path, split: str) -> tuple[Path, Path]:
        """Return the paths of the file of texts and of the file of images."""


class ChineseClipReader(TsvReader):
    """Reads a data set in the format of Chinese-CLIP's scripts.

    ``load_data(folder, split)``: ``split`` is ``"train"``, ``"valid"`` or ``"test"``. Images are streamed, captions are
    kept in memory. The pickles in ``lmdb/`` are never opened: the two text files contain the same data.

    Args:
        id_prefix: Prefix of node ids, see ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, see ``ImageReader``.
        show_progress: Whether to show a progress bar.

    Examples:
        >>> from llama_index_mm_zhipu.readers import ChineseClipReader
        >>> [node.text for node in ChineseClipReader().load_data("Flickr30k-CN", "test")][:2]
        ['红苹果', '汽车']
    """

    text_key = "text"
    ids_key = "image_ids"

    def _files(self, folder: Path, split: str) -> tuple[Path, Path]:
        return folder / f"{split}_texts.jsonl", folder / f"{split}_imgs.tsv"


class MugeRetrievalReader(TsvReader):
    """Reads MUGE's ``Multimodal_Retrieval``: images, with the queries that they answer as captions.

    ``load_data(folder, split)``: ``split`` is ``"train"``, ``"valid"`` or ``"test"``, whose queries have no images.
    File names may lack the prefix ``MR_``.

    Args:
        id_prefix: Prefix of node ids, see ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, see ``ImageReader``.
        show_progress: Whether to show a progress bar.

    Examples:
        >>> from llama_index_mm_zhipu.readers import MugeRetrievalReader
        >>> [node.text for node in MugeRetrievalReader().load_data("MUGE", "valid")][:2]
        ['红苹果', '汽车']
    """

    text_key = "query_text"
    ids_key = "item_ids"

    def _files(self, folder: Path, split: str) -> tuple[Path, Path]:
        return _muge_file(folder, f"{split}_queries.jsonl"), _muge_file(folder, f"{split}_imgs.tsv")


def _muge_file(folder: Path, name: str) -> Path:
    prefixed = folder / f"MR_{name}"
    return prefixed if prefixed.is_file() else folder / name


class MugeCaptionReader(ImageReader):
    """Reads MUGE's ``ECommerce-IC``: images with advertising texts as captions.

    ``load_data(folder, split)``: ``split`` is ``"train"``, ``"valid"`` or ``"test"``, which has no captions.

    Args:
        id_prefix: Prefix of node ids, see ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, see ``ImageReader``.
        show_progress: Whether to show a progress bar.

    Examples:
        >>> from llama_index_mm_zhipu.readers import MugeCaptionReader
        >>> [node.text for node in MugeCaptionReader().load_data("ECommerce-IC", "valid")][:2]
        ['红苹果', '汽车']
    """

    def _records(self, folder: str | Path, split: str = "train") -> Iterator[NodeOrError]:
        root, captions = Path(folder).expanduser(), Captions()
        for line in read_lines(root / f"IC_{split}.jsonl"):
            error = _add_captions(line, captions)
            if error is not None:
                yield error
        yield from _read_images(root / f"IC_{split}.tsv", captions, self.show_progress)

    def _empty_message(self, folder: str | Path, split: str = "train") -> str:
        return _empty_tsv_message(Path(folder) / f"IC_{split}.tsv")


def _add_captions(line: LineOrError, captions: Captions) -> RecordError | None:
    record = parse_object(line, "an object with image_id and text", "image_id")
    if isinstance(record, RecordError):
        return record
    image_id = image_id_of(record.fields["image_id"], record.position, "image_id")
    if isinstance(image_id, RecordError):
        return image_id
    texts = captions_of(record.fields.get("text"), "text", record.position)
    if isinstance(texts, RecordError):
        return texts
    for text in texts:
        captions.add(image_id, text, record.position)
    return None


def _read_texts(file: Path, text_key: str, ids_key: str) -> Iterator[ImageText | RecordError]:
    expected = f"an object with {text_key} and {ids_key}"
    keys: set[str] = set()
    for line in read_lines(file):
        record = parse_object(line, expected, text_key)
        if isinstance(record, RecordError):
            yield record
            continue
        keys.update(record.fields)
        text, image_ids = record.fields[text_key], record.fields.get(ids_key)
        if not image_ids or is_not_finite(image_ids):
            image_ids = []
        if not isinstance(text, str):
            yield RecordError(record.position, f"{text_key} is not a text, but {describe_value(text)}")
        elif not isinstance(image_ids, list):
            yield RecordError(record.position, f"{ids_key} is not a list, but {describe_value(image_ids)}")
        else:
            ids = [image_id_of(value, record.position, ids_key) for value in image_ids]
            bad = next((each for each in ids if isinstance(each, RecordError)), None)
            yield bad or ImageText(without_line_breaks(text), tuple(map(str, ids)), record.position)
    if keys and ids_key not in keys:
        # True of MUGE's test split; in other files the key may have another name.
        logger.warning("no line of %s has %s, but %s: its texts have no images", file, ids_key, sorted(keys))


def _read_images(file: Path, captions: Captions, show_progress: bool = False) -> Iterator[NodeOrError]:
    """Yield the images of a TSV with their captions, and errors for captions whose image is missing.

    Args:
        file: Lines of image id, tab, base64.
        captions: Captions of the images.
        show_progress: Whether to show a progress bar.
    """
    seen: set[str] = set()
    for line in read_lines(file, show_progress):
        if isinstance(line, RecordError):
            yield line
            continue
        image_id, tab, encoded = line.text.partition("\t")
        image_id = image_id.strip()
        if not tab or not image_id:
            yield RecordError(line.position, "not an image id, a tab and base64")
        elif image_id in seen:
            yield RecordError(line.position, f"the image id {image_id!r} is listed twice")
        else:
            seen.add(image_id)
            yield image_of_base64(image_id, encoded, captions.by_id.get(image_id, ""), line.position)
    for image_id, position in captions.positions.items():
        if image_id not in seen:
            yield RecordError(position, f"there is no image {image_id!r} in {file.name}")


def _empty_tsv_message(images: Path) -> str:
    return f"{images} holds no images; expected lines of id, tab, base64"
