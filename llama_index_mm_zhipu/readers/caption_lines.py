"""Caption files of the Flickr-CN and COCO-CN kind: a line is a picture's name, marks after ``#``, and a caption."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from llama_index_mm_zhipu.readers.base import NodeOrError
from llama_index_mm_zhipu.readers.captions import Captions
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.lines import lines_of
from llama_index_mm_zhipu.readers.picture_files import picture_of_file

# "123456_ab12cd.jpg#zhc#0 一只狗" and "COCO_val2014_000000000123#0⇥一只猫": name, marks, one blank, caption.
_LINE = re.compile(r"(?P<name>[^#\s]+)#(?P<marks>\S+)\s(?P<caption>.*)", re.DOTALL)
_ENDING = re.compile(r"\.jpg(?:\.\d+)?$", re.IGNORECASE)


def read_caption_lines(file: Path, captions: Captions) -> Iterator[RecordError]:
    """Read captions by picture name without its ending, and yield the errors of lines.

    Args:
        file: The caption file.
        captions: Where they go.
    """
    for line in lines_of(file):
        if isinstance(line, RecordError):
            yield line
            continue
        found = _LINE.fullmatch(line.text.strip())
        if found is None:
            yield RecordError(f"{line.place}: not a picture's name, '#', a number and a caption")
        else:
            captions.add(_stem_of(found["name"]), found["caption"], line.place)


def read_named_pictures(
    captions: Captions, split: Path | None, file_of: Callable[[str], Path | None]
) -> Iterator[NodeOrError]:
    """Yield the captioned pictures, or those of a split.

    Args:
        captions: By name without ending.
        split: File that lists the pictures of a split, a name a line; None for all that have captions.
        file_of: Returns where the picture of a name lies, or None for what is no such name.
    """
    for name in _names_in(split) if split is not None else captions.places.items():
        if isinstance(name, RecordError):
            yield name
            continue
        stem, place = name
        file = file_of(stem)
        if file is None:
            yield RecordError(f"{place}: {stem!r} is no name such as COCO_val2014_000000000123")
        else:
            yield picture_of_file(stem, file, captions.by_id.get(stem, ""), place)


def _names_in(file: Path) -> Iterator[tuple[str, str] | RecordError]:
    for line in lines_of(file):
        yield line if isinstance(line, RecordError) else (_stem_of(line.text.strip()), line.place)


def _stem_of(name: str) -> str:
    """Return a picture's name without its ending, which some lines of Flickr8k-CN give as ``.jpg.1``."""
    return _ENDING.sub("", name)
