"""Pixels of every mode to 8-bit RGB, a band of rows at a time: no second picture of full size is ever in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import numpy as np
from PIL import Image

Conversion: TypeAlias = Callable[[Image.Image], Image.Image]

_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")

# Larger bands leave the processor's caches, smaller ones cost more calls.
_BAND_PIXELS = 1 << 17


def is_plain(image: Image.Image) -> bool:
    """Whether an image is RGB or grey as it is, with 8 bits and without transparency."""
    return image.mode in ("RGB", "L") and not image.has_transparency_data


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB; transparency is laid on white.

    Args:
        image: Of any mode; loaded.

    Returns:
        A new image.
    """
    if is_plain(image):
        return image.copy() if image.mode == "RGB" else image.convert("RGB")
    convert = _rgb_conversion(image)
    rgb = Image.new("RGB", image.size)
    for top, band in _bands(image):
        rgb.paste(convert(band), (0, top))
    return rgb


def reduced(image: Image.Image, columns: int, rows: int) -> Image.Image:
    """Average an image over blocks of pixels.

    Args:
        image: Of any mode; loaded.
        columns: Width of a block.
        rows: Its height. Blocks at the right and lower edge may be smaller.

    Returns:
        A new image with one pixel for each block, RGB, or RGBa where there is transparency.
    """
    transparent = image.has_transparency_data and image.mode not in _DEEP_MODES
    # With the alpha multiplied in, so that the colour of transparent pixels does not count.
    convert = _premultiplied if transparent else _rgb_conversion(image)
    small = Image.new("RGBa" if transparent else "RGB", (-(-image.width // columns), -(-image.height // rows)))
    for top, band in _bands(image, rows):
        small.paste(convert(band).reduce((columns, rows)), (0, top // rows))
    return small


def on_white(image: Image.Image) -> Image.Image:
    """Convert an image of any mode but the deep greys to RGB, transparency laid on white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = _to_rgba(image)
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _bands(image: Image.Image, step: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield the first row of each band, and the band; all but the last have a multiple of so many rows."""
    height = max(1, _BAND_PIXELS // (image.width * step)) * step
    for top in range(0, image.height, height):
        yield top, image.crop((0, top, image.width, min(top + height, image.height)))


def _rgb_conversion(image: Image.Image) -> Conversion:
    return partial(_eight_bits, white=_white(image)) if image.mode in _DEEP_MODES else on_white


def _to_rgba(band: Image.Image) -> Image.Image:
    if band.mode == "RGBA":
        return band
    # Pillow knows no direct way from La.
    return (band.convert("LA") if band.mode == "La" else band).convert("RGBA")


def _premultiplied(band: Image.Image) -> Image.Image:
    return band if band.mode == "RGBa" else _to_rgba(band).convert("RGBa")


def _white(image: Image.Image) -> float:
    """Return the value of white: as the mode does not tell how many bits are meant, the brightest pixel does."""
    brightest = max(float(np.nan_to_num(np.asarray(band)).max()) for _, band in _bands(image))
    if brightest > 255:
        return max(brightest, 65535.0)
    return 1.0 if image.mode == "F" and brightest <= 1 else 255.0


def _eight_bits(band: Image.Image, *, white: float) -> Image.Image:
    """Scale 16- and 32-bit greys to 0…255: Pillow's own conversion clips them to white."""
    values = np.nan_to_num(np.asarray(band)).astype(np.float64).clip(0, white)
    return Image.fromarray((values * (255.0 / white)).astype(np.uint8)).convert("RGB")
