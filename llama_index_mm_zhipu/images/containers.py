"""Strip image files of metadata before Pillow reads them, and refuse files that take long to decode.

Profiles, texts and comments do not affect the pixels that this package returns. They can be larger and slower to read
than the pixels: Pillow refuses files with a profile of more than a megabyte, and for some metadata its time grows with
the square of the size. Only metadata that may contain the orientation is kept.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from llama_index_mm_zhipu.images.errors import ImageError
from llama_index_mm_zhipu.images.streams import LimitedStream, Piece, SafeStream, SplicedStream

MAX_SCANS = 100
"""Maximum number of scans in a JPEG file; encoders write about ten."""

MAX_SCANNED_PIXELS = 1 << 30
"""Maximum number of pixels in all scans of a JPEG file; an image of 89 megapixels may have 12 scans."""

MAX_TILES = 1 << 18
"""Maximum number of strips or tiles in a TIFF file; Pillow handles those of uncompressed files one by one."""

MAX_RUN_LENGTH_PIXELS = 1 << 25
"""Maximum number of pixels in a run-length encoded BMP file, which Pillow decodes in Python."""

_MAX_METADATA_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_EXIF_TEXT = b"Raw profile type exif"
_PNG_XMP = b"XML:com.adobe.xmp"
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS")

_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
# Frames, Huffman and arithmetic tables, quantisation tables, restart intervals.
_JPEG_KEPT = (*_FRAMES, 0xC4, 0xCC, 0xDB, 0xDD)
_STANDALONE = (0x01, *range(0xD0, 0xD9))
# Any marker but restarts; FF 00 is a byte of pixel data.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

# Version and flags, id, protection, then the type of an item in a HEIF or AVIF file.
_EXIF_ITEM = re.compile(rb"(infe[\x02\x03].{3}.{4}(?:..)?)Exif", re.DOTALL)
_MAX_ITEM_BYTES = 16 << 20

# A truncated WebP file is padded if at least a quarter of it is there.
_MAX_PADDING_FACTOR = 3

_RUN_LENGTH_COMPRESSIONS = (1, 2)

_STRIP_OFFSETS, _TILE_OFFSETS = 273, 324
_MAX_TIFF_TAGS = 1 << 16


@dataclass
class StrippedFile:
    """An image file without metadata.

    Attributes:
        stream: The file for Pillow to read.
        info: Entries for ``Image.info`` that may contain the orientation.
        sizes: Widths and heights in pixels that Pillow would decode although the header of the file gives others.
        is_truncated: Whether the end of the file was missing and was padded.
    """

    stream: SafeStream
    info: dict[str, Any] = field(default_factory=dict)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    is_truncated: bool = False


def strip_metadata(stream: LimitedStream, name: str) -> StrippedFile:
    """Return the parts of an image file that determine its pixels.

    Args:
        stream: The file.
        name: Name of the image for errors.

    Raises:
        ImageError: The file cannot be read, ends before its pixels, or would take too long to decode.
    """
    stream.seek(0)
    head = stream.read(16)
    try:
        if head.startswith(_PNG_MAGIC):
            return _strip_png(stream, name)
        if head.startswith(b"\xff\xd8\xff"):
            return _strip_jpeg(stream, name)
        if head[:6] in (b"GIF87a", b"GIF89a"):
            return _strip_gif(stream)
        if head[:4] == b"\0\0\1\0":
            return _strip_ico(stream, name)
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return _pad_webp(stream, head)
        if head[4:8] == b"ftyp":
            return _strip_isobmff(stream)
        if head[:2] == b"BM":
            _check_bitmap(stream, name)
        elif head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            _check_tiff(stream, head, name)
    except (struct.error, IndexError):
        # The file ends within a header. Pillow will refuse it.
        pass
    return StrippedFile(stream)


def _append(pieces: list[Piece], start: int, stop: int) -> None:
    """Append a part of the file, joined with an adjacent one: a PNG may have its pixels in thousands of chunks."""
    last = pieces[-1]
    if isinstance(last, range) and last.stop == start:
        pieces[-1] = range(last.start, stop)
    else:
        pieces.append(range(start, stop))


def _strip_png(stream: LimitedStream, name: str, start: int = 0, prefix: bytes = b"") -> StrippedFile:
    """Keep the chunks of a PNG file that determine its pixels.

    Args:
        stream: The file that contains the PNG file.
        name: Name of the image for errors.
        start: Position of the PNG file.
        prefix: Bytes to put before it.
    """
    pieces: list[Piece] = [prefix + _PNG_MAGIC]
    info: dict[str, Any] = {}
    sizes: list[tuple[int, int]] = []
    has_pixels = False
    position = start + len(_PNG_MAGIC)
    while position < stream.size:
        stream.seek(position)
        header = stream.read(8)
        if len(header) < 8:
            break
        (length,), chunk_type = struct.unpack(">I", header[:4]), header[4:]
        end = position + 12 + length
        if chunk_type == b"IDAT":
            has_pixels = True
            _append(pieces, position, min(end, stream.size))
        elif chunk_type == b"IEND":
            _append(pieces, position, min(end, stream.size))
            break
        elif chunk_type in _PNG_KEPT:
            # Behind the pixels they have no effect.
            if not has_pixels:
                _append(pieces, position, min(end, stream.size))
                if chunk_type == b"IHDR" and len(size := stream.read(8)) == 8:
                    sizes.append(struct.unpack(">II", size))
        elif length <= _MAX_METADATA_BYTES and (chunk_type == b"eXIf" or chunk_type in _PNG_TEXTS):
            _note_png_orientation(chunk_type, stream.read(length), info)
        position = end
    if not has_pixels:
        raise ImageError(f"{name} is damaged: it ends before its pixels; replace the file or leave it out")
    # Pillow reports the size of a PNG file on its own when it opens it, but not that of one in an ICO file.
    return StrippedFile(SplicedStream(stream, pieces), info, sizes if prefix else [])


def _note_png_orientation(chunk_type: bytes, data: bytes, info: dict[str, Any]) -> None:
    if chunk_type == b"eXIf":
        info.setdefault("exif", _EXIF + data)
        return
    keyword, _, rest = data.partition(b"\0")
    if keyword == _PNG_XMP and chunk_type == b"iTXt":
        # Flag and method of compression, language, translated keyword.
        text = rest[2:].split(b"\0", 2)[-1]
        text = _decompress(text) if rest[:1] == b"\1" else text
    elif keyword == _PNG_EXIF_TEXT and chunk_type in (b"tEXt", b"zTXt"):
        text = _decompress(rest[1:]) if chunk_type == b"zTXt" else rest
    else:
        return
    info.setdefault(keyword.decode("ascii"), text.decode("latin-1"))


def _decompress(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MAX_METADATA_BYTES)
    except zlib.error:
        return b""


def _strip_jpeg(stream: LimitedStream, name: str) -> StrippedFile:
    pieces: list[Piece] = [b"\xff\xd8"]
    info: dict[str, Any] = {}
    frame = b""
    position = 2
    while (found := _next_marker(stream, position)) is not None:
        position, marker = found
        if marker in _STANDALONE:
            position += 2
            continue
        stream.seek(position + 2)
        end = position + 2 + struct.unpack(">H", stream.read(2))[0]
        if marker == _START_OF_SCAN:
            break
        if marker in _FRAMES:
            frame = bytes([marker]) + stream.read(6)
        if marker in _JPEG_KEPT or _determines_colours(marker, stream, position):
            _append(pieces, position, end)
        elif marker == 0xE1:
            _note_jpeg_orientation(stream, position, end, info)
        position = end
    else:
        return StrippedFile(stream)
    if frame[:1] and (frame[0] in _PROGRESSIVE or _has_several_scans(stream, position, frame)):
        height, width = struct.unpack(">HH", frame[2:6])
        _check_scans(stream, position, width * height, name)
    stream.seek(max(position, stream.size - len(_END_OF_IMAGE)))
    # Without an end marker the decoder would wait for more data.
    ending = b"" if stream.read(len(_END_OF_IMAGE)) == _END_OF_IMAGE else _END_OF_IMAGE
    return StrippedFile(SplicedStream(stream, [*pieces, range(position, stream.size)], ending=ending), info)


def _next_marker(stream: LimitedStream, position: int) -> tuple[int, int] | None:
    """Return the position and the second byte of the next marker; bytes that are not a marker are skipped."""
    stream.seek(position)
    block = stream.read(4)
    while len(block) > 1:
        if found := _MARKER.search(block):
            return position + found.start(), block[found.start() + 1]
        # The last byte may be the first of a marker.
        position += len(block) - 1
        stream.seek(position)
        block = stream.read(_BLOCK_BYTES)
    return None


def _determines_colours(marker: int, stream: LimitedStream, position: int) -> bool:
    stream.seek(position + 4)
    return (marker == 0xEE and stream.read(5) == b"Adobe") or (marker == 0xE0 and stream.read(4) == b"JFIF")


def _note_jpeg_orientation(stream: LimitedStream, position: int, end: int, info: dict[str, Any]) -> None:
    stream.seek(position + 4)
    data = stream.read(end - position - 4)
    if data.startswith(_EXIF):
        info.setdefault("exif", data)
    elif data.startswith(_XMP):
        info.setdefault("xmp", data[len(_XMP) :])


def _has_several_scans(stream: LimitedStream, position: int, frame: bytes) -> bool:
    """Return whether the first scan of a sequential JPEG file does not contain all components."""
    stream.seek(position + 4)
    return stream.read(1)[0] < frame[6]


def _check_scans(stream: LimitedStream, position: int, pixels: int, name: str) -> None:
    """Refuse a JPEG file with many scans: a decoder goes over the whole image for each of them."""
    scans = 0
    while (found := _next_marker(stream, position)) is not None and found[1] != 0xD9:
        position, marker = found
        scans += marker == _START_OF_SCAN
        if scans > MAX_SCANS or scans * pixels > MAX_SCANNED_PIXELS:
            raise ImageError(
                f"{name} takes too long to decode: it has {scans} or more scans of {pixels:,} pixels; save it as a "
                "baseline JPEG or as PNG, or leave it out"
            )
        stream.seek(position + 2)
        length = stream.read(2)
        position += 2 if marker in _STANDALONE or len(length) < 2 else 2 + struct.unpack(">H", length)[0]


def _strip_gif(stream: LimitedStream) -> StrippedFile:
    """Keep the first frame and the extension that gives its transparent colour."""
    stream.seek(10)
    flags = stream.read(1)[0]
    start = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    control = range(0)
    stream.seek(start)
    while (block_type := stream.read(1)) not in (b"", b";", b","):
        if block_type != b"!":
            continue
        position = stream.tell() - 1
        label = stream.read(1)
        while length := stream.read(1)[0]:
            stream.seek(length, 1)
        if label == b"\xf9":
            control = range(position, stream.tell())
    if block_type != b",":
        return StrippedFile(stream)
    stripped = SplicedStream(stream, [range(start), control, range(stream.tell() - 1, stream.size)])
    frame = stream.read(8)
    if len(frame) < 8:
        return StrippedFile(stripped)
    # The frame may be larger than the screen, whose size is in the header.
    left, top, width, height = struct.unpack("<4H", frame)
    return StrippedFile(stripped, sizes=[(left + width, top + height)])


def _strip_ico(stream: LimitedStream, name: str) -> StrippedFile:
    """Keep the largest image, which is the one that Pillow opens; if it is a PNG file, strip its metadata."""
    stream.seek(4)
    (count,) = struct.unpack("<H", stream.read(2))
    directory = stream.read(16 * count)
    entries = [directory[at : at + 16] for at in range(0, 16 * count, 16)]
    if not entries:
        return StrippedFile(stream)
    entry = max(entries, key=_icon_rank)
    (offset,) = struct.unpack("<I", entry[12:])
    stream.seek(offset)
    image = stream.read(12)
    head = b"\0\0\1\0\1\0" + entry[:12] + struct.pack("<I", 22)
    if image.startswith(_PNG_MAGIC):
        return _strip_png(stream, name, offset, head)
    # The rest of the file is kept, because Pillow looks for the mask at its end.
    stripped = SplicedStream(stream, [head, range(offset, max(offset, stream.size))])
    return StrippedFile(stripped, sizes=[_bitmap_size(image)] if len(image) == 12 else [])


def _icon_rank(entry: bytes) -> tuple[int, int]:
    width, height, colours, _, _, bits = struct.unpack("<4BHH", entry[:8])
    depth = bits or (colours.bit_length() if colours else 256)
    return (width or 256) * (height or 256), -depth


def _bitmap_size(head: bytes) -> tuple[int, int]:
    """Return width and height of a bitmap in an ICO file, the height with the mask as in Pillow's own check."""
    short_header = head[:4] == b"\x0c\x00\x00\x00"
    width, height = struct.unpack("<4xHH", head[:8]) if short_header else struct.unpack("<4xII", head[:12])
    # A negative height means that the upper row comes first.
    return width, height if height < 0xFF000000 else (1 << 32) - height


def _pad_webp(stream: LimitedStream, head: bytes) -> StrippedFile:
    """Pad a truncated file with zeros, because the decoder only accepts files of the declared length."""
    missing = struct.unpack("<I", head[4:8])[0] + 8 - stream.size
    if not 0 < missing <= _MAX_PADDING_FACTOR * stream.size:
        return StrippedFile(stream)
    return StrippedFile(SplicedStream(stream, [range(stream.size), bytes(missing)]), is_truncated=True)


def _strip_isobmff(stream: LimitedStream) -> StrippedFile:
    """Hide the EXIF data of AVIF and HEIC files, which store the orientation in a property of its own."""
    pieces: list[Piece] = [b""]
    position = 0
    while position < stream.size:
        stream.seek(position)
        header = stream.read(16)
        length, box_type = struct.unpack(">I", header[:4])[0], header[4:8]
        if length == 1:
            (length,) = struct.unpack(">Q", header[8:])
        end = min(position + length, stream.size) if length >= 8 else stream.size
        if box_type in (b"meta", b"moov") and end - position <= _MAX_ITEM_BYTES:
            stream.seek(position)
            pieces.append(_EXIF_ITEM.sub(rb"\1skip", stream.read(end - position)))
        else:
            _append(pieces, position, end)
        position = end
    return StrippedFile(SplicedStream(stream, pieces))


def _check_bitmap(stream: LimitedStream, name: str) -> None:
    stream.seek(14)
    header = stream.read(20)
    if len(header) == 20 and struct.unpack("<I", header[:4])[0] >= 40:
        width, height, _, _, compression = struct.unpack("<iiHHI", header[4:])
        if compression in _RUN_LENGTH_COMPRESSIONS and abs(width * height) > MAX_RUN_LENGTH_PIXELS:
            raise ImageError(
                f"{name} takes too long to decode: it is a run-length encoded bitmap of {width}×{abs(height)} pixels; "
                "save it as PNG"
            )


def _check_tiff(stream: LimitedStream, head: bytes, name: str) -> None:
    order = "<" if head[:2] == b"II" else ">"
    # BigTIFF has longer fields.
    big = struct.unpack(f"{order}H", head[2:4]) == (43,)
    start_format, count_format, entry_format = ("Q", "Q", "HHQQ") if big else ("I", "H", "HHII")
    start = struct.unpack_from(order + start_format, head, 8 if big else 4)[0]
    stream.seek(start)
    (count,) = struct.unpack(order + count_format, stream.read(struct.calcsize(order + count_format)))
    entry = struct.Struct(order + entry_format)
    entries = stream.read(min(count, _MAX_TIFF_TAGS) * entry.size)
    for tag, _, length, _ in entry.iter_unpack(entries[: len(entries) // entry.size * entry.size]):
        if tag in (_STRIP_OFFSETS, _TILE_OFFSETS) and length > MAX_TILES:
            raise ImageError(
                f"{name} takes too long to decode: it has {length:,} strips or tiles; save it with larger ones"
            )
