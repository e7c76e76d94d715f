"""Fit texts into the columns of a terminal, of which a Chinese character takes two."""

from __future__ import annotations

import re

from llama_index_mm_zhipu.text import CJK_RANGES, columns_of

_OPENING, _CLOSING = "（《“‘「【", "，。；：、！？）》”’」】…"
_WIDE = f"{CJK_RANGES}{_OPENING}{_CLOSING}"
# Lines break at spaces and beside Chinese characters, but not before or after the punctuation that belongs to them.
_PIECES = re.compile(rf" +|[{_OPENING}]*(?:[^ {_WIDE}]+|[^ ])[{_CLOSING}]*")


def fitted(text: str, columns: int) -> str:
    """Return the beginning of a text that takes at most so many columns, with ``…`` if that is not all."""
    if columns_of(text) <= columns:
        return text
    while text and columns_of(text) >= columns:
        text = text[:-1]
    return f"{text}…"


def wrapped(text: str, columns: int) -> list[str]:
    """Return the lines of a text, each of at most so many columns unless one word is longer."""
    lines = [""]
    for piece in _PIECES.findall(" ".join(text.split())):
        if lines[-1] and columns_of(f"{lines[-1]}{piece}".rstrip()) > columns:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return [line.rstrip() for line in lines]
