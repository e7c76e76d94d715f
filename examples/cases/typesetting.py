"""Chinese text on a reportlab canvas: two embedded fonts, lines that wrap between characters."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFError, TTFont
from reportlab.pdfgen.canvas import Canvas

INK = "#22303c"
CHINESE = "Chinese"
"""Name of the Chinese font once it is loaded."""

_LATIN = "Latin"
_LATIN_FILE = "Vera.ttf"
"""Bitstream Vera, which reportlab brings along."""

# A run of letters and digits, or one character, with the closing punctuation after it and the opening one before it.
_UNBREAKABLE = re.compile(r"[（《“‘「]*(?:[!-~²]+|.)[，。、；：！？）》”’」]*")


class Box(NamedTuple):
    """A rectangle in points, counted from its lower left corner."""

    x: float
    y: float
    width: float
    height: float

    def inset(self, margin: float) -> Box:
        """Return the box without a margin on all sides."""
        return Box(self.x + margin, self.y + margin, self.width - 2 * margin, self.height - 2 * margin)


def load_fonts(path: Path) -> None:
    """Register the Chinese font, and reportlab's own for the letters and digits that it may lack.

    Raises:
        SystemExit: The font is not there or reportlab cannot embed it.
    """
    if not path.is_file():
        sys.exit(
            f"no font at {path}: install Droid Sans Fallback (Debian and Ubuntu: fonts-droid-fallback) or give --font"
        )
    try:
        pdfmetrics.registerFont(TTFont(CHINESE, str(path)))
    except TTFError as error:
        sys.exit(f"reportlab embeds only fonts with TrueType outlines, not {path}: {error}")
    pdfmetrics.registerFont(TTFont(_LATIN, _LATIN_FILE))


def text_width(text: str, size: float) -> float:
    """Return the width of a line of text in points."""
    return sum(pdfmetrics.stringWidth(part, font, size) for font, part in _runs(text))


def draw_text(
    canvas: Canvas, x: float, y: float, text: str, size: float, colour: str = INK, align: str = "left"
) -> None:
    """Draw a line of text; ``x`` is its left end, its ``"middle"`` or its ``"right"`` end, ``y`` its baseline."""
    shift = {"left": 0.0, "middle": 0.5, "right": 1.0}[align]
    line = canvas.beginText(x - shift * text_width(text, size), y)
    line.setFillColor(colour)
    for font, part in _runs(text):
        line.setFont(font, size)
        line.textOut(part)
    canvas.drawText(line)


def wrap(text: str, size: float, width: float) -> list[str]:
    """Break a text into lines no wider than ``width``; none begins with closing or ends with opening punctuation."""
    lines = [""]
    for piece in _UNBREAKABLE.findall(text):
        if text_width(lines[-1] + piece, size) > width:
            lines.append("")
        lines[-1] += piece
    return [line.strip() for line in lines]


def draw_list(canvas: Canvas, box: Box, sentences: list[str], size: float, bullet: str) -> None:
    """Draw sentences from the top of a box downwards, a bullet of the colour ``bullet`` before each.

    Raises:
        ValueError: They do not fit.
    """
    indent, leading = 1.1 * size, 1.5 * size
    baseline = box.y + box.height - size
    for sentence in sentences:
        canvas.setFillColor(bullet)
        # A drawn dot: a typed one would stand in the text layer.
        canvas.circle(box.x + 0.3 * size, baseline + 0.36 * size, 0.18 * size, stroke=0, fill=1)
        for line in wrap(sentence, size, box.width - indent):
            draw_text(canvas, box.x + indent, baseline, line, size)
            baseline -= leading
        baseline -= 0.3 * size
    if baseline + leading < box.y:
        raise ValueError(f"too much text for its place: {sentences[0]} ...")


def _runs(text: str) -> Iterator[tuple[str, str]]:
    for font, characters in groupby(text, key=_font_of):
        yield font, "".join(characters)


def _font_of(character: str) -> str:
    for font in (CHINESE, _LATIN):
        if ord(character) in pdfmetrics.getFont(font).face.charToGlyph:
            return font
    raise ValueError(f"no font has the character {character!r}")
