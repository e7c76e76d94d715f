"""Image sources: everything that users may pass as an image, resolved to a file, a URL, bytes or a ``PIL.Image``."""

from __future__ import annotations

import base64
import binascii
import re
import threading
from dataclasses import dataclass
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

ImageSource: TypeAlias = "str | Path | bytes | bytearray | IOBase | Image.Image | BaseNode | NodeWithScore | ImageBlock"
"""Everything that the functions of this package accept as an image."""

IMAGE_TYPES = (str, Path, bytes, bytearray, IOBase, Image.Image, BaseNode, NodeWithScore, ImageBlock)
"""The same types for ``isinstance``: an object of one of them is a single image, not a sequence of images."""

ResolvedSource: TypeAlias = "Path | str | bytes | Image.Image"
"""A file, an ``http(s)`` URL, an encoded image or a decoded image."""

MAX_DOWNLOAD_BYTES = 64 * 1024 * 1024
"""Default of ``UrlRules.max_bytes``."""

STORED_IMAGE = "stored_image"
"""Metadata key of the name of an image that is kept beside the store of its node."""

MISSING_IMAGE = "missing_image"
"""Metadata key of the reason why an image beside the store of its node could not be read."""

_MAX_PATH_LENGTH = 4096
_LOCAL_HOSTS = ("", "localhost")
_DATA_URI = re.compile(r"data:[^,;]*(?:;[^,;]+)*?;base64,", re.IGNORECASE)

_file_object_lock = threading.Lock()


@dataclass(frozen=True)
class UrlRules:
    """Whether images are fetched from ``http(s)`` URLs, and within which limits.

    Attributes:
        allowed: Whether to fetch at all.
        allow_private: Whether a host may be this machine or in a private network.
        max_bytes: Maximum size of a response in bytes, compressed or not; 64 MiB by default.
        timeout: Seconds for the whole download, redirects included.
        max_redirects: How many redirects are followed.

    Examples:
        >>> from llama_index_mm_zhipu.images import UrlRules, load_image
        >>> load_image("http://127.0.0.1:9/apple.jpg", urls=UrlRules(allowed=True))
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.images.errors.ImageError: http://127.0.0.1:9/apple.jpg leads to the private address
        127.0.0.1; set allow_private_urls=True if that is meant
    """

    allowed: bool = False
    allow_private: bool = False
    max_bytes: int = MAX_DOWNLOAD_BYTES
    timeout: float = 30.0
    max_redirects: int = 5


NO_URLS = UrlRules()
"""Images are not fetched from URLs."""


def resolve_source(source: ImageSource) -> ResolvedSource:
    """Return where an image is: its path, its ``http(s)`` URL, its encoded bytes or the ``PIL.Image`` itself.

    The functions of this package take the result in place of the source, so that a node is resolved, and its base64
    decoded, only once.

    Args:
        source: A path, ``file://`` or ``http(s)://`` URL, data URI, base64 string, ``bytes``, binary file object,
            ``PIL.Image``, LlamaIndex node or image block.

    Raises:
        ImageError: A string is none of these, a path or URL is invalid or on another machine, or a node holds no
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
        return _resolve_string(source)
    if isinstance(source, NodeWithScore):
        return resolve_source(source.node)
    if isinstance(source, (BaseNode, ImageBlock)):
        return _resolve_node(source)
    if hasattr(source, "read"):
        return _read_file_object(source)
    raise ImageError(f"not an image: an object of type {type(source).__name__}")


def describe_resolved(source: ImageSource, resolved: ResolvedSource) -> str:
    """Return the name of an image for messages: its file or URL, or the node that contains it.

    Args:
        source: The source as the user gave it.
        resolved: The result of ``resolve_source`` for it.
    """
    return describe(resolved if isinstance(resolved, (Path, str)) or not isinstance(source, BaseNode) else source)


def has_image(node: BaseNode) -> bool:
    """Return whether a LlamaIndex node or document is an image node or has an image resource."""
    return isinstance(node, ImageNode) or getattr(node, "image_resource", None) is not None


def is_data_uri(text: str) -> bool:
    """Return whether a text begins like ``data:image/png;base64,…``."""
    return _DATA_URI.match(text) is not None


def decode_base64(text: str | bytes, name: str = "the text") -> bytes:
    """Decode base64 strictly; the head of a data URI, the URL-safe alphabet, white space and missing padding are valid.

    Args:
        text: Base64 with or without ``data:image/…;base64,``.
        name: Name of the text for errors.

    Returns:
        The decoded bytes.

    Raises:
        ImageError: The text is not base64, or it is empty.

    Examples:
        >>> from base64 import b64encode
        >>> from llama_index_mm_zhipu.images import decode_base64
        >>> decode_base64("data:image/jpeg;base64," + b64encode(b"abc").decode())
        b'abc'
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


def _resolve_node(node: BaseNode | ImageBlock) -> ResolvedSource:
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
        # LlamaIndex stores inline images as base64, in str or bytes.
        return decode_base64(inline, describe(node))
    if path:
        return resolve_source(path)
    if url:
        return resolve_source(str(url))
    if reason := getattr(node, "metadata", {}).get(MISSING_IMAGE):
        raise ImageError(f"{describe(node)} is missing: {one_line(str(reason))}")
    raise ImageError(f"{describe(node)} is missing: it has no image, image_path or image_url")


def _read_file_object(file: Any) -> bytes:
    try:
        # Threads must not seek and read in the same file at the same time.
        with _file_object_lock:
            if file.seekable():
                file.seek(0)
            content = file.read()
    except Exception as error:
        reason = one_line(str(error)) or type(error).__name__
        raise ImageError(f"cannot read the image from {describe(file)}: {reason}") from None
    if not isinstance(content, bytes):
        raise ImageError(f"not an image: {describe(file)} is not binary; open the file in binary mode")
    return content


def _resolve_string(text: str) -> Path | str | bytes:
    if text[:8].lower().startswith(("http://", "https://")):
        return text
    if text[:7].lower() == "file://":
        path = _path_of_file_url(text)
        require_valid_path(path)
        return path
    if is_url(text):
        raise ImageError(f"{describe(text)} has an unsupported URL scheme; download it, or give an http(s) URL")
    if is_data_uri(text):
        return decode_base64(text, "a data URI")
    if len(text) <= _MAX_PATH_LENGTH:
        path = _expand_user(text)
        # A JPEG in base64 begins with "/9j/", like an absolute path; there is no "." in base64.
        if "." in text or _exists(path) or not _is_base64_image(text):
            require_valid_path(path)
            return path
    return decode_base64(text, f"a string of {len(text)} characters")


def _path_of_file_url(url: str) -> Path:
    try:
        parts = urlsplit(url)
        path = Path(url2pathname(parts.path))
    except ValueError:
        raise ImageError(f"{describe(url)} is not a valid file URL; check it") from None
    if parts.netloc.lower() not in _LOCAL_HOSTS:
        raise ImageError(
            f"{describe(url)} is a file of another machine, {one_line(parts.netloc.rpartition('@')[2])}, and is not "
            "fetched; download it, or give its path"
        )
    return path


def _expand_user(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        # There is no such user: "~name" may still be the name of a file.
        return Path(text)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        # The name is too long or contains a NUL.
        return False


def _is_base64_image(text: str) -> bool:
    try:
        return sniff_format(decode_base64(text, "")) is not None
    except ImageError:
        return False
