"""Images as the GLM API takes them: raw base64 of an upright JPEG or PNG within its limits, or an address."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from cachetools import TTLCache
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.schema import BaseNode, NodeWithScore
from PIL import Image

from llama_index_mm_zhipu.concurrency import fork_safe_lock
from llama_index_mm_zhipu.images import (
    IMAGE_TYPES,
    NO_URLS,
    ImageError,
    ImageSource,
    UrlRules,
    describe,
    encode_image,
    has_image,
    load_image,
    open_image,
    orientation_of,
    read_bytes,
    resolve_source,
)
from llama_index_mm_zhipu.prompts.wording import language_of_text
from llama_index_mm_zhipu.types import Language

_CHARACTERS = 64 * 1024 * 1024
_SECONDS = 600.0

_encoded: TTLCache[Hashable, str] = TTLCache(_CHARACTERS, _SECONDS, getsizeof=len)
_lock = fork_safe_lock()


def remembered(key: Hashable, encode: Callable[[], str]) -> str:
    """Return what was encoded under a key in the last ten minutes, else encode it; up to 64 MiB are kept."""
    with _lock:
        known = _encoded.get(key)
    if known is not None:
        return known
    encoded = encode()
    if len(encoded) <= _CHARACTERS:
        with _lock:
            _encoded[key] = encoded
    return encoded


def forget_images() -> None:
    """Forget all."""
    with _lock:
        _encoded.clear()


ASKED_ABOUT = 0
"""Number of the image that a question is about: the others are numbered from 1."""


class NumberedImageBlock(ImageBlock):
    """An image with the number that the prompt calls it by, which a contact sheet then shows.

    Images without one are numbered by their place in the message.

    Attributes:
        number: From 1 on, or ``ASKED_ABOUT``.
        language: In which a contact sheet is explained.
    """

    number: int
    language: Language = "zh"


def language_of_chat(messages: Sequence[ChatMessage]) -> Language:
    """Return the language for texts that are added to a chat.

    It is that of numbered images, which engines set; else that of the chat's texts, Chinese if there are none.
    """
    blocks = (block for message in messages for block in message.blocks)
    set_by_engine = (block.language for block in blocks if isinstance(block, NumberedImageBlock))
    return next(set_by_engine, None) or language_of_text("\n".join(message.content or "" for message in messages))


Images: TypeAlias = "ImageSource | Iterable[ImageSource]"
"""An image or several, as ``complete(image_documents=…)`` takes them."""

MAX_SIDE = 6000
"""Pixels that the API takes on each side."""

MAX_ENCODED_BYTES = 5_000_000
"""The API's 5 MB, kept for the base64 text: whether it means the text or the file is not documented."""

_SENDABLE_MODES = ("RGB", "L", "P", "1")
# Where a whole file of the format ends; more may follow, such as the padding of a camera.
_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_END_BYTES = 1024


def image_url(block: ImageBlock, *, max_side: int = MAX_SIDE, urls: UrlRules = NO_URLS) -> str:
    """Return what goes into ``image_url.url``: the address of an image on the web, else raw base64.

    Raw, because some deployments refuse a ``data:`` prefix. What was encoded is kept for ten minutes, up to 64 MiB, by
    content or address.

    Args:
        block: The image.
        max_side: Pixels; larger images are shrunk.
        urls: Whether to fetch an image on the web and send it in base64, and within which limits.

    Raises:
        ImageError: The image cannot be read.
    """
    source = resolve_source(block)
    if isinstance(source, str) and not urls.allowed:
        return source
    if isinstance(source, str):
        return remembered((source, urls, max_side), lambda: _fetched_base64(source, urls, max_side))
    data = read_bytes(source)
    return remembered((content_key(data), max_side), lambda: _base64(data, source, max_side))


def content_key(data: bytes) -> str:
    """Return what an image with this content is remembered by."""
    return hashlib.sha256(data).hexdigest()


def image_list(images: Images | None) -> list[Any]:
    """Return an image or several as a list: a single path is not a sequence of letters."""
    if images is None:
        return []
    if isinstance(images, IMAGE_TYPES):
        return [images]
    if not isinstance(images, Iterable) or isinstance(images, Mapping):
        raise TypeError(f"image_documents is of type {type(images).__name__}; give an image in any form, or several")
    return list(images)


def blocks_of_documents(documents: Sequence[Any]) -> list[ImageBlock | TextBlock]:
    """Turn what ``complete(image_documents=…)`` is given into content blocks, a node's caption before its image.

    Args:
        documents: ``ImageNode``, ``ImageDocument``, ``NodeWithScore``, ``ImageBlock``, paths, URLs, ``bytes``,
            ``PIL.Image``.
    """
    blocks: list[ImageBlock | TextBlock] = []
    for given in documents:
        document = given.node if isinstance(given, NodeWithScore) else given
        if isinstance(document, BaseNode) and has_image(document) and (caption := document.get_content()):
            blocks.append(TextBlock(text=caption))
        blocks.append(document if isinstance(document, ImageBlock) else image_block(document))
    return blocks


def image_block(image: ImageSource) -> ImageBlock:
    """Turn an image of any form into a content block; an address stays one."""
    source = resolve_source(image)
    return ImageBlock(url=source) if isinstance(source, str) else ImageBlock(image=read_bytes(source))


def encode_within_limits(image: Image.Image, max_side: int = MAX_SIDE) -> bytes:
    """Encode an image as JPEG, shrunk as far as the API's limits ask.

    Args:
        image: RGB; it is shrunk in place.
        max_side: Pixels.
    """
    image.thumbnail((max_side, max_side))
    data = encode_image(image)
    while _encoded_length(data) >= MAX_ENCODED_BYTES:
        image.thumbnail((image.width * 3 // 4, image.height * 3 // 4))
        data = encode_image(image)
    return data


def _fetched_base64(address: str, urls: UrlRules, max_side: int) -> str:
    data = read_bytes(address, urls=urls)
    try:
        return _base64(data, data, max_side)
    except ImageError as error:
        raise ImageError(f"what {describe(address)} answered: {error}") from None


def _base64(data: bytes, source: ImageSource, max_side: int) -> str:
    if not _is_sendable(data, max_side):
        # A file is read again, as errors name it then.
        data = encode_within_limits(load_image(source if isinstance(source, Path) else data), max_side)
    return base64.b64encode(data).decode("ascii")


def _is_sendable(data: bytes, max_side: int) -> bool:
    if _encoded_length(data) >= MAX_ENCODED_BYTES:
        return False
    try:
        with open_image(data) as image:
            return (
                image.format in _END_MARKS
                and _END_MARKS[image.format] in data[-_END_BYTES:]
                and image.mode in _SENDABLE_MODES
                and "transparency" not in image.info
                and max(image.size) <= max_side
                and orientation_of(image) == 1
            )
    except ImageError:
        # load_image, which comes next, says what is wrong.
        return False


def _encoded_length(data: bytes) -> int:
    return (len(data) + 2) // 3 * 4
