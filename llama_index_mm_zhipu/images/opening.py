"""Open an image undecoded, tolerate truncated files, and turn every error of Pillow into an ``ImageError``."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any, BinaryIO, Literal, TypeAlias

from PIL import Image

from llama_index_mm_zhipu.images.errors import ImageError
from llama_index_mm_zhipu.images.formats import OpenedImage, open_stream, pillow_warnings_ignored
from llama_index_mm_zhipu.images.sources import NO_URLS, ImageSource, UrlRules, describe_resolved, resolve_source
from llama_index_mm_zhipu.images.streams import open_file
from llama_index_mm_zhipu.text import one_line

logger = logging.getLogger(__name__)

OnTruncated: TypeAlias = Literal["warn", "raise"]
"""What to do with a truncated file: log a warning and use the pixels that are there, or raise an error."""

_STRIP_TAGS = ((273, 279), (324, 325))
"""Tags of TIFF files with the positions of strips or tiles, and with their lengths in bytes."""

_JPEG2000_END = b"\xff\xd9"

_JPEG_BLOCK_ROWS = 16

# Values of pixels for which decoders got no data: medium grey in JPEG, else zero.
_UNDECODED = (0, 127, 128)

_pil_image_lock = threading.Lock()


@contextmanager
def open_image(
    source: ImageSource, *, urls: UrlRules = NO_URLS, on_truncated: OnTruncated = "warn"
) -> Iterator[Image.Image]:
    """Open an image without converting it, for a ``with`` statement.

    Errors that Pillow raises inside the block, for example while it reads the pixels of a damaged file, become
    ``ImageError``. For a file, the image is its first frame, not decoded yet, and can be read until the block ends.
    For a ``PIL.Image``, it is that image, decoded. Of the metadata in JPEG, PNG and GIF files, only what may contain
    the orientation is kept.

    Args:
        source: A path, ``file://`` or ``http(s)://`` URL, data URI, base64 string, ``bytes``, binary file object,
            ``PIL.Image`` or LlamaIndex node.
        urls: Whether URLs are fetched, and within which limits.
        on_truncated: Whether a file that lacks its end gives the pixels that are there and a warning (``"warn"``), or
            an error (``"raise"``). A file without any pixels is an error either way.

    Yields:
        The image in its own mode and orientation.

    Raises:
        ImageError: The image does not exist, may not be fetched, is too large, or cannot be decoded.

    Examples:
        >>> from llama_index_mm_zhipu.images import open_image
        >>> with open_image("images/apple.jpg") as image:
        ...     print(image.format, image.size)
        JPEG (128, 128)
    """
    if on_truncated not in ("warn", "raise"):
        raise ValueError(f"on_truncated is {on_truncated!r}; it must be 'warn' or 'raise'")
    resolved = resolve_source(source)
    name = describe_resolved(source, resolved)
    with _pillow_errors_named(name):
        if isinstance(resolved, Image.Image):
            # ``Image.open`` reads pixels lazily: threads must not load the same image at the same time.
            with _pil_image_lock, pillow_warnings_ignored():
                resolved.load()
            yield _require_pixels(resolved, name)
        else:
            with _open_binary(resolved, urls) as stream:
                opened = open_stream(stream, name)
                _tolerate_truncation(opened, name, on_truncated)
                with opened.image as image:
                    try:
                        yield _require_pixels(image, name)
                    finally:
                        _restore_load(image)


def fetch_url(url: str, urls: UrlRules) -> bytes:
    """Return the content at a URL, as ``fetch.download`` does."""
    # Importing httpx takes a tenth of a second, and most images are files.
    from llama_index_mm_zhipu.images.fetch import download

    return download(url, urls)


def _open_binary(resolved: Path | str | bytes, urls: UrlRules) -> BinaryIO:
    if isinstance(resolved, Path):
        return open_file(resolved)
    return io.BytesIO(fetch_url(resolved, urls) if isinstance(resolved, str) else resolved)


def _require_pixels(image: Image.Image, name: str) -> Image.Image:
    if 0 in image.size:
        raise ImageError(f"{name} has no pixels: its size is {image.width}×{image.height}")
    return image


@contextmanager
def _pillow_errors_named(name: str) -> Iterator[None]:
    """Turn errors of any type that come from Pillow into an ``ImageError``; other errors pass."""
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
    return any(frame.f_globals.get("__name__", "").startswith("PIL.") for frame, _ in walk_tb(error.__traceback__))


def _tolerate_truncation(opened: OpenedImage, name: str, on_truncated: OnTruncated) -> None:
    """Replace the ``load`` method of an image by one that accepts a truncated file, until it was called once.

    Everything that needs pixels calls ``load``. ``ImageFile.LOAD_TRUNCATED_IMAGES`` would affect the whole process.
    """
    image = opened.image
    load = image.load

    def load_once() -> Any:
        # The image refers to this function and the function to the image: without this, they would form a cycle.
        _restore_load(image)
        try:
            with pillow_warnings_ignored():
                pixels = load()
        except OSError as error:
            if not _is_truncation(opened, error):
                raise
            pixels = _decoded_pixels(image, error)
        else:
            if not opened.is_truncated and not getattr(opened.stream, "was_extended", False):
                return pixels
        if on_truncated == "raise" or _is_empty(image):
            raise ImageError(f"{name} is damaged: image file is truncated; replace the file or leave it out")
        logger.warning("%s is truncated: the missing part stays empty; replace the file, or leave it out", name)
        return pixels

    image.__dict__["load"] = load_once


def _restore_load(image: Image.Image) -> None:
    """Give an image the ``load`` method of its class again."""
    image.__dict__.pop("load", None)


def _is_truncation(opened: OpenedImage, error: OSError) -> bool:
    """Return whether an error of Pillow is about a missing end, not about wrong bytes."""
    if "truncated" in str(error):
        return True
    if opened.image.format == "JPEG2000":
        opened.stream.seek(-len(_JPEG2000_END), io.SEEK_END)
        return opened.stream.read() != _JPEG2000_END
    tags = getattr(opened.image, "tag_v2", {})
    return any(
        offset + length > opened.stream.size
        for offsets, lengths in _STRIP_TAGS
        for offset, length in zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)
    )


def _decoded_pixels(image: Image.Image, error: OSError) -> Any:
    """Return the pixels that were decoded before an error; raise it if there are none."""
    image.tile = []  # type: ignore[attr-defined]
    pixels = Image.Image.load(image)
    if pixels is None:
        raise error
    return pixels


def _is_empty(image: Image.Image) -> bool:
    """Return whether no row of pixels was decoded."""
    extrema: Any = _below_first_blocks(image).getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(lowest == highest and lowest in _UNDECODED for lowest, highest in bands)


def _below_first_blocks(image: Image.Image) -> Image.Image:
    """Return an image without its first row of JPEG blocks, which the decoder fills even if most of it is missing."""
    if image.format != "JPEG":
        return image
    scale, *_ = getattr(image, "decoderconfig", ()) or (1,)
    top = _JPEG_BLOCK_ROWS // scale
    return image.crop((0, top, *image.size)) if image.height > top else image
