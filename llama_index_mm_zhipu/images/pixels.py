"""Convert pixels of every mode to upright 8-bit RGB, in bands of rows to avoid a second image of full size."""

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

# Larger bands do not fit into the processor's caches, smaller ones need more calls.
_BAND_PIXELS = 1 << 17


def is_plain(image: Image.Image) -> bool:
    """Return whether an image is 8-bit RGB or grey without transparency."""
    return image.mode in ("RGB", "L") and not image.has_transparency_data


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB; transparent pixels become white.

    Args:
        image: A loaded image of any mode.

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


def reduce_blocks(image: Image.Image, columns: int, rows: int) -> Image.Image:
    """Average an image over blocks of pixels.

    Args:
        image: A loaded image of any mode.
        columns: Width of a block in pixels.
        rows: Height of a block in pixels. Blocks at the right and lower edge may be smaller.

    Returns:
        A new image with one pixel for each block: RGB, or RGBa if the image has transparency.
    """
    transparent = image.has_transparency_data and image.mode not in _DEEP_MODES
    # Premultiplied by alpha, so that the colours of transparent pixels do not count.
    convert = _premultiplied if transparent else _rgb_conversion(image)
    small = Image.new("RGBa" if transparent else "RGB", (-(-image.width // columns), -(-image.height // rows)))
    for top, band in _bands(image, rows):
        small.paste(convert(band).reduce((columns, rows)), (0, top // rows))
    return small


def on_white(image: Image.Image) -> Image.Image:
    """Convert an image of any mode but the deep greys to RGB on a white background."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = _to_rgba(image)
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _bands(image: Image.Image, step: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield bands of an image with their first rows; the heights of all but the last are multiples of ``step``."""
    height = max(1, _BAND_PIXELS // (image.width * step)) * step
    for top in range(0, image.height, height):
        yield top, image.crop((0, top, image.width, min(top + height, image.height)))


def _rgb_conversion(image: Image.Image) -> Conversion:
    return partial(_to_eight_bits, white=_white_value(image)) if image.mode in _DEEP_MODES else on_white


def _to_rgba(band: Image.Image) -> Image.Image:
    if band.mode == "RGBA":
        return band
    # Pillow cannot convert La directly.
    return (band.convert("LA") if band.mode == "La" else band).convert("RGBA")


def _premultiplied(band: Image.Image) -> Image.Image:
    return band if band.mode == "RGBa" else _to_rgba(band).convert("RGBa")


def _white_value(image: Image.Image) -> float:
    """Return the value of white in a deep grey image.

    The mode does not tell how many bits are used, so the brightest pixel decides between 1.0, 8 and 16 bits and more.
    """
    brightest = max(float(np.nan_to_num(np.asarray(band)).max()) for _, band in _bands(image))
    if brightest > 255:
        return max(brightest, 65535.0)
    return 1.0 if image.mode == "F" and brightest <= 1 else 255.0


def _to_eight_bits(band: Image.Image, *, white: float) -> Image.Image:
    """Scale 16- and 32-bit greys to 0…255; Pillow's own conversion clips them to white."""
    values = np.nan_to_num(np.asarray(band)).astype(np.float64).clip(0, white)
    return Image.fromarray((values * (255.0 / white)).astype(np.uint8)).convert("RGB")


_ORIENTATION_TAG = 0x0112
_EXIF_PREFIX = b"Exif\0\0"
_SHORT, _LONG = 3, 4
_XMP_ORIENTATION = re.compile(r'tiff:Orientation(?:="|>)([0-9])')

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def apply_orientation(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """Rotate or flip pixels according to the EXIF orientation of the image that they come from.

    Args:
        pixels: The pixels, converted or reduced.
        image: The image, loaded, because Pillow rotates TIFF itself when it loads it.

    Returns:
        A new image, or ``pixels`` if they are upright already.
    """
    transposition = _TRANSPOSITIONS.get(orientation_of(image))
    return pixels if transposition is None else pixels.transpose(transposition)


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, from 1 (upright) to 8.

    ``Image.getexif`` reads all EXIF data for it, and a kilobyte of these can take gigabytes of memory.
    """
    # Damaged metadata must not make the image unusable.
    with suppress(Exception):
        if getattr(image, "_exif", None) is not None:
            # The user has read the EXIF data, and may have changed it.
            return int(image.getexif().get(_ORIENTATION_TAG, 1))
        return _exif_orientation(_exif_bytes(image.info)) or _xmp_orientation(image.info) or 1
    return 1


def _exif_bytes(info: Mapping[Any, Any]) -> bytes:
    exif = info.get("exif")
    if isinstance(exif, bytes):
        return exif
    # In PNG, ImageMagick writes it as hexadecimal digits after a name and a length.
    lines = str(info.get("Raw profile type exif", "")).split("\n")[3:]
    return bytes.fromhex("".join(lines))


def _exif_orientation(exif: bytes) -> int | None:
    while exif.startswith(_EXIF_PREFIX):
        exif = exif[len(_EXIF_PREFIX) :]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    found = None
    # A table that is cut off may still contain the tag.
    with suppress(struct.error):
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for position in range(start + 2, start + 2 + 12 * count, 12):
            tag, field_type = struct.unpack_from(f"{order}HH", exif, position)
            if tag == _ORIENTATION_TAG and field_type in (_SHORT, _LONG):
                (found,) = struct.unpack_from(order + ("H" if field_type == _SHORT else "I"), exif, position + 8)
    return found


def _xmp_orientation(info: Mapping[Any, Any]) -> int | None:
    xmp = info.get("XML:com.adobe.xmp") or info.get("xmp") or ""
    text = xmp.decode("latin-1") if isinstance(xmp, bytes) else str(xmp)
    match = _XMP_ORIENTATION.search(text)
    return int(match[1]) if match else None
