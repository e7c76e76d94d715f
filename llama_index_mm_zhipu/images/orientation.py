"""Which way up a picture is."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from PIL import Image

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
