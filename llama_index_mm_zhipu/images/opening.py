"""Pictures as their files have them, opened within every limit, and with every failure of Pillow named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from traceback import walk_tb
from typing import BinaryIO

from PIL import Image

from llama_index_mm_zhipu.images.errors_old import ImageError
from llama_index_mm_zhipu.images.files import open_file
from llama_index_mm_zhipu.images.formats import open_stream
from llama_index_mm_zhipu.images.errors import one_line
from llama_index_mm_zhipu.images.pillow_warnings import pillow_warnings_ignored
from llama_index_mm_zhipu.images.sources import ImageSource, image_source, name_of
from llama_index_mm_zhipu.images.truncation import OnTruncated, forget_load, load_as_far_as_it_goes
from llama_index_mm_zhipu.images.url_rules import NO_URLS, UrlRules

_loading = threading.Lock()


@contextmanager
def open_image(
    source: ImageSource, *, urls: UrlRules = NO_URLS, on_truncated: OnTruncated = "warn"
) -> Iterator[Image.Image]:
    """Open a picture as its file has it, for a ``with`` statement.

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
        ImageError: There is no such picture, it may not be fetched, is too large, or cannot be decoded.
    """
    if on_truncated not in ("warn", "raise"):
        raise ValueError(f"on_truncated is {on_truncated!r}; it must be 'warn' or 'raise'")
    found = image_source(source)
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
    # Here: httpx takes a tenth of a second to import, and most pictures are files.
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
