"""Markdown and HTML, as GLM-OCR writes them, as lines of plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser

# The tags that GLM-OCR writes around text. Other words in angle brackets are text: List<String>, a<b.
_TAG = re.compile(r"</?(?:div|center|p|br|span|sup|sub|b|i|u|em|strong|font|img)(?:\s[^<>]{0,500})?/?>", re.IGNORECASE)
_TABLE = re.compile(r"(<table\b.*?(?:</table\s*>|\Z))", re.IGNORECASE | re.DOTALL)
_LINE_TAG = re.compile(r"<(?:br|/p|/div)\b[^<>]{0,500}>", re.IGNORECASE)

_IMAGE = re.compile(r"!\[[^\]\n]{0,500}\]\((?:[^()\n]|\([^()\n]{0,500}\)){0,2000}\)")
_LINK = re.compile(r"\[([^\]\n]{1,500})\]\(https?://[^()\s]{1,2000}\)")
_STRONG = re.compile(r"(\*\*|__)(?=\S)([^\n]{1,2000}?)(?<=\S)\1")
_EMPHASIS = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]{1,2000}?)(?<=[^\s*])\*(?![\w*])")
_LINE_START = re.compile(r"\A\s*(?:#{1,6}\s+|>\s?|[-*+]\s+(?=\S))")
# Lines that are marks only: code fences, fences of formulas, rules, and the line under the head of a table.
_MARKS_ONLY = re.compile(r"\s*(?:```\w*|\$\$|-{3,}|\*{3,}|_{3,}|\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)*\|?)\s*")
_FORMULA = re.compile(r"\$\$(.{1,2000}?)\$\$")
_PIPE_ROW = re.compile(r"\s*\|(.*)\|\s*")
_PIPE = re.compile(r"(?<!\\)\|")


def plain_lines(markdown: str) -> list[str]:
    """Return the lines of a text without marks; a row of a table is a line, with spaces between its cells.

    Images, rules and fences are left out. Formulas stay in LaTeX.
    """
    lines: list[str] = []
    for number, part in enumerate(_TABLE.split(markdown)):
        # The pattern has one group: every second part is a table.
        lines += _rows(part) if number % 2 else map(_plain, _lines(part))
    return [line for line in lines if line]


def _lines(text: str) -> Iterator[str]:
    for line in _LINE_TAG.sub("\n", text).splitlines():
        if not _MARKS_ONLY.fullmatch(line):
            row = _PIPE_ROW.fullmatch(line)
            yield line if row is None else " ".join(cell.strip() for cell in _PIPE.split(row[1]) if cell.strip())


def _plain(line: str) -> str:
    line = _LINE_START.sub("", _LINK.sub(r"\1", _IMAGE.sub("", _TAG.sub("", line))), count=1)
    line = _EMPHASIS.sub(r"\1", _STRONG.sub(r"\2", _FORMULA.sub(r"\1", line)))
    return unescape(line).strip()


def _rows(table: str) -> list[str]:
    parser = _TableParser()
    parser.feed(table)
    parser.close()
    return [" ".join(" ".join(cell.split()) for cell in row if cell.strip()) for row in parser.rows]


class _TableParser(HTMLParser):
    """Collects the text of the cells of an HTML table by rows.

    Attributes:
        rows: The cells of each row; the text of a table in a cell belongs to rows of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a row or a cell."""
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th", "br") and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        """Add text to the cell, or to a row of its own before the first row."""
        if not self.rows:
            self.rows.append([])
        if not self.rows[-1]:
            self.rows[-1].append("")
        self.rows[-1][-1] += data
