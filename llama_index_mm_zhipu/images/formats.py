"""The formats that are opened, and how: Pillow knows more, of which some run other programs."""

from __future__ import annotations

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

from llama_index_mm_zhipu.images.containers import without_metadata
from llama_index_mm_zhipu.images.errors import ImageError
from llama_index_mm_zhipu.images.ppm import simple_ppm
from llama_index_mm_zhipu.images.streams import LimitedStream, SafeStream, open_file

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def hidden_sizes(stream: SafeStream) -> Iterator[tuple[int, int]]:
    """Yield width and height in pixels of what Pillow would decode, beyond the size in the header.

    Frames of a GIF may reach over its screen, and images in an ICO may be larger than its directory says: Pillow
    warns of these on its own, or decodes them before anybody can look.

    Args:
        stream: The file; its position changes.
    """
    stream.seek(0)
    prefix = stream.read(6)
    try:
        if prefix in (b"GIF87a", b"GIF89a"):
            yield from _first_gif_frame(stream)
        elif prefix[:4] == b"\x00\x00\x01\x00":
            yield from _images_in_ico(stream, struct.unpack("<H", prefix[4:])[0])
    except (struct.error, IndexError):
        # It is cut off, as Pillow will say.
        return


def _first_gif_frame(stream: SafeStream) -> Iterator[tuple[int, int]]:
    flags = stream.read(7)[4]
    if flags & 0x80:
        stream.seek(3 << ((flags & 7) + 1), 1)
    while (kind := stream.read(1)) not in (b"", b";"):
        if kind == b",":
            left, top, width, height = struct.unpack("<4H", stream.read(8))
            yield left + width, top + height
            return
        if kind == b"!":
            stream.seek(1, 1)
            while length := stream.read(1)[0]:
                stream.seek(length, 1)


def _images_in_ico(stream: SafeStream, count: int) -> Iterator[tuple[int, int]]:
    entries = [struct.unpack("<8xII", stream.read(16)) for _ in range(count)]
    for _, offset in entries:
        stream.seek(offset)
        head = stream.read(24)
        if head.startswith(_PNG_MAGIC):
            yield struct.unpack(">II", head[16:24])
        else:
            yield _bitmap_size(head)


def _bitmap_size(head: bytes) -> tuple[int, int]:
    """Return width and height, that of the mask below the image included, as Pillow's own check has it."""
    short_header = head[:4] == b"\x0c\x00\x00\x00"
    width, height = struct.unpack("<4xHH", head[:8]) if short_header else struct.unpack("<4xII", head[:12])
    # A negative height tells that the upper row comes first.
    return width, height if height < 0xFF000000 else (1 << 32) - height


_opening = threading.local()
_inserting = threading.Lock()


class _PillowInThisThread:
    """Stands for a regular expression of module names in a filter: Pillow's, while this thread opens an image."""

    def match(self, module: str) -> bool:
        return getattr(_opening, "depth", 0) > 0 and module.startswith("PIL.")


# ``warnings.catch_warnings`` changes the filters of all threads, and may restore those of another thread. This filter
# may stay: it only ever matches in threads that are inside of ``pillow_warnings_ignored``.
_FILTER: Any = ("ignore", None, Warning, _PillowInThisThread(), 0)


@contextmanager
def pillow_warnings_ignored() -> Iterator[None]:
    """Ignore what Pillow warns of in this thread: odd tags and damaged metadata, which the pixels do not depend on."""
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
    """Put the filter before those that were added since, such as ``error`` within ``catch_warnings``."""
    filters: Any = warnings.filters
    if filters and filters[0] is _FILTER:
        return
    with _inserting:
        filters.insert(0, _FILTER)
        for position in range(len(filters) - 1, 0, -1):
            if filters[position] is _FILTER:
                del filters[position]


FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "AVIF", "HEIF", "JPEG2000", "ICO", "PPM")
"""Pillow's names of the formats that are opened; MPO comes in as JPEG. HEIF needs a plugin."""

_TAKEN = "JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF, JPEG 2000, ICO, PPM"
_PLUGINS = ("Avif", "Bmp", "Gif", "Ico", "Jpeg", "Jpeg2K", "Mpo", "Png", "Ppm", "Tiff", "WebP")

# A file that opens with this and a brand of HEVC is HEIC, whatever its name.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

_LONGEST_PREFIX = 16


class OpenedImage(NamedTuple):
    """An image and where its pixels come from.

    Attributes:
        image: Not decoded yet.
        stream: What Pillow reads.
        is_cut: Whether the end of the file was missing and was filled up.
    """

    image: Image.Image
    stream: SafeStream
    is_cut: bool


def open_stream(file: BinaryIO, name: str) -> OpenedImage:
    """Open an image as ``Image.open`` does, of the formats above alone, and with no more pixels than Pillow's limit.

    ``Image.open`` warns of images that are larger than ``Image.MAX_IMAGE_PIXELS`` and refuses those of twice the
    size; here the first are refused already, and nothing warns. The plugins are called as it calls them. Metadata
    are left out, and files that would take long to read or decode are refused.

    Args:
        file: It stays open, and must until the image is loaded.
        name: What to call it in an error.

    Returns:
        The first frame, not decoded yet.

    Raises:
        ImageError: It is empty, of another format, too large, or cannot be read.
    """
    limited = LimitedStream(file, name)
    prefix = limited.read(_LONGEST_PREFIX)
    if not prefix:
        raise ImageError(f"{name} is empty; replace the file or leave it out")
    check = partial(_check_size, name=name)
    content = without_metadata(limited, name)
    stream = simple_ppm(limited, name, check) if prefix[:1] == b"P" else content.stream
    for size in hidden_sizes(stream):
        check(size)
    with pillow_warnings_ignored():
        for image_format in FORMATS:
            with suppress(SyntaxError, IndexError, TypeError, struct.error):
                image = _opened(image_format, stream, prefix)
                if image is not None:
                    check(image.size)
                    image.info.update(content.info)
                    return OpenedImage(image, stream, content.is_cut)
    raise ImageError(f"{name} {_refusal(prefix)}")


def sniff_format(data: bytes) -> str | None:
    """Return Pillow's name of the format that the bytes are in (``"JPEG"``, ``"PNG"``, …), or None."""
    # Whatever goes wrong in Pillow's parsers, it is no image.
    with suppress(Exception), open_stream(BytesIO(data), "").image as image:
        return image.format
    return None


def is_image_file(path: Path) -> bool:
    """Whether a file is an image by its first bytes, whatever its name; False for what cannot be read."""
    with suppress(Exception), open_file(path) as stream, open_stream(stream, "").image as image:
        return image.format is not None
    return False


def _opened(image_format: str, stream: SafeStream, prefix: bytes) -> Image.Image | None:
    """Open a stream that is of this format by its first bytes; else, or without a plugin for it, return None."""
    _import_plugins()
    factory, accept = Image.OPEN.get(image_format, (None, None))
    # A text says why the plugin is of no use.
    if factory is None or accept is None or not (accepted := accept(prefix)) or isinstance(accepted, str):
        return None
    stream.seek(0)
    # It reads, seeks and tells, which is all that plugins need.
    return factory(cast("BinaryIO", stream), "")


@cache
def _import_plugins() -> None:
    for plugin in _PLUGINS:
        # Older versions of Pillow know no AVIF.
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
    return f"is not an image that Pillow can read; replace the file by one of {_TAKEN}, or leave it out"
