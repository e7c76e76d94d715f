"""Images as models see them: small squares, without a detour over a second image of full size."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image

from llama_index_mm_zhipu.images.fetch import NO_URLS, UrlRules
from llama_index_mm_zhipu.images.formats import pillow_warnings_ignored
from llama_index_mm_zhipu.images.opening import OnTruncated, fetched, open_image
from llama_index_mm_zhipu.images.pixels import is_plain, on_white, reduced, to_rgb, turned_upright
from llama_index_mm_zhipu.images.sources import ImageSource, resolve_source
from llama_index_mm_zhipu.images.streams import read_file


def load_image(source: ImageSource, *, urls: UrlRules = NO_URLS, on_truncated: OnTruncated = "warn") -> Image.Image:
    """Decode an image into an upright RGB image.

    EXIF orientation is applied, transparency is laid on white, the first frame of an animation is taken.

    Args:
        source: A path, ``file://`` or ``http(s)://`` address, data URI, base64 string, ``bytes``, binary file object,
            ``PIL.Image`` or LlamaIndex node.
        urls: Whether addresses are fetched, and within which limits.
        on_truncated: A file that lacks its end is taken as far as it goes, with a ``"warn"``ing, or an error
            (``"raise"``). What shows nothing at all is an error either way.

    Returns:
        A new image of mode ``RGB``; a given ``PIL.Image`` is left as it is.

    Raises:
        ImageError: There is no such image, it may not be fetched, is too large, or cannot be decoded.
    """
    with open_image(source, urls=urls, on_truncated=on_truncated) as image, pillow_warnings_ignored():
        image.load()
        upright = turned_upright(to_rgb(image), image)
    # Its EXIF data would ask to turn it again.
    upright.info.clear()
    return upright


_REDUCING_GAP = 3.0
_JPEG_GAP = 2


def load_resized(
    source: ImageSource, side: int, *, urls: UrlRules = NO_URLS, on_truncated: OnTruncated = "warn"
) -> Image.Image:
    """Decode an image into a small upright RGB square; its sides are scaled apart, nothing is cut off.

    What ``load_image`` and a bicubic ``resize`` give, but faster, and with no more than one image of full size in
    memory: a large JPEG is decoded at a fraction of its size, and other large images are averaged over whole pixels
    first.

    Args:
        source: A path, ``file://`` or ``http(s)://`` address, data URI, base64 string, ``bytes``, binary file object,
            ``PIL.Image`` or LlamaIndex node.
        side: Pixels.
        urls: Whether addresses are fetched, and within which limits.
        on_truncated: A file that lacks its end is taken as far as it goes, with a ``"warn"``ing, or an error
            (``"raise"``). What shows nothing at all is an error either way.

    Returns:
        A new image of mode ``RGB``; a given ``PIL.Image`` is left as it is.

    Raises:
        ImageError: There is no such image, it may not be fetched, is too large, or cannot be decoded.
    """
    with open_image(source, urls=urls, on_truncated=on_truncated) as image, pillow_warnings_ignored():
        # For a JPEG that is not decoded yet, and nothing else.
        image.draft(None, (_JPEG_GAP * side, _JPEG_GAP * side))
        image.load()
        square = turned_upright(_squashed(image, side), image)
    square.info.clear()
    return square


def _squashed(image: Image.Image, side: int) -> Image.Image:
    bicubic = Image.Resampling.BICUBIC
    if is_plain(image):
        return image.resize((side, side), bicubic, reducing_gap=_REDUCING_GAP).convert("RGB")
    columns, rows = (max(1, int(length / side / _REDUCING_GAP)) for length in image.size)
    if columns == rows == 1:
        return to_rgb(image).resize((side, side), bicubic)
    box = (0, 0, image.width / columns, image.height / rows)
    return on_white(reduced(image, columns, rows).resize((side, side), bicubic, box))


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
    """Return the encoded bytes of an image as they are; a ``PIL.Image`` is encoded as PNG.

    Args:
        source: As for ``load_image``.
        urls: Whether addresses are fetched, and within which limits.

    Raises:
        ImageError: There is no such file, or the address may not be fetched or did not answer.
    """
    found = resolve_source(source)
    if isinstance(found, bytes):
        return found
    if isinstance(found, Path):
        return read_file(found)
    if isinstance(found, str):
        return fetched(found, urls)
    with open_image(found) as image:
        return encode_image(image, "PNG")
