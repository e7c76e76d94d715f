"""Caption files of the Flickr-CN and COCO-CN kind: a line is a picture's name, marks after ``#``, and a caption."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from llama_index_mm_zhipu.readers.captions import Captions
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.lines import lines_of

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
            captions.add(stem_of(found["name"]), found["caption"], line.place)


def read_names(file: Path) -> Iterator[tuple[str, str] | RecordError]:
    """Yield name, without ending, and place of each line of a file that lists the pictures of a split."""
    for line in lines_of(file):
        yield line if isinstance(line, RecordError) else (stem_of(line.text.strip()), line.place)


def stem_of(name: str) -> str:
    """Return a picture's name without its ending, which some lines of Flickr8k-CN give as ``.jpg.1``."""
    return _ENDING.sub("", name)
