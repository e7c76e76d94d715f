"""Whole pictures, upright and in RGB."""

from __future__ import annotations

from PIL import Image

from llama_index_mm_zhipu.images.pixels import to_rgb
from llama_index_mm_zhipu.images.opening import open_image
from llama_index_mm_zhipu.images.orientation import turned_upright
from llama_index_mm_zhipu.images.pillow_warnings import pillow_warnings_ignored
from llama_index_mm_zhipu.images.sources import ImageSource
from llama_index_mm_zhipu.images.truncation import OnTruncated
from llama_index_mm_zhipu.images.url_rules import NO_URLS, UrlRules


def load_image(source: ImageSource, *, urls: UrlRules = NO_URLS, on_truncated: OnTruncated = "warn") -> Image.Image:
    """Decode a picture into an upright RGB image.

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
        ImageError: There is no such picture, it may not be fetched, is too large, or cannot be decoded.
    """
    with open_image(source, urls=urls, on_truncated=on_truncated) as image, pillow_warnings_ignored():
        image.load()
        upright = turned_upright(to_rgb(image), image)
    # Its EXIF data would ask to turn it again.
    upright.info.clear()
    return upright
