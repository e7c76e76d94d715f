"""Draws Chinese text on a reportlab canvas, with two embedded fonts and line breaks between characters."""

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
"""Name of the Chinese font after ``load_fonts``."""

_LATIN = "Latin"
_LATIN_FILE = "Vera.ttf"
"""Bitstream Vera, which comes with reportlab."""

# A run of letters and digits, or one character, together with opening punctuation before and closing punctuation after.
_UNBREAKABLE = re.compile(r"[（《“‘「]*(?:[!-~²]+|.)[，。、；：！？）》”’」]*")


class Box(NamedTuple):
    """A rectangle in points; ``x`` and ``y`` are its lower left corner."""

    x: float
    y: float
    width: float
    height: float

    def inset(self, margin: float) -> Box:
        """Return the box reduced by a margin on all sides."""
        return Box(self.x + margin, self.y + margin, self.width - 2 * margin, self.height - 2 * margin)


def load_fonts(path: Path) -> None:
    """Register the Chinese font, and reportlab's font for letters and digits that it lacks.

    Raises:
        SystemExit: The font file does not exist, or reportlab cannot embed it.
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
    """Draw a line of text. ``x`` is its ``"left"`` end, ``"middle"`` or ``"right"`` end, and ``y`` its baseline."""
    shift = {"left": 0.0, "middle": 0.5, "right": 1.0}[align]
    line = canvas.beginText(x - shift * text_width(text, size), y)
    line.setFillColor(colour)
    for font, part in _runs(text):
        line.setFont(font, size)
        line.textOut(part)
    canvas.drawText(line)


def wrap(text: str, size: float, width: float) -> list[str]:
    """Break a text into lines of at most ``width``; none begins with closing or ends with opening punctuation."""
    lines = [""]
    for piece in _UNBREAKABLE.findall(text):
        if text_width(lines[-1] + piece, size) > width:
            lines.append("")
        lines[-1] += piece
    return [line.strip() for line in lines]


def draw_list(canvas: Canvas, box: Box, sentences: list[str], size: float, bullet: str) -> None:
    """Draw sentences from the top of a box downwards, each with a bullet of the colour ``bullet``.

    Raises:
        ValueError: The sentences do not fit into the box.
    """
    indent, leading = 1.1 * size, 1.5 * size
    baseline = box.y + box.height - size
    for sentence in sentences:
        canvas.setFillColor(bullet)
        # Draw the bullet as a circle, since a character would become part of the text layer.
        canvas.circle(box.x + 0.3 * size, baseline + 0.36 * size, 0.18 * size, stroke=0, fill=1)
        for line in wrap(sentence, size, box.width - indent):
            draw_text(canvas, box.x + indent, baseline, line, size)
            baseline -= leading
        baseline -= 0.3 * size
    if baseline + leading < box.y:
        raise ValueError(f"too much text for the box: {sentences[0]} ...")


def _runs(text: str) -> Iterator[tuple[str, str]]:
    for font, characters in groupby(text, key=_font_of):
        yield font, "".join(characters)


def _font_of(character: str) -> str:
    for font in (CHINESE, _LATIN):
        if ord(character) in pdfmetrics.getFont(font).face.charToGlyph:
            return font
    raise ValueError(f"no font has the character {character!r}")
