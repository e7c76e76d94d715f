"""Pixels of every mode to 8-bit RGB, a band of rows at a time: no second image of full size is ever in memory."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

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


_ORIENTATION = 0x0112
_EXIF = b"Exif\0\0"
_SHORT, _LONG = 3, 4
_IN_XMP = re.compile(r'tiff:Orientation(?:="|>)([0-9])')

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turned_upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """Turn pixels as the EXIF data of the image that they come from asks.

    Args:
        pixels: Converted or shrunk.
        image: Loaded: Pillow turns TIFF itself.

    Returns:
        A new image, or the given one where it is upright already.
    """
    turn = _TURNS.get(orientation_of(image))
    return pixels if turn is None else pixels.transpose(turn)


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, from 1 (upright) to 8.

    Pillow reads all of the EXIF data for it, of which a kilobyte can take gigabytes of memory.
    """
    # Whatever is wrong with it: the pixels are as good as ever.
    with suppress(Exception):
        if getattr(image, "_exif", None) is not None:
            # It was read before, and may have been changed since.
            return int(image.getexif().get(_ORIENTATION, 1))
        return _in_exif(_exif_of(image.info)) or _in_xmp(image.info) or 1
    return 1


def _exif_of(info: Mapping[Any, Any]) -> bytes:
    exif = info.get("exif")
    if isinstance(exif, bytes):
        return exif
    # ImageMagick writes it to PNG as hexadecimal digits, behind a name and a length.
    lines = str(info.get("Raw profile type exif", "")).split("\n")[3:]
    return bytes.fromhex("".join(lines))


def _in_exif(exif: bytes) -> int | None:
    while exif.startswith(_EXIF):
        exif = exif[len(_EXIF) :]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    found = None
    with suppress(struct.error):
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for position in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, position)
            if tag == _ORIENTATION and kind in (_SHORT, _LONG):
                (found,) = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), exif, position + 8)
    return found


def _in_xmp(info: Mapping[Any, Any]) -> int | None:
    xmp = info.get("XML:com.adobe.xmp") or info.get("xmp") or ""
    text = xmp.decode("latin-1") if isinstance(xmp, bytes) else str(xmp)
    match = _IN_XMP.search(text)
    return int(match[1]) if match else None
