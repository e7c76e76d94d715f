"""Pictures in a tsv of ids and base64, captions in a jsonl beside it that names picture ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llama_index_mm_zhipu.readers.base import NodeOrError
from llama_index_mm_zhipu.readers.captions import Captions
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.inline_pictures import inline_picture
from llama_index_mm_zhipu.readers.parsing.json_objects import object_of
from llama_index_mm_zhipu.readers.parsing.lines import lines_of
from llama_index_mm_zhipu.readers.picture_ids import picture_id_of


def read_captions(file: Path, captions: Captions, *, text_key: str, ids_key: str) -> Iterator[RecordError]:
    """Read captions from a jsonl, and yield the errors of its lines.

    Args:
        file: Of objects such as ``{"text_id": 5, "text": "红色雨伞", "image_ids": [1000002]}``.
        captions: Where they go.
        text_key: Key of the text.
        ids_key: Key of the list of picture ids; a missing or empty list means that they are not known.
    """
    form = f"an object with {text_key} and {ids_key}"
    for line in lines_of(file):
        record = object_of(line, form, text_key)
        if isinstance(record, RecordError):
            yield record
            continue
        text, image_ids = record.fields[text_key], record.fields.get(ids_key) or []
        if not isinstance(text, str):
            yield RecordError(f"{record.place}: {text_key} is no text")
        elif not isinstance(image_ids, list):
            yield RecordError(f"{record.place}: {ids_key} is no list")
        else:
            for value in image_ids:
                image_id = picture_id_of(value, record.place)
                if isinstance(image_id, RecordError):
                    yield image_id
                else:
                    captions.add(image_id, text, record.place)


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
