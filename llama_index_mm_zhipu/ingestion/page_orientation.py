"""Pages that were scanned upside down or sideways: how far they are turned, and their lines in the right order.

An engine reads a page as it is given, and its lines show whether the page is upright. Lines that are wide and readable
are those of an upright page, which costs nothing further. Characters that are upside down give few characters with low
scores for the length of their lines, and most lines of a sideways page are higher than wide. Only in these cases the
page is turned and read again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal, TypeAlias

from PIL import Image

from llama_index_mm_zhipu.ingestion.ocr_engines import Box, OcrLine
from llama_index_mm_zhipu.text import CJK_RANGES

Recognize: TypeAlias = Callable[[Image.Image], Sequence[OcrLine]]
"""Returns the lines of an image, also those with a low score. Lines that are upside down must not be turned: if each
were read the right way up, their order would be that of the page upside down."""

Turn: TypeAlias = Literal[0, 90, 180, 270]
"""Degrees clockwise."""

# Sum of the scores of the characters, for the length of their lines in square characters: 1.1 to 1.3 on clean pages
# that are upright, at most 0.2 on pages upside down. Mean score of the characters: at least 0.98 and at most 0.89. Both
# must be low, as other engines may have longer boxes or other scores than RapidOCR.
_READABLE = 0.5
_CERTAIN = 0.95

# The text of fewer characters does not say whether a page is turned: a photograph with a brand name on it.
_MIN_CHARACTERS = 8.0

# Without rounding, 1 - 0.3 is 0.7000000000000001 in metadata.
_DIGITS = 6

# Shorter lines do not show their direction.
_MIN_RATIO = 2.0

_TRANSPOSED = {
    90: Image.Transpose.ROTATE_270,  # Pillow turns counter-clockwise.
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class PageReading:
    """What was read on a page.

    Attributes:
        lines: The lines in the order in which the engine found them on the upright page. Their boxes are those of the
            image as it was given.
        turn: Degrees clockwise by which the image must be turned to be upright.
    """

    lines: list[OcrLine]
    turn: Turn = 0


def recognize_upright(image: Image.Image, recognize: Recognize) -> PageReading:
    """Read a page, which is turned first if it is upside down or sideways.

    An upright page and an image with little or no text are read once, a turned page two or three times. A page of
    vertical Chinese text counts as upright. If it is turned, its lines are in the right order all the same, but
    ``turn`` may be that of horizontal text, a quarter less or more.

    Args:
        image: The page.
        recognize: Reads an image.
    """
    given = _Attempt.of(image, 0, recognize)
    best = given
    if given.expected < _MIN_CHARACTERS:
        return given.reading()
    if given.is_sideways:
        if given.is_readable and _has_upright_characters(image, given.lines, recognize):
            return given.reading()
        # Engines turn crops of tall lines counter-clockwise, and a page that they can read this way needs the same.
        others: tuple[Turn, ...] = (270, 90) if given.is_readable else (90, 270)
    else:
        others = () if given.is_readable else (180,)
    for turn in others:
        attempt = _Attempt.of(image, turn, recognize)
        # The first of equals: a page that may be upright is not turned.
        best = max(best, attempt, key=lambda each: each.score)
        if attempt.is_readable and not attempt.is_sideways:
            return attempt.reading()
    return best.reading()


def turned_box(box: Box, turn: int) -> Box:
    """Return where a box of an image is after the image was turned clockwise by a multiple of 90 degrees."""
    left, top, right, bottom = box
    for _ in range(turn // 90 % 4):
        left, top, right, bottom = round(1 - bottom, _DIGITS), left, round(1 - top, _DIGITS), right
    return left, top, right, bottom


def turned_lines(lines: Iterable[OcrLine], turn: int) -> list[OcrLine]:
    """Return the lines of an image after it was turned clockwise by a multiple of 90 degrees, in the same order."""
    return [replace(line, box=turned_box(line.box, turn)) for line in lines]


@dataclass(frozen=True)
class _Attempt:
    """What an engine read after the image was turned.

    Attributes:
        turn: Degrees clockwise.
        lines: The lines, with boxes of the turned image.
        expected: Number of square characters for which the lines are long enough.
        characters: Number of characters in these lines.
        readable: Sum of their scores.
        tall: Share of these lines, by length, that are higher than wide.
    """

    turn: Turn
    lines: Sequence[OcrLine]
    expected: float
    characters: int
    readable: float
    tall: float

    @classmethod
    def of(cls, image: Image.Image, turn: Turn, recognize: Recognize) -> _Attempt:
        turned = image.transpose(_TRANSPOSED[turn]) if turn else image
        lines = recognize(turned)
        characters = 0
        expected = readable = length = tall = 0.0
        for line in lines:
            width, height = _size(line, turned)
            long, short = max(width, height), min(width, height)
            if short <= 0 or long < _MIN_RATIO * short:
                continue
            expected += long / short
            characters += len(line.text)
            readable += line.score * len(line.text)
            length += long
            tall += long * (height > width)
        return cls(turn, lines, expected, characters, readable, tall / length if length else 0.0)

    @property
    def is_readable(self) -> bool:
        return self.readable >= min(_READABLE * self.expected, _CERTAIN * self.characters)

    @property
    def is_sideways(self) -> bool:
        return self.tall > 0.5

    @property
    def score(self) -> float:
        return sum(line.score * len(line.text) for line in self.lines)

    def reading(self) -> PageReading:
        return PageReading(turned_lines(self.lines, 360 - self.turn), self.turn)


def _size(line: OcrLine, image: Image.Image) -> tuple[float, float]:
    left, top, right, bottom = line.box
    return (right - left) * image.width, (bottom - top) * image.height


# Vertical text

_SAMPLES = 4
_MIN_SAMPLE = 4
_MAX_SAMPLE = 10

# Chinese characters with their punctuation: as high as wide, and the only ones that are written vertically.
_SQUARE_CHARACTERS = re.compile(f"[{CJK_RANGES}\u3000-\u303f\uff00-\uffef]+")


def _has_upright_characters(image: Image.Image, lines: Sequence[OcrLine], recognize: Recognize) -> bool:
    """Return whether the characters of tall lines stand upright, as in vertical text, or lie on their side.

    Engines read both, so that the lines do not show it. The first characters of some lines are cut out and laid side by
    side: only if they stand upright, this is a line of text.
    """
    samples = list(islice(_samples(image, lines), _SAMPLES))
    if not samples:
        return False
    strips = [strip for _, strip in samples]
    margin = max(strip.height for strip in strips)
    width, height = max(strip.width for strip in strips), sum(strip.height + margin for strip in strips)
    sheet = Image.new("RGB", (width + 2 * margin, height + margin), strips[0].getpixel((0, 0)))
    top = margin
    for strip in strips:
        sheet.paste(strip, (margin, top))
        top += strip.height + margin
    expected = Counter("".join(text for text, _ in samples))
    found = Counter("".join(line.text for line in recognize(sheet)))
    return (expected & found).total() >= expected.total() / 2


def _samples(image: Image.Image, lines: Sequence[OcrLine]) -> Iterator[tuple[str, Image.Image]]:
    """Yield the beginnings of tall lines, best ones first: the characters, and their places laid side by side."""
    for line in sorted(lines, key=lambda each: each.score * len(each.text), reverse=True):
        width, height = _size(line, image)
        if len(line.text) < _MIN_SAMPLE or height < _MIN_RATIO * width or not _SQUARE_CHARACTERS.fullmatch(line.text):
            continue
        text = line.text[:_MAX_SAMPLE]
        left, top = round(line.box[0] * image.width), line.box[1] * image.height
        side, pitch = round(width), height / len(line.text)
        strip = Image.new("RGB", (side * len(text), round(pitch)))
        for position in range(len(text)):
            upper = round(top + position * pitch)
            strip.paste(image.crop((left, upper, left + side, upper + round(pitch))), (position * side, 0))
        yield text, strip
