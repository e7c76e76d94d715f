"""Contact sheets: several images combined into one, each under its number."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

CELL_SIDE = 1024
"""Maximum side of one image on a sheet, in pixels."""

_SHEET_SIDE = 4096
_GAP = 12
_MIN_LABEL_HEIGHT = 24
_INK = "black"
_FRAME = "#b0b0b0"


def contact_sheet(
    images: Sequence[Image.Image], labels: Sequence[int | str], *, max_side: int = _SHEET_SIDE
) -> Image.Image:
    """Lay out images in rows, from left to right, each under its label.

    Images are reduced to at most 1,024 pixels on their longer side and never enlarged.

    Args:
        images: RGB images. They are not changed.
        labels: One label for each image: its number, or a short name in Latin letters.
        max_side: Maximum length of the sheet's longer side in pixels, at most 4,096.

    Returns:
        A white RGB image with the images on it.
    """
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    side = min(max_side, _SHEET_SIDE)
    cell = min(CELL_SIDE, max(max(image.size) for image in images), side // max(columns, rows) - 2 * _GAP)
    label_height = max(_MIN_LABEL_HEIGHT, cell // 14)
    cell = max(1, min(cell, side // rows - 2 * _GAP - label_height))
    thumbnails = [_thumbnail(image, cell) for image in images]
    # Rows are as high as their highest image, columns all as wide as the widest one.
    heights = [
        max(image.height for image in thumbnails[start : start + columns]) + label_height + 2 * _GAP
        for start in range(0, len(thumbnails), columns)
    ]
    width = max(max(image.width for image in thumbnails), label_height) + 2 * _GAP
    sheet = Image.new("RGB", (columns * width, sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(label_height * 0.8)
    for index, (thumbnail, label) in enumerate(zip(thumbnails, labels, strict=True)):
        row, column = divmod(index, columns)
        left, top = column * width + _GAP, sum(heights[:row]) + _GAP
        draw.text((left, top), str(label), fill=_INK, font=font)
        _paste_framed(sheet, draw, thumbnail, (left, top + label_height))
    return sheet


def _thumbnail(image: Image.Image, side: int) -> Image.Image:
    thumbnail = image.copy()
    thumbnail.thumbnail((side, side), Image.Resampling.LANCZOS)
    return thumbnail


def _paste_framed(sheet: Image.Image, draw: ImageDraw.ImageDraw, image: Image.Image, corner: tuple[int, int]) -> None:
    """Paste an image with a frame, which separates a white image from the white sheet."""
    left, top = corner
    sheet.paste(image, corner)
    draw.rectangle((left - 1, top - 1, left + image.width, top + image.height), outline=_FRAME)
