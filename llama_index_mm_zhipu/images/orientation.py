"""Which way up a picture is."""

from __future__ import annotations

from PIL import Image

_ORIENTATION = 0x0112

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
        image: Loaded: PNG has its EXIF data behind the pixels, and Pillow turns TIFF itself.

    Returns:
        A new image, or the given one where it is upright already.
    """
    turn = _TURNS.get(_orientation(image))
    return pixels if turn is None else pixels.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        # Damaged EXIF data makes Pillow raise errors of many types, and the pixels are as good as ever.
        return 1
