"""Pictures to bytes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image

from llama_index_mm_zhipu.images.files import read_file
from llama_index_mm_zhipu.images.loading_old import load_image
from llama_index_mm_zhipu.images.opening import fetched, open_image
from llama_index_mm_zhipu.images.sources import ImageSource, image_source
from llama_index_mm_zhipu.images.url_rules import NO_URLS, UrlRules

_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def encode_image(image: Image.Image, image_format: str = "JPEG", *, quality: int = 90) -> bytes:
    """Encode an image.

    Args:
        image: Converted to RGB for JPEG, and for PNG where that has no such mode.
        image_format: ``"JPEG"`` or ``"PNG"``.
        quality: JPEG quality, 1 to 95.
    """
    buffer = BytesIO()
    if image_format == "JPEG":
        image.convert("RGB").save(buffer, "JPEG", quality=quality)
    else:
        (image if image.mode in _PNG_MODES else load_image(image)).save(buffer, image_format)
    return buffer.getvalue()


def read_bytes(source: ImageSource, *, urls: UrlRules = NO_URLS) -> bytes:
    """Return the encoded bytes of a picture as they are; a ``PIL.Image`` is encoded as PNG.

    Args:
        source: As for ``load_image``.
        urls: Whether addresses are fetched, and within which limits.

    Raises:
        ImageError: There is no such file, or the address may not be fetched or did not answer.
    """
    found = image_source(source)
    if isinstance(found, bytes):
        return found
    if isinstance(found, Path):
        return read_file(found)
    if isinstance(found, str):
        return fetched(found, urls)
    with open_image(found) as image:
        return encode_image(image, "PNG")
