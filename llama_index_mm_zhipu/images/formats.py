"""The image formats that are opened, with Pillow's plugins; Pillow supports more, and runs other programs for some."""

from __future__ import annotations

import io
import struct
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from PIL import Image

from llama_index_mm_zhipu.images.containers import strip_metadata
from llama_index_mm_zhipu.images.errors import ImageError
from llama_index_mm_zhipu.images.ppm import simplify_ppm
from llama_index_mm_zhipu.images.streams import LimitedStream, SafeStream, SplicedStream, open_file

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "AVIF", "HEIF", "JPEG2000", "ICO", "PPM")
"""Pillow's names of the formats that are opened. MPO is opened as JPEG; HEIF needs a plugin."""

_FORMATS_IN_MESSAGES = "JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF, JPEG 2000, ICO, PPM"
_PLUGINS = ("Avif", "Bmp", "Gif", "Ico", "Jpeg", "Jpeg2K", "Mpo", "Png", "Ppm", "Tiff", "WebP")

# Brands of HEVC: a file that begins with one of them is HEIC, whatever its name.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

_PREFIX_BYTES = 16

# Files whose parts were all read, and counted, when their metadata was stripped: for other formats a buffer would hide
# from the limits of ``LimitedStream`` how often a small file is read.
_SCANNED = ("JPEG", "PNG")
_BUFFER_BYTES = 1 << 16


class OpenedImage(NamedTuple):
    """An image and the stream of its pixels.

    Attributes:
        image: The image, not decoded yet.
        stream: The stream that Pillow reads.
        is_truncated: Whether the end of the file was missing and was padded.
    """

    image: Image.Image
    stream: SafeStream
    is_truncated: bool


def open_stream(file: BinaryIO, name: str) -> OpenedImage:
    """Open the first frame of an image like ``Image.open``, but only in ``FORMATS`` and without warnings.

    ``Image.open`` warns of images larger than ``Image.MAX_IMAGE_PIXELS`` and refuses those of twice that size; this
    function refuses all of them. It leaves out metadata and refuses files that would take long to read or decode.

    Args:
        file: The file. It is not closed, and must stay open until the image is loaded.
        name: Name of the image for errors.

    Raises:
        ImageError: The file is empty, in another format, too large, or cannot be read.
    """
    limited = LimitedStream(file, name)
    prefix = limited.read(_PREFIX_BYTES)
    if not prefix:
        raise ImageError(f"{name} is empty; replace the file or leave it out")
    check_size = partial(_check_size, name=name)
    stripped = strip_metadata(limited, name)
    stream = simplify_ppm(limited, name, check_size) if prefix[:1] == b"P" else stripped.stream
    for size in stripped.sizes:
        check_size(size)
    with pillow_warnings_ignored():
        for image_format in FORMATS:
            # What ``Image.open`` takes as "not this format".
            with suppress(SyntaxError, IndexError, TypeError, struct.error):
                image = _open_as(image_format, stream, prefix)
                if image is not None:
                    check_size(image.size)
                    image.info.update(stripped.info)
                    return OpenedImage(image, stream, stripped.is_truncated)
    raise ImageError(f"{name} {_refusal(prefix)}")


def sniff_format(data: bytes) -> str | None:
    """Return Pillow's name for the format of encoded bytes (``"JPEG"``, ``"PNG"``, …), or None if they are no image."""
    # Pillow's parsers raise errors of any type.
    with suppress(Exception), open_stream(BytesIO(data), "").image as image:
        return image.format
    return None


def is_image_file(path: Path) -> bool:
    """Return whether a file is an image by its content, whatever its name; False if it cannot be read."""
    with suppress(Exception), open_file(path) as stream, open_stream(stream, "").image as image:
        return image.format is not None
    return False


def _open_as(image_format: str, stream: SafeStream, prefix: bytes) -> Image.Image | None:
    """Open a stream with the plugin for a format; return None if it is missing or does not accept the prefix."""
    _import_plugins()
    factory, accept = Image.OPEN.get(image_format, (None, None))
    # A plugin that lacks its library returns a text.
    if factory is None or accept is None or not (accepted := accept(prefix)) or isinstance(accepted, str):
        return None
    stream.seek(0)
    # The plugins read headers in pieces of one or two bytes, each of which would be a call of a Python method.
    is_buffered = image_format in _SCANNED and isinstance(stream, SplicedStream) and not stream.can_be_extended
    file = io.BufferedReader(stream, _BUFFER_BYTES) if is_buffered else stream
    # Plugins only use read, seek and tell.
    return factory(cast("BinaryIO", file), "")


@cache
def _import_plugins() -> None:
    for plugin in _PLUGINS:
        # Older versions of Pillow have no plugin for AVIF.
        with suppress(ImportError):
            import_module(f"PIL.{plugin}ImagePlugin")


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise ImageError(
            f"{name} is too large to decode: {width}×{height} pixels, of which PIL.Image.MAX_IMAGE_PIXELS allows "
            f"{limit}; shrink it first, or raise that limit"
        )


def _refusal(prefix: bytes) -> str:
    if prefix[4:8] == b"ftyp" and prefix[8:12] in _HEIC_BRANDS:
        return "is a HEIC image: pip install pillow-heif, and call pillow_heif.register_heif_opener() first"
    return f"is not an image that Pillow can read; replace the file by one of {_FORMATS_IN_MESSAGES}, or leave it out"


_opening = threading.local()
_filter_lock = threading.Lock()


class _PillowInThisThread:
    """Acts as the compiled regular expression of a warning filter; matches PIL modules while this thread opens one."""

    def match(self, module: str) -> bool:
        return getattr(_opening, "depth", 0) > 0 and module.startswith("PIL.")


# ``warnings.catch_warnings`` changes the filters of all threads, and may restore those of another thread. This filter
# can stay installed, because it only matches in threads that are inside ``pillow_warnings_ignored``.
_FILTER: Any = ("ignore", None, Warning, _PillowInThisThread(), 0)


@contextmanager
def pillow_warnings_ignored() -> Iterator[None]:
    """Ignore Pillow's warnings in this thread: odd tags and damaged metadata do not affect the pixels."""
    if getattr(sys.flags, "context_aware_warnings", False):
        # Python 3.14 can keep the filters of threads apart.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
        return
    _put_filter_first()
    _opening.depth = getattr(_opening, "depth", 0) + 1
    try:
        yield
    finally:
        _opening.depth -= 1


def _put_filter_first() -> None:
    """Put the filter before filters that were added later, such as ``error`` within ``catch_warnings``."""
    filters: Any = warnings.filters
    if filters and filters[0] is _FILTER:
        return
    with _filter_lock:
        filters.insert(0, _FILTER)
        for position in range(len(filters) - 1, 0, -1):
            if filters[position] is _FILTER:
                del filters[position]
