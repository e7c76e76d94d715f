"""Pictures as models see them: small squares, without a detour over a second picture of full size."""

from __future__ import annotations

from PIL import Image

from llama_index_mm_zhipu.images.pixels import is_plain, on_white, reduced, to_rgb
from llama_index_mm_zhipu.images.opening import open_image
from llama_index_mm_zhipu.images.orientation import turned_upright
from llama_index_mm_zhipu.images.pillow_warnings import pillow_warnings_ignored
from llama_index_mm_zhipu.images.sources import ImageSource
from llama_index_mm_zhipu.images.truncation import OnTruncated
from llama_index_mm_zhipu.images.url_rules import NO_URLS, UrlRules

_REDUCING_GAP = 3.0
_JPEG_GAP = 2


def load_squashed(
    source: ImageSource, side: int, *, urls: UrlRules = NO_URLS, on_truncated: OnTruncated = "warn"
) -> Image.Image:
    """Decode a picture into a small upright RGB square; its sides are scaled apart, nothing is cut off.

    What ``load_image`` and a bicubic ``resize`` give, but faster, and with no more than one picture of full size in
    memory: a large JPEG is decoded at a fraction of its size, and other large pictures are averaged over whole pixels
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
        ImageError: There is no such picture, it may not be fetched, is too large, or cannot be decoded.
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
