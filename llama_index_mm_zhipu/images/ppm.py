"""PPM files in forms that Pillow reads at once: it decodes plain text and unusual maximum values pixel by pixel."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.images.errors import ImageError
from llama_index_mm_zhipu.images.streams import LimitedStream, PiecedStream, SafeStream

MAX_PLAIN_BYTES = 128 << 20
"""Of a plain file (P1, P2, P3): numbers written as text take long to read."""

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

CheckSize = Callable[[tuple[int, int]], None]


def simple_ppm(stream: LimitedStream, name: str, check_size: CheckSize) -> SafeStream:
    """Return a PPM file without comments, and with binary values of 8 or 16 bits.

    Args:
        stream: The file.
        name: What to call it in errors.
        check_size: Raises an error where width and height are too large.

    Returns:
        The same image; or the file as it is, where Pillow knows better what it is.

    Raises:
        ImageError: It is too large, or holds what is no number.
    """
    stream.seek(0)
    head = stream.read(_MAX_HEADER_BYTES)
    magic = head[:2]
    if magic not in _MAGICS:
        return stream
    header = _numbers(head, 2 if magic in _BITS else 3)
    if header is None:
        if len(head) == _MAX_HEADER_BYTES:
            raise ImageError(f"{name} has a header of more than {_MAX_HEADER_BYTES:,} bytes; save it without comments")
        return stream
    (width, height, *rest), start = header
    check_size((width, height))
    highest = rest[0] if rest else 1
    if width <= 0 or height <= 0 or not 0 < highest < 65536:
        return stream
    values = width * height * (3 if magic in _COLOURED else 1)
    if magic in _PLAIN:
        body = _plain_values(stream, name, magic, start, values, highest)
    elif magic == b"P4" or highest == 255 or (magic == b"P5" and highest == 65535):
        form = b"%s\n%d %d\n" % (magic, width, height) + (b"" if magic in _BITS else b"%d\n" % highest)
        return PiecedStream(stream, [form, range(start, stream.size)])
    else:
        body = _binary_values(stream, start, values, highest)
    return _written(stream, magic, (width, height), body, highest)


def _numbers(head: bytes, count: int) -> tuple[list[int], int] | None:
    """Return the numbers behind the magic ones, and where the pixels begin; None where there are none."""
    position = 2
    numbers = []
    for _ in range(count):
        token = _TOKEN.match(head, position)
        if token is None or not token[1].isdigit() or len(token[1]) > _MAX_DIGITS or token.end() == len(head):
            return None
        numbers.append(int(token[1]))
        position = token.end()
    return numbers, position + 1


def _plain_values(
    stream: LimitedStream, name: str, magic: bytes, start: int, count: int, highest: int
) -> npt.NDArray[np.integer]:
    if stream.size - start > MAX_PLAIN_BYTES:
        raise ImageError(
            f"{name} holds more than {MAX_PLAIN_BYTES:,} bytes of numbers as text; save it as a binary PPM or as PNG"
        )
    stream.seek(start)
    text = _without_comments(stream)
    if magic == b"P1":
        # Zeros and ones may stand side by side.
        digits = text.translate(None, _SPACE)
        _require(not digits.translate(None, b"01"), name)
        return np.frombuffer(digits[:count], dtype=np.uint8) - ord("0")
    blocks: list[npt.NDArray[np.integer]] = [np.zeros(0, dtype=np.uint16)]
    position = found = 0
    while position < len(text) and found < count:
        blank = _BLANK.search(text, position + _BLOCK_BYTES)
        block = text[position : blank.end() if blank else len(text)]
        position += len(block)
        _require(not block.translate(None, _SPACE + b"0123456789"), name)
        if block.strip():
            numbers = np.fromstring(block, dtype=np.int64, sep=" ")
            _require(int(numbers.max()) <= highest, name)
            blocks.append(numbers.astype(np.uint16))
            found += len(numbers)
    return np.concatenate(blocks)[:count]


def _without_comments(stream: LimitedStream) -> bytes:
    parts: list[bytes] = []
    in_comment = False
    while block := stream.read(_BLOCK_BYTES):
        if in_comment:
            # It began in an earlier block.
            block = b"#" + block
        last = block.rfind(b"#")
        in_comment = last >= 0 and _LINE_END.search(block, last) is None
        parts.append(_COMMENT.sub(b"", block))
    return b"".join(parts)


def _binary_values(stream: LimitedStream, start: int, count: int, highest: int) -> npt.NDArray[np.integer]:
    width = 1 if highest < 256 else 2
    stream.seek(start)
    data = stream.read(count * width)
    return np.frombuffer(data[: len(data) // width * width], dtype=">u2" if width == 2 else np.uint8)


def _written(
    stream: LimitedStream, magic: bytes, size: tuple[int, int], values: npt.NDArray[np.integer], highest: int
) -> PiecedStream:
    head = b"%d %d\n" % size
    if magic in _BITS:
        return PiecedStream(stream, [b"P4\n" + head, _packed(values, size)])
    form = b"P6" if magic in _COLOURED else b"P5"
    # As Pillow scales them: colours to 8 bits, greys of more to 16.
    top = 65535 if form == b"P5" and highest > 255 else 255
    scale = np.rint(np.arange(65536) / highest * top).clip(0, top).astype(">u2" if top > 255 else np.uint8)
    return PiecedStream(stream, [form + b"\n" + head + b"%d\n" % top, scale[values].tobytes()])


def _packed(bits: npt.NDArray[np.integer], size: tuple[int, int]) -> bytes:
    width = size[0]
    rows = -(-len(bits) // width)
    whole = np.zeros(rows * width, dtype=np.uint8)
    whole[: len(bits)] = bits
    return np.packbits(whole.reshape(rows, width), axis=1).tobytes()


def _require(valid: bool, name: str) -> None:
    if not valid:
        raise ImageError(f"{name} is damaged: it holds values that no pixel can have; replace the file or leave it out")
