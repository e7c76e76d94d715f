"""Images for the probes, in base64: small ones, large ones, and files of an exact length."""

from __future__ import annotations

import base64
import zlib
from io import BytesIO
from typing import Any

from PIL import Image

_CHUNK_OVERHEAD = 12


def encoded(kind: str = "JPEG", size: tuple[int, int] = (64, 64), colour: str = "red") -> str:
    """Return an image of one colour."""
    return _base64(_file(kind, size, colour))


def encoded_file_of(length: int) -> str:
    """Return a PNG whose file has this many bytes: a small image with a private chunk, which readers skip."""
    file = _file("PNG", (64, 64), "red")
    end = file.rindex(b"IEND") - 4
    data = b"prVt" + bytes(length - len(file) - _CHUNK_OVERHEAD)
    chunk = (len(data) - 4).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
    return _base64(file[:end] + chunk + file[end:])


def image(url: str, **fields: Any) -> dict[str, Any]:
    """Return the part of a message that holds an image: an address, or base64."""
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def images(count: int) -> list[dict[str, Any]]:
    """Return parts that hold images of different colours."""
    return [image(encoded(colour=f"hsl({360 * number // count}, 100%, 50%)")) for number in range(count)]


def _file(kind: str, size: tuple[int, int], colour: str) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
