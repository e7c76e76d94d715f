"""Image files that lack their end: shown as far as they go, with a warning, or refused."""

from __future__ import annotations

import io
import logging
from typing import Any, Literal, TypeAlias

from PIL import Image

from llama_index_mm_zhipu.images.errors_old import ImageError
from llama_index_mm_zhipu.images.formats import OpenedImage
from llama_index_mm_zhipu.images.pillow_warnings import pillow_warnings_ignored

logger = logging.getLogger(__name__)

OnTruncated: TypeAlias = Literal["warn", "raise"]
"""What to do with files that lack their end: warn and take the pixels that are there, or raise an error."""

_STRIPS = ((273, 279), (324, 325))
"""Tags of TIFF files: where strips or tiles begin, and how many bytes each has."""

_END_OF_JPEG2000 = b"\xff\xd9"

_BLOCK_ROWS = 16

# What decoders leave where they got no data: JPEG a medium grey, others zeros.
_UNDECODED = (0, 127, 128)


def load_as_far_as_it_goes(opened: OpenedImage, name: str, on_truncated: OnTruncated) -> None:
    """Let the ``load`` of an image, which all that needs pixels calls, take what is there of a cut off file.

    ``ImageFile.LOAD_TRUNCATED_IMAGES`` would do so for the whole process.

    Args:
        opened: Its method is replaced until it was called once.
        name: What to call the image in the warning.
        on_truncated: ``"warn"`` or ``"raise"``.
    """
    image = opened.image
    load = image.load

    def load_once() -> Any:
        # The image would hold a function that holds the image.
        forget_load(image)
        try:
            with pillow_warnings_ignored():
                pixels = load()
        except OSError as error:
            if not _is_cut(opened, error):
                raise
            pixels = _decoded_part(image, error)
        else:
            if not opened.is_cut and not getattr(opened.stream, "was_extended", False):
                return pixels
        if on_truncated == "raise" or _is_empty(image):
            raise ImageError(f"{name} is damaged: image file is truncated; replace the file or leave it out")
        logger.warning("%s is truncated: what is missing stays empty; replace the file, or leave it out", name)
        return pixels

    image.__dict__["load"] = load_once


def forget_load(image: Image.Image) -> None:
    """Give an image the ``load`` of its class again."""
    image.__dict__.pop("load", None)


def _is_cut(opened: OpenedImage, error: OSError) -> bool:
    """Whether an error of Pillow is about a missing end, not about wrong bytes."""
    if "truncated" in str(error):
        return True
    if opened.image.format == "JPEG2000":
        opened.stream.seek(-len(_END_OF_JPEG2000), io.SEEK_END)
        return opened.stream.read() != _END_OF_JPEG2000
    tags = getattr(opened.image, "tag_v2", {})
    return any(
        offset + length > opened.stream.size
        for offsets, lengths in _STRIPS
        for offset, length in zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)
    )


def _decoded_part(image: Image.Image, error: OSError) -> Any:
    """Return the pixels that were decoded before an error."""
    image.tile = []  # type: ignore[attr-defined]
    pixels = Image.Image.load(image)
    if pixels is None:
        raise error
    return pixels


def _below_first_blocks(image: Image.Image) -> Image.Image:
    """Return an image without the row of blocks in which a JPEG decoder makes up what is missing from one of them."""
    if image.format != "JPEG":
        return image
    scale, *_ = getattr(image, "decoderconfig", ()) or (1,)
    top = _BLOCK_ROWS // scale
    return image.crop((0, top, *image.size)) if image.height > top else image


def _is_empty(image: Image.Image) -> bool:
    """Whether no row of pixels was decoded."""
    extrema: Any = _below_first_blocks(image).getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(lowest == highest and lowest in _UNDECODED for lowest, highest in bands)
