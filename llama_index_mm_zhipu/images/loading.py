"""Load images as upright RGB, resize them for a model, put several on a contact sheet, and encode them as bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from llama_index_mm_zhipu.images.formats import pillow_warnings_ignored
from llama_index_mm_zhipu.images.opening import OnTruncated, fetch_url, open_image
from llama_index_mm_zhipu.images.pixels import apply_orientation, is_plain, on_white, reduce_blocks, to_rgb
from llama_index_mm_zhipu.images.sources import NO_URLS, ImageSource, UrlRules, resolve_source
from llama_index_mm_zhipu.images.streams import read_file

# A large image is reduced to this multiple of the target size before it is resized. From 3 on, Pillow documents the
# result as nearly equal to that of a plain resize; for the reduced sizes at which JPEG can be decoded, 2 is enough.
_REDUCING_GAP = 3.0
_JPEG_GAP = 2

_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def load_image(source: ImageSource, *, urls: UrlRules = NO_URLS, on_truncated: OnTruncated = "warn") -> Image.Image:
    """Decode an image into an upright RGB image.

    The EXIF orientation is applied, transparent pixels become white, and of an animation the first frame is used.

    Args:
        source: A path, ``file://`` or ``http(s)://`` URL, data URI, base64 string, ``bytes``, binary file object,
            ``PIL.Image`` or LlamaIndex node.
        urls: Whether URLs are fetched, and within which limits.
        on_truncated: Whether a file that lacks its end gives the pixels that are there and a warning (``"warn"``), or
            an error (``"raise"``). A file without any pixels is an error either way.

    Returns:
        A new image of mode ``RGB``; a given ``PIL.Image`` is not changed.

    Raises:
        ImageError: The image does not exist, may not be fetched, is too large, or cannot be decoded.

    Examples:
        >>> from llama_index_mm_zhipu.images import load_image
        >>> image = load_image("images/apple.jpg")
        >>> image.mode, image.size
        ('RGB', (128, 128))
    """
    with open_image(source, urls=urls, on_truncated=on_truncated) as image, pillow_warnings_ignored():
        image.load()
        upright = apply_orientation(to_rgb(image), image)
    # The EXIF data that may be in it would rotate the image again.
    upright.info.clear()
    return upright


def load_resized(
    source: ImageSource, side: int, *, urls: UrlRules = NO_URLS, on_truncated: OnTruncated = "warn"
) -> Image.Image:
    """Decode an image and resize it to an upright RGB square, without cropping and without keeping its aspect ratio.

    The result is that of ``load_image`` and a bicubic ``resize``, up to rounding for large images, but it takes less
    time and at most one image of full size is in memory: a large JPEG is decoded at a fraction of its size, and other
    large images are first averaged over blocks of pixels.

    Args:
        source: A path, ``file://`` or ``http(s)://`` URL, data URI, base64 string, ``bytes``, binary file object,
            ``PIL.Image`` or LlamaIndex node.
        side: Width and height of the result in pixels.
        urls: Whether URLs are fetched, and within which limits.
        on_truncated: Whether a file that lacks its end gives the pixels that are there and a warning (``"warn"``), or
            an error (``"raise"``). A file without any pixels is an error either way.

    Returns:
        A new image of mode ``RGB`` and size ``(side, side)``; a given ``PIL.Image`` is not changed.

    Raises:
        ImageError: The image does not exist, may not be fetched, is too large, or cannot be decoded.

    Examples:
        >>> from llama_index_mm_zhipu.images import load_resized
        >>> load_resized("images/apple.jpg", 64).size
        (64, 64)
    """
    with open_image(source, urls=urls, on_truncated=on_truncated) as image, pillow_warnings_ignored():
        # Only has an effect on a JPEG that is not decoded yet.
        image.draft(None, (_JPEG_GAP * side, _JPEG_GAP * side))
        image.load()
        square = apply_orientation(_resize(image, side), image)
    square.info.clear()
    return square


def load_within(
    source: ImageSource, max_side: int, *, urls: UrlRules = NO_URLS, on_truncated: OnTruncated = "warn"
) -> Image.Image:
    """Decode an image and reduce it to an upright RGB image within a square; a smaller one keeps its size.

    The result is that of ``load_image`` and ``thumbnail``, up to rounding for large JPEG files, which are decoded at a
    fraction of their size, in less time and memory.

    Args:
        source: An image in any form that ``load_image`` takes.
        max_side: Maximum width and height of the result in pixels.
        urls: Whether URLs are fetched, and within which limits.
        on_truncated: As in ``load_image``.

    Returns:
        A new image of mode ``RGB``; a given ``PIL.Image`` is not changed.

    Raises:
        ImageError: The image does not exist, may not be fetched, is too large, or cannot be decoded.
    """
    with open_image(source, urls=urls, on_truncated=on_truncated) as image, pillow_warnings_ignored():
        scale = _JPEG_GAP * max_side / max(image.size)
        # Only has an effect on a JPEG that is not decoded yet.
        image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
        image.load()
        reduced = to_rgb(image)
        reduced.thumbnail((max_side, max_side))
        upright = apply_orientation(reduced, image)
    upright.info.clear()
    return upright


def read_bytes(source: ImageSource, *, urls: UrlRules = NO_URLS) -> bytes:
    """Return the encoded bytes of an image unchanged; a ``PIL.Image`` is encoded as PNG, upright.

    Args:
        source: An image in any form that ``load_image`` takes.
        urls: Whether URLs are fetched, and within which limits; by default they are not.

    Returns:
        The bytes of the file; a ``PIL.Image`` as PNG.

    Raises:
        ImageError: The file does not exist, or the URL may not be fetched or does not answer.

    Examples:
        >>> from llama_index_mm_zhipu.images import read_bytes
        >>> read_bytes("images/apple.jpg")[:2].hex()
        'ffd8'
    """
    resolved = resolve_source(source)
    if isinstance(resolved, bytes):
        return resolved
    if isinstance(resolved, Path):
        return read_file(resolved)
    if isinstance(resolved, str):
        return fetch_url(resolved, urls)
    with open_image(resolved) as image:
        return encode_image(image, "PNG")


def encode_image(image: Image.Image, image_format: str = "JPEG", *, quality: int = 90) -> bytes:
    """Encode an image, upright: its EXIF orientation is applied, because the file has none.

    Args:
        image: The image. It is converted to RGB for JPEG, and for PNG if PNG does not have its mode.
        image_format: ``"JPEG"`` or ``"PNG"``.
        quality: JPEG quality, 1 to 95.

    Returns:
        The bytes of a file of this format.

    Examples:
        >>> from llama_index_mm_zhipu.images import encode_image, load_image
        >>> data = encode_image(load_image("images/apple.jpg"), "PNG")
        >>> data[1:4]
        b'PNG'
    """
    buffer = BytesIO()
    if image_format == "JPEG":
        apply_orientation(image.convert("RGB"), image).save(buffer, "JPEG", quality=quality)
    elif image.mode in _PNG_MODES:
        apply_orientation(image, image).save(buffer, image_format)
    else:
        load_image(image).save(buffer, image_format)
    return buffer.getvalue()


def _resize(image: Image.Image, side: int) -> Image.Image:
    bicubic = Image.Resampling.BICUBIC
    if is_plain(image):
        return image.resize((side, side), bicubic, reducing_gap=_REDUCING_GAP).convert("RGB")
    columns, rows = (max(1, int(length / side / _REDUCING_GAP)) for length in image.size)
    if columns == rows == 1:
        return to_rgb(image).resize((side, side), bicubic)
    box = (0, 0, image.width / columns, image.height / rows)
    return on_white(reduce_blocks(image, columns, rows).resize((side, side), bicubic, box))


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
