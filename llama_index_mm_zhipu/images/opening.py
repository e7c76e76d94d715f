"""Images as their files have them, opened within every limit, and with every failure of Pillow named."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from traceback import walk_tb
from typing import Any, BinaryIO, Literal, TypeAlias

from PIL import Image

from llama_index_mm_zhipu.images.errors import ImageError
from llama_index_mm_zhipu.images.fetch import NO_URLS, UrlRules
from llama_index_mm_zhipu.images.formats import OpenedImage, open_stream, pillow_warnings_ignored
from llama_index_mm_zhipu.images.sources import ImageSource, name_of, resolve_source
from llama_index_mm_zhipu.images.streams import open_file
from llama_index_mm_zhipu.text import one_line

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


_loading = threading.Lock()


@contextmanager
def open_image(
    source: ImageSource, *, urls: UrlRules = NO_URLS, on_truncated: OnTruncated = "warn"
) -> Iterator[Image.Image]:
    """Open an image as its file has it, for a ``with`` statement.

    Whatever Pillow raises inside it, such as on reading the pixels of a damaged file, becomes an ``ImageError``. The
    image of a file is its first frame, not decoded yet, and can be read until the statement ends; a given ``PIL.Image``
    is that image itself, decoded. Of the file's metadata, JPEG, PNG and GIF keep only what may hold the orientation.

    Args:
        source: A path, ``file://`` or ``http(s)://`` address, data URI, base64 string, ``bytes``, binary file object,
            ``PIL.Image`` or LlamaIndex node.
        urls: Whether addresses are fetched, and within which limits.
        on_truncated: A file that lacks its end is taken as far as it goes, with a ``"warn"``ing, or an error
            (``"raise"``). What shows nothing at all is an error either way.

    Yields:
        The image, not converted and not turned.

    Raises:
        ImageError: There is no such image, it may not be fetched, is too large, or cannot be decoded.
    """
    if on_truncated not in ("warn", "raise"):
        raise ValueError(f"on_truncated is {on_truncated!r}; it must be 'warn' or 'raise'")
    found = resolve_source(source)
    name = name_of(source, found)
    with _named_errors(name):
        if isinstance(found, Image.Image):
            # What ``Image.open`` left for later: two threads must not read it at once.
            with _loading, pillow_warnings_ignored():
                found.load()
            yield _not_empty(found, name)
        else:
            with _stream(found, urls) as stream:
                opened = open_stream(stream, name)
                load_as_far_as_it_goes(opened, name, on_truncated)
                with opened.image as image:
                    try:
                        yield _not_empty(image, name)
                    finally:
                        forget_load(image)


def _not_empty(image: Image.Image, name: str) -> Image.Image:
    if 0 in image.size:
        raise ImageError(f"{name} has no pixels: its size is {image.width}×{image.height}")
    return image


def _stream(found: Path | str | bytes, urls: UrlRules) -> BinaryIO:
    if isinstance(found, Path):
        return open_file(found)
    return BytesIO(fetched(found, urls) if isinstance(found, str) else found)


def fetched(address: str, urls: UrlRules) -> bytes:
    """Return what is at an address, as ``download`` does."""
    # Here: httpx takes a tenth of a second to import, and most images are files.
    from llama_index_mm_zhipu.images.fetch import download

    return download(address, urls)


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        if not _is_from_pillow(error):
            raise
        reason = one_line(str(error)) or type(error).__name__
        raise ImageError(f"{name} is damaged: {reason}; replace the file or leave it out") from None


def _is_from_pillow(error: Exception) -> bool:
    """Pillow's parsers raise errors of all types; those of the code around them are not for this module to name."""
    return any(frame.f_globals.get("__name__", "").startswith("PIL.") for frame, _ in walk_tb(error.__traceback__))
