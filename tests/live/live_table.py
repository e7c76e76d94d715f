"""The table of assumed and observed outcomes, for terminals and as Markdown."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import zip_longest

Row = Sequence[str]

HEADER = ("probe", "fact", "assumed", "mock server", "service", "")
LEGEND = (
    "fact: D documented, L reported by users of the service, R read in Zhipu's SDK, ? stated nowhere. "
    "≠: the service differs from the assumption."
)

_WIDTHS = (28, 40, 34, 34, 34, 1)
_GAP = " | "


def terminal_table(rows: Sequence[Row]) -> list[str]:
    """Return aligned lines; long cells are wrapped."""
    rule = "-+-".join("-" * width for width in _WIDTHS)
    lines = [*_wrapped_row(HEADER), rule]
    for row in rows:
        lines += _wrapped_row(row)
    return lines


def markdown_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table with its legend."""
    lines = [HEADER, ["---"] * len(HEADER), *([_escaped(cell) for cell in row] for row in rows)]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", LEGEND, ""])


def width_of(text: str) -> int:
    """Return the width of a text in terminal columns. Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def wrap(text: str, width: int) -> list[str]:
    """Wrap a text into lines of at most this many columns, at spaces or inside words that are wider than a line."""
    lines = [""]
    for word in text.split(" "):
        addition = f" {word}" if lines[-1] else word
        if width_of(lines[-1] + addition) > width >= width_of(word):
            lines.append(word)
            continue
        for character in addition:
            if width_of(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines


def _wrapped_row(row: Row) -> list[str]:
    columns = [wrap(cell, width) for cell, width in zip(row, _WIDTHS, strict=True)]
    return [
        _GAP.join(cell + " " * (width - width_of(cell)) for cell, width in zip(cells, _WIDTHS, strict=True))
        for cells in zip_longest(*columns, fillvalue="")
    ]


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;")
