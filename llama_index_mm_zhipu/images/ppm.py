"""Rewrite PPM files that Pillow reads slowly: it decodes plain text and unusual maximum values pixel by pixel."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.images.errors import ImageError
from llama_index_mm_zhipu.images.streams import LimitedStream, SafeStream, SplicedStream

MAX_PLAIN_BYTES = 128 << 20
"""Maximum size of a plain file (P1, P2, P3), whose numbers are text and take long to parse."""

_MAX_HEADER_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 20
_MAX_DIGITS = 9

_SPACE = b" \t\n\r\x0b\x0c"
_COMMENT = re.compile(rb"#[^\r\n]*")
_LINE_END = re.compile(rb"[\r\n]")
_BLANK = re.compile(rb"[ \t\n\r\x0b\x0c]")
_TOKEN = re.compile(rb"(?:[ \t\n\r\x0b\x0c]|#[^\r\n]*[\r\n])*([^ \t\n\r\x0b\x0c#]+)")

_BITS = (b"P1", b"P4")
_PLAIN = (b"P1", b"P2", b"P3")
_COLOURED = (b"P3", b"P6")
_MAGICS = (*_PLAIN, b"P4", b"P5", b"P6")

CheckSize: TypeAlias = Callable[[tuple[int, int]], None]
Values: TypeAlias = npt.NDArray[np.integer]


def simplify_ppm(stream: LimitedStream, name: str, check_size: CheckSize) -> SafeStream:
    """Return a PPM file as a binary file without comments, with values of 8 or 16 bits.

    Args:
        stream: The file.
        name: Name of the image for errors.
        check_size: Raises an error if width and height are too large.

    Returns:
        The same image, or the file unchanged if it is not a valid PPM file, which Pillow will refuse.

    Raises:
        ImageError: The image is too large, or contains values that are not numbers.
    """
    stream.seek(0)
    head = stream.read(_MAX_HEADER_BYTES)
    magic = head[:2]
    if magic not in _MAGICS:
        return stream
    header = _parse_header(head, 2 if magic in _BITS else 3)
    if header is None:
        if len(head) == _MAX_HEADER_BYTES:
            raise ImageError(f"{name} has a header of more than {_MAX_HEADER_BYTES:,} bytes; save it without comments")
        return stream
    (width, height, *rest), start = header
    check_size((width, height))
    max_value = rest[0] if rest else 1
    if width <= 0 or height <= 0 or not 0 < max_value < 65536:
        return stream
    count = width * height * (3 if magic in _COLOURED else 1)
    if magic in _PLAIN:
        values = _read_plain(stream, name, magic, start, count, max_value)
    elif magic == b"P4" or max_value == 255 or (magic == b"P5" and max_value == 65535):
        new_head = b"%s\n%d %d\n" % (magic, width, height) + (b"" if magic in _BITS else b"%d\n" % max_value)
        return SplicedStream(stream, [new_head, range(start, stream.size)])
    else:
        values = _read_binary(stream, start, count, max_value)
    return _encode(stream, magic, (width, height), values, max_value)


def _parse_header(head: bytes, count: int) -> tuple[list[int], int] | None:
    """Return the numbers after the magic bytes and the position of the pixels, or None if the header is invalid."""
    position = 2
    numbers = []
    for _ in range(count):
        token = _TOKEN.match(head, position)
        if token is None or not token[1].isdigit() or len(token[1]) > _MAX_DIGITS or token.end() == len(head):
            return None
        numbers.append(int(token[1]))
        position = token.end()
    return numbers, position + 1


def _read_plain(stream: LimitedStream, name: str, magic: bytes, start: int, count: int, max_value: int) -> Values:
    """Parse at most ``count`` values that are written as text."""
    if stream.size - start > MAX_PLAIN_BYTES:
        raise ImageError(
            f"{name} holds more than {MAX_PLAIN_BYTES:,} bytes of numbers as text; save it as a binary PPM or as PNG"
        )
    stream.seek(start)
    text = _read_without_comments(stream)
    if magic == b"P1":
        # Zeros and ones may be written without space between them.
        digits = text.translate(None, _SPACE)
        _require(not digits.translate(None, b"01"), name)
        return np.frombuffer(digits[:count], dtype=np.uint8) - ord("0")
    # In blocks, because the parsed numbers take eight bytes each until they are checked.
    blocks: list[Values] = [np.zeros(0, dtype=np.uint16)]
    position = found = 0
    while position < len(text) and found < count:
        blank = _BLANK.search(text, position + _BLOCK_BYTES)
        block = text[position : blank.end() if blank else len(text)]
        position += len(block)
        _require(not block.translate(None, _SPACE + b"0123456789"), name)
        if block.strip():
            numbers = np.fromstring(block, dtype=np.int64, sep=" ")
            _require(int(numbers.max()) <= max_value, name)
            blocks.append(numbers.astype(np.uint16))
            found += len(numbers)
    return np.concatenate(blocks)[:count]


def _read_without_comments(stream: LimitedStream) -> bytes:
    parts: list[bytes] = []
    in_comment = False
    while block := stream.read(_BLOCK_BYTES):
        if in_comment:
            # The comment began in an earlier block.
            block = b"#" + block
        last = block.rfind(b"#")
        in_comment = last >= 0 and _LINE_END.search(block, last) is None
        parts.append(_COMMENT.sub(b"", block))
    return b"".join(parts)


def _read_binary(stream: LimitedStream, start: int, count: int, max_value: int) -> Values:
    width = 1 if max_value < 256 else 2
    stream.seek(start)
    data = stream.read(count * width)
    return np.frombuffer(data[: len(data) // width * width], dtype=">u2" if width == 2 else np.uint8)


def _encode(
    stream: LimitedStream, magic: bytes, size: tuple[int, int], values: Values, max_value: int
) -> SplicedStream:
    """Write values as a binary file, scaled like in Pillow: colours to 8 bits, deeper greys to 16."""
    head = b"%d %d\n" % size
    if magic in _BITS:
        return SplicedStream(stream, [b"P4\n" + head, _pack_bits(values, size)])
    new_magic = b"P6" if magic in _COLOURED else b"P5"
    top = 65535 if new_magic == b"P5" and max_value > 255 else 255
    scale = np.rint(np.arange(65536) / max_value * top).clip(0, top).astype(">u2" if top > 255 else np.uint8)
    return SplicedStream(stream, [new_magic + b"\n" + head + b"%d\n" % top, scale[values].tobytes()])


def _pack_bits(bits: Values, size: tuple[int, int]) -> bytes:
    width = size[0]
    rows = -(-len(bits) // width)
    padded = np.zeros(rows * width, dtype=np.uint8)
    padded[: len(bits)] = bits
    return np.packbits(padded.reshape(rows, width), axis=1).tobytes()


def _require(valid: bool, name: str) -> None:
    if not valid:
        raise ImageError(f"{name} is damaged: it holds values that no pixel can have; replace the file or leave it out")
