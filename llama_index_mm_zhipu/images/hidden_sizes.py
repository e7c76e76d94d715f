"""Sizes inside files that Pillow looks at only while it opens or decodes them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from llama_index_mm_zhipu.images.streams import SafeStream

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def hidden_sizes(stream: SafeStream) -> Iterator[tuple[int, int]]:
    """Yield width and height in pixels of what Pillow would decode, beyond the size in the header.

    Frames of a GIF may reach over its screen, and pictures in an ICO may be larger than its directory says: Pillow
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
            yield from _pictures_in_ico(stream, struct.unpack("<H", prefix[4:])[0])
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


def _pictures_in_ico(stream: SafeStream, count: int) -> Iterator[tuple[int, int]]:
    entries = [struct.unpack("<8xII", stream.read(16)) for _ in range(count)]
    for _, offset in entries:
        stream.seek(offset)
        head = stream.read(24)
        if head.startswith(_PNG_MAGIC):
            yield struct.unpack(">II", head[16:24])
        else:
            yield _bitmap_size(head)


def _bitmap_size(head: bytes) -> tuple[int, int]:
    """Return width and height, that of the mask below the picture included, as Pillow's own check has it."""
    short_header = head[:4] == b"\x0c\x00\x00\x00"
    width, height = struct.unpack("<4xHH", head[:8]) if short_header else struct.unpack("<4xII", head[:12])
    # A negative height tells that the upper row comes first.
    return width, height if height < 0xFF000000 else (1 << 32) - height
