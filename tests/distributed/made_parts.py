"""Images and parts for tests of their way from the reader to the sink."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from shutil import copy

from llama_index.core.schema import BaseNode, ImageNode
from PIL import Image

from llama_index_mm_zhipu.distributed.parts import Part, SkippedImage
from llama_index_mm_zhipu.readers.records import ImageRecord, content_hash


def folder_of(photos: Sequence[Path], folder: Path) -> Path:
    """Return a new folder with copies of images."""
    folder.mkdir()
    for photo in photos:
        copy(photo, folder)
    return folder


def image_bytes(colour: str = "red") -> bytes:
    """Return a small image of one colour as PNG."""
    opened = BytesIO()
    Image.new("RGB", (8, 8), colour).save(opened, "PNG")
    return opened.getvalue()


def record(name: str, caption: str = "", colour: str = "red") -> ImageNode:
    """Return an image as readers yield it, inline."""
    data = image_bytes(colour)
    return ImageRecord.of(name, content_hash(data), image=base64.b64encode(data).decode(), text=caption)


def records(*names: str) -> list[ImageNode]:
    """Return images with these ids."""
    return [record(name) for name in names]


def embedded(names: Sequence[str], vector: Sequence[float] = (1.0, 0.0)) -> list[BaseNode]:
    """Return images with vectors."""
    return [node.model_copy(update={"embedding": list(vector)}) for node in records(*names)]


def part(
    *names: str, number: int = 0, source: str = "photos-1", skipped: Sequence[SkippedImage] = (), model: str = "clip:1"
) -> Part:
    """Return an embedded part."""
    return Part(source, number, f"fingerprint {number}", embedded(names), list(skipped), model)
