"""Images for the probes as base64: of different sizes and formats, and of an exact file length."""

from __future__ import annotations

import base64
import zlib
from io import BytesIO
from typing import Any

from PIL import Image

_CHUNK_OVERHEAD = 12


def encoded(image_format: str = "JPEG", size: tuple[int, int] = (64, 64), colour: str = "red") -> str:
    """Return an image of one colour."""
    return _base64(_file(image_format, size, colour))


def encoded_file_of(length: int) -> str:
    """Return a PNG file of this many bytes: a small image with a private chunk that readers skip."""
    file = _file("PNG", (64, 64), "red")
    end = file.rindex(b"IEND") - 4
    data = b"prVt" + bytes(length - len(file) - _CHUNK_OVERHEAD)
    chunk = (len(data) - 4).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
    return _base64(file[:end] + chunk + file[end:])


def image(url: str, **fields: Any) -> dict[str, Any]:
    """Return the part of a message for an image, given as a URL or base64."""
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def images(count: int) -> list[dict[str, Any]]:
    """Return parts for images of different colours."""
    return [image(encoded(colour=f"hsl({360 * number // count}, 100%, 50%)")) for number in range(count)]


def _file(image_format: str, size: tuple[int, int], colour: str) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, colour).save(buffer, image_format)
    return buffer.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
