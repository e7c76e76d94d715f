"""Captions of a data set, gathered before its pictures are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


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


def captions_in(value: object) -> list[str]:
    """Return the captions in a value of JSON: null, a caption, or a list of them."""
    captions = value if isinstance(value, list) else [value]
    return [str(caption) for caption in captions if caption]


def in_one_line(text: str) -> str:
    """Return a caption without line ends, as nodes hold a caption a line."""
    return " ".join(filter(None, map(str.strip, with_whole_characters(text).splitlines())))


def with_whole_characters(text: str) -> str:
    """Return a text with marks for halves of surrogate pairs, which JSON can spell and no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
