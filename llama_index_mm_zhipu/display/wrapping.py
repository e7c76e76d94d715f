"""Text that is broken into lines by the width of its characters, of which a Chinese one takes two columns."""

from __future__ import annotations

import re
import unicodedata

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
    lines: list[str] = []
    for own_line in filter(str.strip, text.splitlines()):
        lines.append("")
        for part in parts.findall(" ".join(own_line.split())):
            if lines[-1] and _width(lines[-1] + part.rstrip()) > columns:
                lines.append("")
            lines[-1] += part
    lines = [_cut(line.rstrip(), columns) for line in lines] or [""]
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], _cut(lines[max_lines - 1] + "…", columns)]
    return lines


def _cut(line: str, columns: int) -> str:
    while _width(line) > columns:
        line = line[:-2] + "…"
    return line


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
