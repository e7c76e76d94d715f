"""Caption files of the Flickr-CN and COCO-CN kind: a line is a picture's name, marks after ``#``, and a caption."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llama_index_mm_zhipu.readers.base import NodeOrError
from llama_index_mm_zhipu.readers.captions import Captions
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.parsing.lines import lines_of
from llama_index_mm_zhipu.readers.picture_files import picture_of_file

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
    "a picture's name, '#', a number and a caption",
)

_PART_OF_SPEECH = re.compile(r":[A-Za-z]+\d*$")
_ENDING = re.compile(r"\.jpg(?:\.\d+)?$", re.IGNORECASE)


def read_caption_lines(
    file: Path,
    captions: Captions,
    form: CaptionForm = NAMED_CAPTION,
    rewrite: Callable[[str], str] = str,
) -> Iterator[RecordError]:
    """Read captions by picture name without its ending, and yield the errors of lines.

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


def read_named_pictures(
    captions: Captions, split: Path | None, images: Path, file_of: Callable[[str], str | None]
) -> Iterator[NodeOrError]:
    """Yield the captioned pictures, or those of a split.

    Args:
        captions: By name without ending.
        split: File that lists the pictures of a split, a name a line; None for all that have captions.
        images: Folder of the pictures.
        file_of: Returns where in it the picture of a name lies, or None for what is no such name.
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
            yield RecordError(f"{place}: the picture {stem!r} comes a second time")
        else:
            seen.add(stem)
            yield picture_of_file(stem, images, file, captions.by_id.get(stem, ""), place)
    if bare := len(seen - captions.by_id.keys()):
        logger.warning("%d of %d pictures of %s have no caption in the file of captions", bare, len(seen), split)


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
    """Return a picture's name without its ending, which some lines of Flickr8k-CN give as ``.jpg.1``."""
    return _ENDING.sub("", name)
