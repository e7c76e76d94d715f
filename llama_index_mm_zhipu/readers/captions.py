"""Captions of a data set, gathered before its pictures are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.parsing.json_values import described, is_no_number
from llama_index_mm_zhipu.text import with_whole_characters


@dataclass
class Captions:
    """Captions by picture id, a line each, and where each id was named first."""

    by_id: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def add(self, image_id: str, text: str, place: str) -> None:
        """Add a caption; line ends in it become blanks."""
        self.places.setdefault(image_id, place)
        self.by_id[image_id] = "\n".join(filter(None, [self.by_id.get(image_id), in_one_line(text)]))


def joined(captions: Iterable[str]) -> str:
    """Return captions as a node holds them, a line each; blank ones are left out."""
    return "\n".join(filter(None, map(in_one_line, captions)))


def captions_in(value: object, key: str, place: str) -> list[str] | RecordError:
    """Return the captions in a value of JSON, or the error of a value that holds something else.

    Args:
        value: Text or a number, a list of these, or what stands for no caption: null, NaN, as pandas writes it, or
            false.
        key: Of the value, for the error.
        place: File and line.
    """
    captions = []
    for caption in value if isinstance(value, list) else [value]:
        if isinstance(caption, str):
            captions.append(caption)
        elif caption and not is_no_number(caption):
            if isinstance(caption, bool) or not isinstance(caption, int | float):
                return RecordError(f"{place}: {key} holds {described(caption)}, not a caption or a list of captions")
            captions.append(str(caption))
    return list(filter(None, captions))


def in_one_line(text: str) -> str:
    """Return a caption without line ends, as nodes hold a caption a line."""
    return " ".join(filter(None, map(str.strip, with_whole_characters(text).splitlines())))
