"""Pictures as they arrive in a request: raw base64 of a JPEG or PNG within the API's limits, or an address."""

from __future__ import annotations

import base64
import math
from io import BytesIO

from PIL import Image

from llama_index_mm_zhipu.llm.images import MAX_ENCODED_BYTES, MAX_SIDE

_TILE_SIDE = 28
_MIN_TOKENS, _MAX_TOKENS = 1_000, 1_600


def is_address(url: str) -> bool:
    """Tell whether a picture lies on the web; it is not fetched."""
    return url.startswith(("http://", "https://"))


def decode_picture(encoded: str) -> Image.Image:
    """Decode a picture to its last pixel.

    Raises:
        ValueError: The API would not take it.
    """
    if len(encoded) > MAX_ENCODED_BYTES:
        raise ValueError(f"more than {MAX_ENCODED_BYTES} bytes of base64")
    try:
        image = Image.open(BytesIO(base64.b64decode(encoded, validate=True)), formats=("JPEG", "PNG"))
        if max(image.size) > MAX_SIDE:
            raise ValueError(f"more than {MAX_SIDE} pixels on a side")
        image.load()
    # Pillow raises all of these for files that are broken in one way or another.
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("not a JPEG or PNG") from error
    return image


def count_tokens(url: str) -> int:
    """Return the tokens that a picture counts as: one for each 28 × 28 pixels, from 1,000 to 1,600.

    It has been checked; one that is given by address is not fetched and counts the least.
    """
    if is_address(url):
        return _MIN_TOKENS
    width, height = Image.open(BytesIO(base64.b64decode(url))).size
    tiles = math.ceil(width / _TILE_SIDE) * math.ceil(height / _TILE_SIDE)
    return min(max(tiles, _MIN_TOKENS), _MAX_TOKENS)


def describe_picture(url: str) -> str:
    """Describe a picture that has been checked: format, size and mean colour, or the address."""
    if is_address(url):
        return f"网址 {url}"
    image = decode_picture(url)
    red, green, blue = image.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[misc]
    return f"{image.format} {image.width}×{image.height}，平均颜色 #{red:02x}{green:02x}{blue:02x}"
