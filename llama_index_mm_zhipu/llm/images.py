"""Images in the form that the GLM API accepts: raw base64 of an upright JPEG or PNG within its limits, or a URL."""

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

MAX_SIDE = 6000
"""Maximum width and height in pixels that the API accepts."""

INLINE_SIDE = 2048
"""Maximum width and height in pixels of an image whose bytes a tool returns: an agent keeps them in its memory."""

MAX_ENCODED_BYTES = 5_000_000
"""The API's limit of 5 MB, applied to the base64 text: the documentation does not say whether it means text or file."""

_SENDABLE_MODES = ("RGB", "L", "P", "1")
# Marks near the end of complete files. Other bytes may follow, such as the padding of a camera.
_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_END_BYTES = 1024

_MAX_CACHED_CHARACTERS = 64 * 1024 * 1024
_CACHE_SECONDS = 600.0

_encodings: TTLCache[Hashable, str] = TTLCache(_MAX_CACHED_CHARACTERS, _CACHE_SECONDS, getsizeof=len)
_encodings_lock = fork_safe_lock()

Images: TypeAlias = "ImageSource | Iterable[ImageSource]"
"""One image or several, as ``complete(image_documents=…)`` accepts them."""

QUERY_IMAGE_NUMBER = 0
"""Number of an image that the question is about. The other images are numbered from 1."""


class UnprintedImageBlock(ImageBlock):
    """An ``ImageBlock`` whose ``repr`` leaves out the bytes."""

    def __repr_args__(self) -> Any:
        """Return the fields that ``repr`` shows."""
        return [(name, value) for name, value in super().__repr_args__() if name != "image"]


class NumberedImageBlock(UnprintedImageBlock):
    """An image with the number that the prompt gives it, which contact sheets show.

    Images of other types are numbered by their position in the message.

    Attributes:
        number: Number from 1, or ``QUERY_IMAGE_NUMBER``.
        language: Language in which a contact sheet is explained.
    """

    number: int
    language: Language = "zh"


def language_of_chat(messages: Sequence[ChatMessage]) -> Language:
    """Return the language for texts that are added to a chat.

    It is the language of numbered images, which engines set, else that of the chat's texts, else Chinese.
    """
    blocks = (block for message in messages for block in message.blocks)
    set_by_engine = (block.language for block in blocks if isinstance(block, NumberedImageBlock))
    return next(set_by_engine, None) or language_of_text("\n".join(message.content or "" for message in messages))


def image_url(block: ImageBlock, *, max_side: int = MAX_SIDE, urls: UrlRules = NO_URLS) -> str:
    """Return the value of ``image_url.url``: the URL of an image on the web, else raw base64.

    The base64 has no ``data:`` prefix, which some deployments refuse. Encodings are cached by content or URL for ten
    minutes, up to 64 MiB.

    Args:
        block: The image.
        max_side: Maximum width and height in pixels; larger images are shrunk.
        urls: Whether, and within which limits, to fetch an image on the web and return its base64.

    Raises:
        ImageError: The image cannot be read.
    """
    source = resolve_source(block)
    if isinstance(source, str) and not urls.allowed:
        return source
    if isinstance(source, str):
        return cached_encoding((source, urls, max_side), lambda: _fetched_base64(source, urls, max_side))
    data = read_bytes(source)
    return cached_encoding((content_key(data), max_side), lambda: _base64(data, source, max_side))


def cached_encoding(key: Hashable, encode: Callable[[], str]) -> str:
    """Return the cached encoding for a key, or call ``encode`` and cache its result."""
    with _encodings_lock:
        cached = _encodings.get(key)
    if cached is not None:
        return cached
    encoded = encode()
    if len(encoded) <= _MAX_CACHED_CHARACTERS:
        with _encodings_lock:
            _encodings[key] = encoded
    return encoded


def clear_encodings() -> None:
    """Empty the cache of encodings."""
    with _encodings_lock:
        _encodings.clear()


def content_key(data: bytes) -> str:
    """Return the cache key for an image with this content."""
    return hashlib.sha256(data).hexdigest()


def image_list(images: Images | None) -> list[Any]:
    """Return one image or several as a list. A string is one image."""
    if images is None:
        return []
    if isinstance(images, IMAGE_TYPES):
        return [images]
    if not isinstance(images, Iterable) or isinstance(images, Mapping):
        raise TypeError(f"image_documents is of type {type(images).__name__}; give an image in any form, or several")
    return list(images)


def blocks_of_documents(documents: Sequence[Any]) -> list[ImageBlock | TextBlock]:
    """Convert ``image_documents`` of ``complete`` to content blocks, with a node's caption before its image.

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
    """Convert an image of any form to a content block. A URL is kept as a URL."""
    source = resolve_source(image)
    return ImageBlock(url=source) if isinstance(source, str) else ImageBlock(image=read_bytes(source))


def small_bytes(image: ImageSource, max_side: int = INLINE_SIDE) -> bytes:
    """Return an image as a complete JPEG or PNG, for a tool result that carries its bytes; a larger one is shrunk.

    Args:
        image: An image in any form but a URL.
        max_side: Maximum width and height in pixels.

    Raises:
        ImageError: The image cannot be read.
    """
    source = resolve_source(image)
    return _within_limits(read_bytes(source), source, max_side)


def encode_within_limits(image: Image.Image, max_side: int = MAX_SIDE) -> bytes:
    """Encode an image as JPEG, shrunk until it is within the API's limits.

    Args:
        image: RGB image, which is shrunk in place.
        max_side: Maximum width and height in pixels.
    """
    image.thumbnail((max_side, max_side))
    data = encode_image(image)
    while _encoded_length(data) >= MAX_ENCODED_BYTES:
        image.thumbnail((image.width * 3 // 4, image.height * 3 // 4))
        data = encode_image(image)
    return data


def _fetched_base64(url: str, urls: UrlRules, max_side: int) -> str:
    data = read_bytes(url, urls=urls)
    try:
        return _base64(data, data, max_side)
    except ImageError as error:
        raise ImageError(f"the response of {describe(url)} is not a usable image: {error}") from None


def _base64(data: bytes, source: ImageSource, max_side: int) -> str:
    return base64.b64encode(_within_limits(data, source, max_side)).decode("ascii")


def _within_limits(data: bytes, source: ImageSource, max_side: int) -> bytes:
    if is_sendable(data, max_side=max_side):
        return data
    # Reads a file again, so that errors name it.
    return encode_within_limits(load_image(source if isinstance(source, Path) else data), max_side)


def is_sendable(data: bytes, *, max_side: int = MAX_SIDE, max_encoded_bytes: int = MAX_ENCODED_BYTES) -> bool:
    """Return whether the API accepts a file as it is: a complete, upright, opaque JPEG or PNG within the limits.

    Args:
        data: The file.
        max_side: Maximum width and height in pixels.
        max_encoded_bytes: The base64 of the file must be shorter than this.
    """
    if _encoded_length(data) >= max_encoded_bytes:
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
        # The caller loads the image next, which raises an error that says what is wrong.
        return False


def _encoded_length(data: bytes) -> int:
    return (len(data) + 2) // 3 * 4
