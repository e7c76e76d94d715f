"""Pictures as the GLM API takes them: raw base64 of an upright JPEG or PNG within its limits, or an address."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.schema import BaseNode
from PIL import Image

from llama_index_mm_zhipu.images import (
    ImageSource,
    encode_image,
    has_image,
    image_source,
    load_image,
    read_bytes,
)

MAX_SIDE = 6000
"""Pixels that the API takes on each side."""

MAX_ENCODED_BYTES = 5 * 1024 * 1024
"""The API's 5 MB, kept for the base64 text: whether it means the text or the file is not documented."""

_EXIF_ORIENTATION = 0x0112


def picture_url(block: ImageBlock) -> str:
    """Return what goes into ``image_url.url``: the address of a picture on the web, else raw base64.

    Raw, because some deployments refuse a ``data:`` prefix.

    Raises:
        ImageError: The picture cannot be read.
    """
    source = image_source(block)
    if isinstance(source, str):
        return source
    data = read_bytes(source)
    if not _is_sendable(data):
        data = _shrunk(load_image(data))
    return base64.b64encode(data).decode("ascii")


def blocks_of_documents(documents: Sequence[Any]) -> list[ImageBlock | TextBlock]:
    """Turn what ``complete(image_documents=…)`` is given into content blocks, a node's caption before its picture.

    Args:
        documents: ``ImageNode``, ``ImageDocument``, ``ImageBlock``, paths, addresses, ``bytes``, ``PIL.Image``.
    """
    blocks: list[ImageBlock | TextBlock] = []
    for document in documents:
        if isinstance(document, BaseNode) and has_image(document) and (caption := document.get_content()):
            blocks.append(TextBlock(text=caption))
        blocks.append(document if isinstance(document, ImageBlock) else _block(document))
    return blocks


def _block(document: ImageSource) -> ImageBlock:
    source = image_source(document)
    return ImageBlock(url=source) if isinstance(source, str) else ImageBlock(image=read_bytes(source))


def _is_sendable(data: bytes) -> bool:
    if len(data) * 4 / 3 >= MAX_ENCODED_BYTES:
        return False
    try:
        with Image.open(BytesIO(data)) as image:
            return (
                image.format in ("JPEG", "PNG")
                and max(image.size) <= MAX_SIDE
                and image.getexif().get(_EXIF_ORIENTATION, 1) == 1
            )
    except OSError:
        # load_image, which comes next, says what is wrong.
        return False


def _shrunk(image: Image.Image) -> bytes:
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    data = encode_image(image)
    while len(data) * 4 / 3 >= MAX_ENCODED_BYTES:
        image.thumbnail((image.width * 3 // 4, image.height * 3 // 4))
        data = encode_image(image)
    return data
