"""Image files as Pillow gets them: without metadata, which may be larger and slower to read than the pixels.

Profiles, texts and comments do not change the pixels that this package gives. Pillow refuses files whose profile is
larger than a megabyte, and takes time that grows with the square of some of them. Of metadata only what may hold the
orientation is kept.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from llama_index_mm_zhipu.images.errors import ImageError
from llama_index_mm_zhipu.images.streams import LimitedStream, Piece, PiecedStream, SafeStream

MAX_SCANS = 100
"""Of a JPEG file; encoders write some ten."""

MAX_SCANNED_PIXELS = 1 << 30
"""Of all scans of a JPEG file: each goes over the whole image. An image of 89 megapixels may have 12."""

MAX_TILES = 1 << 18
"""Strips or tiles of a TIFF file. Pillow handles those of uncompressed files one by one."""

MAX_RUN_LENGTH_PIXELS = 1 << 25
"""Of a run-length encoded BMP file, which Pillow decodes in Python."""

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
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
# Frames, Huffman and arithmetic tables, quantisation tables, restart intervals.
_JPEG_KEPT = (*_FRAMES, 0xC4, 0xCC, 0xDB, 0xDD)
_STANDALONE = (0x01, *range(0xD0, 0xD9))
# Any marker but restarts; FF 00 is a byte of the pixels' data.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

# Version and flags, id, protection, then the type of an item in a HEIF or AVIF file.
_EXIF_ITEM = re.compile(rb"(infe[\x02\x03].{3}.{4}(?:..)?)Exif", re.DOTALL)
_MAX_ITEM_BYTES = 16 << 20

_MAX_FILLING = 3

_RUN_LENGTHS = (1, 2)

_STRIP_OFFSETS, _TILE_OFFSETS = 273, 324
_MAX_TIFF_TAGS = 1 << 16


@dataclass
class Content:
    """An image file without metadata.

    Attributes:
        stream: What Pillow reads.
        info: What ``Image.info`` would hold of its orientation.
        is_cut: Whether the end was missing and was filled up.
    """

    stream: SafeStream
    info: dict[str, Any] = field(default_factory=dict)
    is_cut: bool = False


def without_metadata(stream: LimitedStream, name: str) -> Content:
    """Return what decides about the pixels of an image file.

    Args:
        stream: The file.
        name: What to call it in errors.

    Raises:
        ImageError: It cannot be read, ends before its pixels, or would take too long to decode.
    """
    stream.seek(0)
    head = stream.read(16)
    try:
        if head.startswith(_PNG_MAGIC):
            pieces, info = _png_pieces(stream, 0, name)
            return Content(PiecedStream(stream, pieces), info)
        if head.startswith(b"\xff\xd8\xff"):
            return _jpeg(stream, name)
        if head[:6] in (b"GIF87a", b"GIF89a"):
            return _gif(stream)
        if head[:4] == b"\0\0\1\0":
            return _ico(stream, name)
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return _webp(stream, head)
        if head[4:8] == b"ftyp":
            return _isobmff(stream)
        if head[:2] == b"BM":
            return _check_bitmap(stream, name)
        if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _check_tiff(stream, head, name)
    except (struct.error, IndexError):
        # It ends within a header, as Pillow will say.
        pass
    return Content(stream)


def _png_pieces(stream: LimitedStream, start: int, name: str) -> tuple[list[Piece], dict[str, Any]]:
    pieces: list[Piece] = [_PNG_MAGIC]
    info: dict[str, Any] = {}
    pixels = False
    position = start + len(_PNG_MAGIC)
    while position < stream.size:
        stream.seek(position)
        header = stream.read(8)
        if len(header) < 8:
            break
        (length,), kind = struct.unpack(">I", header[:4]), header[4:]
        end = position + 12 + length
        if kind == b"IDAT":
            pixels = True
            _append(pieces, position, min(end, stream.size))
        elif kind == b"IEND":
            _append(pieces, position, min(end, stream.size))
            break
        elif kind in _PNG_KEPT:
            # Behind the pixels they have no effect.
            if not pixels:
                _append(pieces, position, min(end, stream.size))
        elif length <= _MAX_METADATA_BYTES and (kind == b"eXIf" or kind in _PNG_TEXTS):
            _note_orientation(kind, stream.read(length), info)
        position = end
    if not pixels:
        raise ImageError(f"{name} is damaged: it ends before its pixels; replace the file or leave it out")
    return pieces, info


def _note_orientation(kind: bytes, data: bytes, info: dict[str, Any]) -> None:
    if kind == b"eXIf":
        info.setdefault("exif", _EXIF + data)
        return
    keyword, _, rest = data.partition(b"\0")
    if keyword == _PNG_XMP and kind == b"iTXt":
        # Flag and method of compression, language, translated keyword.
        text = rest[2:].split(b"\0", 2)[-1]
        text = _inflated(text) if rest[:1] == b"\1" else text
    elif keyword == _PNG_EXIF_TEXT and kind in (b"tEXt", b"zTXt"):
        text = _inflated(rest[1:]) if kind == b"zTXt" else rest
    else:
        return
    info.setdefault(keyword.decode("ascii"), text.decode("latin-1"))


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MAX_METADATA_BYTES)
    except zlib.error:
        return b""


def _append(pieces: list[Piece], start: int, stop: int) -> None:
    """Append a part of the file, joined with its neighbour: the pixels of a PNG may lie in thousands of chunks."""
    last = pieces[-1]
    if isinstance(last, range) and last.stop == start:
        pieces[-1] = range(last.start, stop)
    else:
        pieces.append(range(start, stop))


def _jpeg(stream: LimitedStream, name: str) -> Content:
    pieces: list[Piece] = [b"\xff\xd8"]
    info: dict[str, Any] = {}
    frame = b""
    position = 2
    while (marker := _next_marker(stream, position)) is not None:
        position, kind = marker
        if kind in _STANDALONE:
            position += 2
            continue
        stream.seek(position + 2)
        end = position + 2 + struct.unpack(">H", stream.read(2))[0]
        if kind == _START_OF_SCAN:
            break
        if kind in _FRAMES:
            frame = bytes([kind]) + stream.read(6)
        if kind in _JPEG_KEPT or _decides_about_colours(kind, stream, position):
            _append(pieces, position, end)
        elif kind == 0xE1:
            _note_jpeg_orientation(stream, position, end, info)
        position = end
    else:
        return Content(stream)
    if frame[:1] and (frame[0] in _PROGRESSIVE or _has_several_scans(stream, position, frame)):
        height, width = struct.unpack(">HH", frame[2:6])
        _check_scans(stream, position, width * height, name)
    return Content(PiecedStream(stream, [*pieces, range(position, stream.size)], ending=b"\xff\xd9"), info)


def _next_marker(stream: LimitedStream, position: int) -> tuple[int, int] | None:
    """Return the position of the next marker and its second byte; what is no marker is passed over."""
    stream.seek(position)
    block = stream.read(4)
    while len(block) > 1:
        if found := _MARKER.search(block):
            return position + found.start(), block[found.start() + 1]
        # The last byte may begin a marker.
        position += len(block) - 1
        stream.seek(position)
        block = stream.read(_BLOCK_BYTES)
    return None


def _decides_about_colours(kind: int, stream: LimitedStream, position: int) -> bool:
    stream.seek(position + 4)
    return (kind == 0xEE and stream.read(5) == b"Adobe") or (kind == 0xE0 and stream.read(4) == b"JFIF")


def _note_jpeg_orientation(stream: LimitedStream, position: int, end: int, info: dict[str, Any]) -> None:
    stream.seek(position + 4)
    data = stream.read(end - position - 4)
    if data.startswith(_EXIF):
        info.setdefault("exif", data)
    elif data.startswith(_XMP):
        info.setdefault("xmp", data[len(_XMP) :])


def _has_several_scans(stream: LimitedStream, position: int, frame: bytes) -> bool:
    """Whether the first scan of a sequential JPEG file does not hold all components."""
    stream.seek(position + 4)
    return stream.read(1)[0] < frame[6]


def _check_scans(stream: LimitedStream, position: int, pixels: int, name: str) -> None:
    scans = 0
    while (marker := _next_marker(stream, position)) is not None and marker[1] != 0xD9:
        position, kind = marker
        scans += kind == _START_OF_SCAN
        if scans > MAX_SCANS or scans * pixels > MAX_SCANNED_PIXELS:
            raise ImageError(
                f"{name} takes too long to decode: it has {scans} or more scans of {pixels:,} pixels; save it as a "
                "baseline JPEG or as PNG, or leave it out"
            )
        stream.seek(position + 2)
        length = stream.read(2)
        position += 2 if kind in _STANDALONE or len(length) < 2 else 2 + struct.unpack(">H", length)[0]


def _gif(stream: LimitedStream) -> Content:
    """Keep the first frame, with the colour that is transparent in it."""
    stream.seek(10)
    flags = stream.read(1)[0]
    start = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    pieces: list[Piece] = [range(start)]
    control = range(0)
    stream.seek(start)
    while (kind := stream.read(1)) not in (b"", b";", b","):
        if kind != b"!":
            continue
        position = stream.tell() - 1
        label = stream.read(1)
        while length := stream.read(1)[0]:
            stream.seek(length, 1)
        if label == b"\xf9":
            control = range(position, stream.tell())
    if kind != b",":
        return Content(stream)
    return Content(PiecedStream(stream, [*pieces, control, range(stream.tell() - 1, stream.size)]))


def _ico(stream: LimitedStream, name: str) -> Content:
    """Keep the largest image, which is the one that Pillow takes; within it a PNG file may hold metadata."""
    stream.seek(4)
    (count,) = struct.unpack("<H", stream.read(2))
    directory = stream.read(16 * count)
    entries = [directory[at : at + 16] for at in range(0, 16 * count, 16)]
    if not entries:
        return Content(stream)
    entry = max(entries, key=_icon_rank)
    (offset,) = struct.unpack("<I", entry[12:])
    stream.seek(offset)
    head = b"\0\0\1\0\1\0" + entry[:12] + struct.pack("<I", 22)
    if stream.read(8) != _PNG_MAGIC:
        # The size is the file's, as Pillow looks for the mask at the end.
        return Content(PiecedStream(stream, [head, range(offset, max(offset, stream.size))]))
    pieces, info = _png_pieces(stream, offset, name)
    return Content(PiecedStream(stream, [head, *pieces]), info)


def _icon_rank(entry: bytes) -> tuple[int, int]:
    width, height, colours, _, _, bits = struct.unpack("<4BHH", entry[:8])
    depth = bits or (colours.bit_length() if colours else 256)
    return (width or 256) * (height or 256), -depth


def _webp(stream: LimitedStream, head: bytes) -> Content:
    """Fill up a file that lacks its end, as the decoder takes whole files only; a quarter of it must be there."""
    missing = struct.unpack("<I", head[4:8])[0] + 8 - stream.size
    if not 0 < missing <= _MAX_FILLING * stream.size:
        return Content(stream)
    return Content(PiecedStream(stream, [range(stream.size), bytes(missing)]), is_cut=True)


def _isobmff(stream: LimitedStream) -> Content:
    """Hide EXIF data of AVIF and HEIC: orientation has a property of its own there."""
    pieces: list[Piece] = [b""]
    position = 0
    while position < stream.size:
        stream.seek(position)
        header = stream.read(16)
        length, kind = struct.unpack(">I", header[:4])[0], header[4:8]
        if length == 1:
            (length,) = struct.unpack(">Q", header[8:])
        end = min(position + length, stream.size) if length >= 8 else stream.size
        if kind in (b"meta", b"moov") and end - position <= _MAX_ITEM_BYTES:
            stream.seek(position)
            pieces.append(_EXIF_ITEM.sub(rb"\1skip", stream.read(end - position)))
        else:
            _append(pieces, position, end)
        position = end
    return Content(PiecedStream(stream, pieces))


def _check_bitmap(stream: LimitedStream, name: str) -> Content:
    stream.seek(14)
    header = stream.read(20)
    if len(header) == 20 and struct.unpack("<I", header[:4])[0] >= 40:
        width, height, _, _, compression = struct.unpack("<iiHHI", header[4:])
        if compression in _RUN_LENGTHS and abs(width * height) > MAX_RUN_LENGTH_PIXELS:
            raise ImageError(
                f"{name} takes too long to decode: it is a run-length encoded bitmap of {width}×{abs(height)} pixels; "
                "save it as PNG"
            )
    return Content(stream)


def _check_tiff(stream: LimitedStream, head: bytes, name: str) -> Content:
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
    return Content(stream)
