"""Text that is broken into lines by the width of its characters, of which a Chinese one takes two columns."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import accumulate, islice

_CLOSING = "，。、；：？！）》〉」』】〕”’…％"
_ASCII_AND_LATIN = r"[!-~\u00c0-\u024f]"

WORDS = re.compile(rf"(?:{_ASCII_AND_LATIN}+|.)[{_CLOSING}]*\s*", re.DOTALL)
"""Words of scripts with spaces stay whole; elsewhere any character but closing punctuation may begin a line."""

PIECES = re.compile(rf"{_ASCII_AND_LATIN}{{1,30}}\s*|.\s*", re.DOTALL)
"""Of URLs and paths, which are to be seen whole."""


def wrap(text: str, columns: int, max_lines: int, parts: re.Pattern[str] = WORDS) -> list[str]:
    """Break a text into lines, and end it with "…" where it does not fit.

    Args:
        text: Its own line breaks are kept.
        columns: Width of a line.
        max_lines: Number of lines.
        parts: What is not broken; longer parts than a line are cut.

    Returns:
        The lines, at least one.
    """
    # One more than there is room for tells that the text does not fit; the rest of a long text is not looked at.
    lines = list(islice(_lines(text, columns, parts), max_lines + 1)) or [""]
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], lines[max_lines - 1] + "…"]
    return [_cut(line, columns) for line in lines]


def _lines(text: str, columns: int, parts: re.Pattern[str]) -> Iterator[str]:
    for own_line in filter(str.strip, text.splitlines()):
        line, width = "", 0
        for match in parts.finditer(" ".join(own_line.split())):
            part = match.group()
            if line and width + _width(part.rstrip()) > columns:
                yield line.rstrip()
                line, width = "", 0
            line += part
            width += _width(part)
        yield line.rstrip()


def _cut(line: str, columns: int) -> str:
    if _width(line) <= columns:
        return line
    # The width up to each character, and the last one that leaves room for the mark.
    widths = accumulate(map(_width, line))
    return line[: sum(1 for width in widths if width < columns)] + "…"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
