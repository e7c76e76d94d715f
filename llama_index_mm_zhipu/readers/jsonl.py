"""Images with captions, one JSON object a line.

A line is ``{"image_id": "1", "image_base64": "/9j/…", "caption": "一只猫"}``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llama_index.core.schema import ImageNode

from llama_index_mm_zhipu.arguments import explicit_arguments
from llama_index_mm_zhipu.readers.base import ImageReader, NodeOrError
from llama_index_mm_zhipu.readers.columns import column_reader_call
from llama_index_mm_zhipu.readers.image_nodes import Captions, captions_in, image_id_of, inline_image
from llama_index_mm_zhipu.readers.parsing.encodings import checked_encoding, encoding_of
from llama_index_mm_zhipu.readers.parsing.json import object_of, storable
from llama_index_mm_zhipu.readers.parsing.lines import LineOrError, Record, RecordOrError, lines_of
from llama_index_mm_zhipu.readers.records import RESERVED_KEYS, RecordError
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.types import OnError

logger = logging.getLogger(__name__)

_ID, _IMAGE, _CAPTION = "image_id", "image_base64", "caption"
_FORM = f"an object with {_ID}, {_IMAGE} and {_CAPTION}"


class JsonlReader(ImageReader):
    """Reads a jsonl file with images in base64.

    An id may be a number or a string, a caption a string, a list or null; an id that comes again adds a caption. Other
    keys become metadata, those of an id's first good line. The file is read twice, for the captions; only these stay in
    memory. Node ids end in the image ids. Files of other keys are for ``ColumnReader``.

    Args:
        encoding: Of the file, such as ``"gb18030"`` (GBK). None detects UTF-8, UTF-16 with a byte order mark, and
            GB18030, which is a guess and logged as a warning; detection reads the file once more.
        id_prefix: What node ids begin with, as of ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``ImageReader``.
        show_progress: Show a progress bar.

    Raises:
        ValueError: The encoding is unknown.
    """

    def __init__(
        self,
        *,
        encoding: str | None = None,
        id_prefix: str | None = None,
        on_error: OnError = "raise",
        show_progress: bool = False,
    ) -> None:
        super().__init__(id_prefix=id_prefix, on_error=on_error, show_progress=show_progress)
        self.encoding = checked_encoding(encoding)

    def _records(self, path: str | Path) -> Iterator[NodeOrError]:
        file = Path(path).expanduser()
        encoding = encoding_of(file, self.encoding)
        captions = _gather_captions(file, encoding).by_id
        images: dict[str, int] = {}
        for line in lines_of(file, self.show_progress, encoding):
            record = _parsed(line, file)
            if isinstance(record, RecordError):
                yield record
                continue
            image_id, texts = _id_and_captions(record)
            if isinstance(image_id, RecordError):
                yield image_id
            elif isinstance(texts, RecordError):
                yield texts
            elif image_id in captions:
                node = _node(image_id, record, captions[image_id])
                if not isinstance(node, RecordError):
                    # The first good line of an id brings all captions, others have nothing more to say.
                    del captions[image_id]
                    images[image_id] = _digest_of(record)
                yield node
            elif images.get(image_id) != _digest_of(record):
                yield RecordError(f"{record.place}: the {_ID} {image_id!r} comes a second time, with another image")

    def _nothing_read(self, path: str | Path) -> str:
        return f"{path} holds no images; expected lines with image_id, image_base64 and caption"


@explicit_arguments
def read_jsonl(
    path: str | Path, *, encoding: str | None = None, id_prefix: str | None = None, show_progress: bool = False
) -> list[ImageNode]:
    """Read images and captions from a jsonl file: short for ``JsonlReader(…).load_data(path)``.

    Args:
        path: File of lines such as ``{"image_id": "1", "image_base64": "/9j/…", "caption": "一只猫"}``; other keys
            become metadata.
        encoding: Of the file, such as ``"gb18030"`` (GBK); None to detect it, as ``JsonlReader`` does.
        id_prefix: What node ids begin with, before a slash; by default the file's name and a hash of its path, so that
            images of two files never replace each other.
        show_progress: Show a progress bar.

    Returns:
        One node an image, in the order of the file.

    Raises:
        ValueError: A line is not such an object, or the file holds no image. The message names file and line, and
            where keys have other names, the call of ``ColumnReader`` that reads these.
    """
    return JsonlReader(encoding=encoding, id_prefix=id_prefix, show_progress=show_progress).load_data(path)


def _gather_captions(file: Path, encoding: str | None) -> Captions:
    captions = Captions()
    example: Record | None = None
    has_caption_key = False
    for line in lines_of(file, encoding=encoding):
        record = _parsed(line, file)
        if isinstance(record, RecordError):
            continue
        example = example or record
        has_caption_key = has_caption_key or _CAPTION in record.fields
        image_id, texts = _id_and_captions(record)
        if not isinstance(image_id, RecordError) and not isinstance(texts, RecordError):
            for text in texts or [""]:
                captions.add(image_id, text, record.place)
    if example is not None and not has_caption_key and len(example.fields) > len((_ID, _IMAGE)):
        logger.warning(
            "no line of %s has the key %s, but %s: its images have no captions; %s reads them from another key",
            one_line(str(file)),
            _CAPTION,
            _listed(example.fields),
            column_reader_call(example.fields, file),
        )
    return captions


def _digest_of(record: Record) -> int:
    """Tell images apart as they are written: equal base64 is an equal image."""
    return hash(str(record.fields[_IMAGE]))


def _id_and_captions(record: Record) -> tuple[str | RecordError, list[str] | RecordError]:
    image_id = image_id_of(record.fields[_ID], record.place, _ID)
    return image_id, captions_in(record.fields.get(_CAPTION), _CAPTION, record.place)


def _node(image_id: str, record: Record, caption: str) -> NodeOrError:
    metadata = {key: value for key, value in record.fields.items() if key not in (_ID, _IMAGE, _CAPTION)}
    if reserved := RESERVED_KEYS.intersection(metadata):
        return RecordError(
            f"{record.place}: the key {min(reserved)!r} is one of this package's own metadata; rename it"
        )
    return inline_image(image_id, record.fields[_IMAGE], caption, record.place, storable(metadata))


def _parsed(line: LineOrError, file: Path) -> RecordOrError:
    record = object_of(line, _FORM)
    if isinstance(record, RecordError) or {_ID, _IMAGE} <= record.fields.keys():
        return record
    keys = _listed(record.fields)
    hint = f"; read other keys with {column_reader_call(record.fields, file)}" if keys else ""
    return RecordError(f"{record.place}: not {_FORM}, but with {keys or 'no key'}{hint}")


def _listed(fields: Mapping[str, Any]) -> str:
    return ", ".join(fields)
