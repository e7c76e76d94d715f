"""Contact sheets: several images in one, each with its number above it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

CELL_SIDE = 1024
"""Pixels of an image on a sheet, at most."""

_SHEET_SIDE = 4096
_GAP = 12
_INK = "black"
_FRAME = "#b0b0b0"


def contact_sheet(
    images: Sequence[Image.Image], numbers: Sequence[int | str], *, max_side: int = _SHEET_SIDE
) -> Image.Image:
    """Lay out images in rows, in reading order, each under its number.

    Images are shrunk to at most 1,024 pixels on their longer side, never enlarged.

    Args:
        images: RGB; left as they are.
        numbers: One for each image, or another short name in Latin letters.
        max_side: Pixels of the sheet on its longer side, at most 4,096.

    Returns:
        A white RGB image with the images on it.
    """
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    side = min(max_side, _SHEET_SIDE)
    cell = min(CELL_SIDE, max(max(image.size) for image in images), side // max(columns, rows) - 2 * _GAP)
    label = max(24, cell // 14)
    cell = max(1, min(cell, side // rows - 2 * _GAP - label))
    thumbnails = [_thumbnail(image, cell) for image in images]
    lines = [list(range(start, min(start + columns, len(images)))) for start in range(0, len(images), columns)]
    heights = [max(thumbnails[place].height for place in line) + label + 2 * _GAP for line in lines]
    width = max(max(image.width for image in thumbnails), label) + 2 * _GAP
    sheet = Image.new("RGB", (columns * width, sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(label * 0.8)
    for row, line in enumerate(lines):
        top = sum(heights[:row]) + _GAP
        for column, place in enumerate(line):
            left = column * width + _GAP
            draw.text((left, top), str(numbers[place]), fill=_INK, font=font)
            _paste(sheet, draw, thumbnails[place], (left, top + label))
    return sheet


def _thumbnail(image: Image.Image, side: int) -> Image.Image:
    thumbnail = image.copy()
    thumbnail.thumbnail((side, side), Image.Resampling.LANCZOS)
    return thumbnail


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, image: Image.Image, corner: tuple[int, int]) -> None:
    left, top = corner
    sheet.paste(image, corner)
    # A frame tells a white image from the sheet.
    draw.rectangle((left - 1, top - 1, left + image.width, top + image.height), outline=_FRAME)
