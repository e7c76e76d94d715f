"""What a user may call an image, and where its bytes are."""

from __future__ import annotations

import base64
import binascii
import re
import threading
from io import IOBase
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit
from urllib.request import url2pathname

from llama_index.core.base.llms.types import ImageBlock
from llama_index.core.schema import BaseNode, ImageNode, MediaResource, NodeWithScore
from PIL import Image

from llama_index_mm_zhipu.images.errors import ImageError, describe, is_url
from llama_index_mm_zhipu.images.formats import sniff_format
from llama_index_mm_zhipu.images.streams import require_valid_path
from llama_index_mm_zhipu.text import one_line

_DATA_URI = re.compile(r"data:[^,;]*(?:;[^,;]+)*?;base64,", re.IGNORECASE)


def is_data_uri(text: str) -> bool:
    """Whether a text begins like ``data:image/png;base64,…``."""
    return _DATA_URI.match(text) is not None


def decode_base64(text: str | bytes, name: str = "the text") -> bytes:
    """Decode base64 strictly; a data URI's head, the URL-safe alphabet, white space and missing padding are accepted.

    Args:
        text: Base64 with or without ``data:image/…;base64,``.
        name: What to call it in an error.

    Raises:
        ImageError: It is not base64, or empty.
    """
    characters = text if isinstance(text, str) else text.decode("ascii", "replace")
    if match := _DATA_URI.match(characters):
        characters = characters[match.end() :]
    compact = "".join(characters.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        data = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError(f"{name} is neither a path nor base64") from None
    if not data:
        raise ImageError(f"{name} holds no image")
    return data


ImageSource: TypeAlias = "str | Path | bytes | bytearray | IOBase | Image.Image | BaseNode | NodeWithScore | ImageBlock"
"""Everything that the functions of this package take for an image."""

IMAGE_TYPES = (str, Path, bytes, bytearray, IOBase, Image.Image, BaseNode, NodeWithScore, ImageBlock)
"""The same for ``isinstance``: what is one of these is a single image, and no sequence of letters or numbers."""

FoundSource: TypeAlias = "Path | str | bytes | Image.Image"
"""Where the bytes of an image are: a file, an ``http(s)`` address, here and encoded, here and decoded."""

_LONGEST_PATH = 4096

_THIS_MACHINE = ("", "localhost")

_reading = threading.Lock()


def resolve_source(source: ImageSource) -> FoundSource:
    """Reduce any image source to the one of four kinds that says where its bytes are.

    Returns:
        A ``Path``, an ``http(s)`` address, encoded ``bytes`` or a ``PIL.Image``.

    Raises:
        ImageError: A string is neither of these, a path or address cannot be one of this machine, or a node holds no
            image.
    """
    if isinstance(source, Path):
        require_valid_path(source)
        return source
    if isinstance(source, (bytes, Image.Image)):
        return source
    if isinstance(source, bytearray):
        return bytes(source)
    if isinstance(source, str):
        return _source_of_string(source)
    if isinstance(source, NodeWithScore):
        return resolve_source(source.node)
    if isinstance(source, (BaseNode, ImageBlock)):
        return _source_of_node(source)
    if hasattr(source, "read"):
        return _content_of(source)
    raise ImageError(f"not an image: an object of type {type(source).__name__}")


def name_of(source: ImageSource, found: FoundSource) -> str:
    """Name an image for messages: its file or address, else the node that holds it.

    Args:
        source: As the user gave it.
        found: What ``resolve_source`` made of it.
    """
    return describe(found if isinstance(found, (Path, str)) or not isinstance(source, BaseNode) else source)


def has_image(node: BaseNode) -> bool:
    """Whether a LlamaIndex node or document holds an image."""
    if isinstance(node, ImageNode):
        return True
    return getattr(node, "image_resource", None) is not None


def _content_of(file: Any) -> bytes:
    try:
        # Two threads must not read one file at once.
        with _reading:
            if file.seekable():
                file.seek(0)
            content = file.read()
    except Exception as error:
        reason = one_line(str(error)) or type(error).__name__
        raise ImageError(f"cannot read the image from {describe(file)}: {reason}") from None
    if not isinstance(content, bytes):
        raise ImageError(f"not an image: {describe(file)} is not binary; open the file in binary mode")
    return content


def _source_of_string(text: str) -> Path | str | bytes:
    if _is_http(text):
        return text
    if text[:7].lower() == "file://":
        path = _path_of_file_address(text)
        require_valid_path(path)
        return path
    if is_url(text):
        raise ImageError(f"{describe(text)} is of a kind that is not fetched; download it, or give an http(s) address")
    if is_data_uri(text):
        return decode_base64(text, "a data URI")
    if len(text) <= _LONGEST_PATH:
        # A JPEG in base64 begins with "/9j/", which reads as an absolute path: what exists is a path.
        path = _path(text)
        if _exists(path) or not _looks_like_base64_image(text):
            require_valid_path(path)
            return path
    return decode_base64(text, f"a string of {len(text)} characters")


def _path_of_file_address(address: str) -> Path:
    try:
        parts = urlsplit(address)
        path = Path(url2pathname(parts.path))
    except ValueError:
        raise ImageError(f"{describe(address)} is no file address; check it") from None
    if parts.netloc.lower() not in _THIS_MACHINE:
        raise ImageError(
            f"{describe(address)} is a file of another machine, {one_line(parts.netloc.rpartition('@')[2])}, and is "
            "not fetched; download it, or give its path"
        )
    return path


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        # "~name" of nobody here may be a file all the same.
        return Path(text)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        # A name that no file can have.
        return False


def _looks_like_base64_image(text: str) -> bool:
    try:
        return sniff_format(decode_base64(text, "")) is not None
    except ImageError:
        return False


def _source_of_node(node: BaseNode | ImageBlock) -> FoundSource:
    resource: Any = getattr(node, "image_resource", None)
    if isinstance(resource, MediaResource):
        inline, path, url = resource.data, resource.path, resource.url
    else:
        inline = getattr(node, "image", None)
        path = getattr(node, "image_path", None) or getattr(node, "path", None)
        url = getattr(node, "image_url", None) or getattr(node, "url", None)
    if isinstance(inline, IOBase):
        return resolve_source(inline)
    if inline:
        # LlamaIndex keeps inline images as base64, in str or bytes.
        return decode_base64(inline, describe(node))
    if path:
        return resolve_source(path)
    if url:
        return resolve_source(str(url))
    raise ImageError(f"{describe(node)} is missing: it has no image, image_path or image_url")


def _is_http(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))
