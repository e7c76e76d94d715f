"""Pictures in a tsv of ids and base64, captions in a jsonl beside it that names picture ids."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

from llama_index_mm_zhipu.readers.base import NodeOrError, PictureReader
from llama_index_mm_zhipu.readers.captions import Captions, in_one_line
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.image_nodes import inline_picture
from llama_index_mm_zhipu.readers.parsing.json_objects import object_of
from llama_index_mm_zhipu.readers.parsing.json_values import described, is_no_number
from llama_index_mm_zhipu.readers.parsing.lines import lines_of
from llama_index_mm_zhipu.readers.picture_ids import picture_id_of

logger = logging.getLogger(__name__)


class PictureText(NamedTuple):
    """A text of a data set with the pictures that it belongs to.

    Attributes:
        text: A caption or a query.
        image_ids: Node ids of its pictures; none where they are not known.
        place: File and line.
    """

    text: str
    image_ids: tuple[str, ...]
    place: str


class TsvReader(PictureReader):
    """Reads data sets of this form; those that have it say how their files and keys are called."""

    text_key: ClassVar[str]
    ids_key: ClassVar[str]

    def load_texts(self, folder: str | Path, split: str = "train") -> list[PictureText]:
        """Read the texts alone, each with all of its pictures: the queries of a retrieval evaluation.

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
        texts, pictures = self._existing_files(folder, split)
        captions = Captions()
        for text in _texts_in(texts, self.text_key, self.ids_key):
            if isinstance(text, RecordError):
                yield text
                continue
            for image_id in text.image_ids:
                captions.add(image_id, text.text, text.place)
        yield from read_pictures(pictures, captions, self.show_progress)

    def _nothing_read(self, folder: str | Path, split: str = "train") -> str:
        return nothing_read(self._files(Path(folder).expanduser(), split)[1])

    def _existing_files(self, folder: str | Path, split: str) -> tuple[Path, Path]:
        """Return the file of texts and that of pictures, or name the splits that there are instead.

        Raises:
            FileNotFoundError: The file of pictures is missing.
        """
        texts, pictures = self._files(Path(folder).expanduser(), split)
        if not pictures.is_file():
            ending = pictures.name.removeprefix(split)
            splits = sorted(file.name.removesuffix(ending) for file in pictures.parent.glob(f"*{ending}"))
            there = f"there are the splits {', '.join(splits)}" if splits else "is this the folder of the data set?"
            raise FileNotFoundError(f"no such file: {pictures}; {there}")
        return texts, pictures

    @abstractmethod
    def _files(self, folder: Path, split: str) -> tuple[Path, Path]:
        """Return the file of texts and that of pictures."""


def nothing_read(pictures: Path) -> str:
    """Say that a tsv held no picture."""
    return f"{pictures} holds no pictures; expected lines of id, tab, base64"


def _texts_in(file: Path, text_key: str, ids_key: str) -> Iterator[PictureText | RecordError]:
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
            ids = [picture_id_of(value, record.place, ids_key) for value in image_ids]
            bad = next((each for each in ids if isinstance(each, RecordError)), None)
            yield bad or PictureText(in_one_line(text), tuple(map(str, ids)), record.place)
    if keys and ids_key not in keys:
        # As in MUGE's test split; or the key is called otherwise.
        logger.warning("no line of %s has %s, but %s: its texts are of no picture", file, ids_key, sorted(keys))


def read_pictures(file: Path, captions: Captions, show_progress: bool = False) -> Iterator[NodeOrError]:
    """Read pictures with their captions from a tsv, and name captions whose picture is not there.

    Args:
        file: Lines of id, tab, base64.
        captions: Of these pictures.
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
            yield RecordError(f"{line.place}: not a picture id, a tab and base64")
        elif image_id in seen:
            yield RecordError(f"{line.place}: the picture id {image_id!r} comes a second time")
        else:
            seen.add(image_id)
            yield inline_picture(image_id, encoded, captions.by_id.get(image_id, ""), line.place)
    for image_id, place in captions.places.items():
        if image_id not in seen:
            yield RecordError(f"{place}: there is no picture {image_id!r} in {file.name}")
