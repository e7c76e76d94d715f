"""The error for images, and short descriptions of image sources for messages, without secrets or content."""

from __future__ import annotations

import re
from pathlib import Path

from llama_index.core.schema import BaseNode
from PIL import Image

from llama_index_mm_zhipu.text import one_line

_MAX_SHOWN_TEXT = 200

# A data URI, and base64 of JPEG, PNG, GIF and WebP.
_INLINE_PREFIXES = ("data:", "/9j/", "iVBORw0K", "R0lGOD", "UklGR")

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SECRETS = re.compile(r"^[^/?#]*@|[?#].*", re.DOTALL)
_HOST_AND_PATH = re.compile(r"(\[[^\]/]*\]|[^/:\[]*)(:\d*)?(/.*)?", re.DOTALL)


class ImageError(ValueError):
    """An image cannot be found, fetched or decoded. The message names the image and says what to do.

    Examples:
        >>> from llama_index_mm_zhipu.images import load_image
        >>> load_image("images/pear.jpg")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.images.errors.ImageError: no such image: images/pear.jpg; check the path
    """


def describe(source: object) -> str:
    """Return a short name of an image source for messages: its path, URL or size, never its content.

    User, password, query and fragment of a URL are left out, because they may be secrets.
    """
    if isinstance(source, Path):
        return one_line(str(source))
    if isinstance(source, str):
        if is_url(source):
            return one_line(_without_secrets(source))
        if source.startswith(_INLINE_PREFIXES):
            return f"an image given as {len(source)} characters"
        return one_line(source) if len(source) <= _MAX_SHOWN_TEXT else f"a string of {len(source)} characters"
    if isinstance(source, (bytes, bytearray)):
        return f"an image given as {len(source)} bytes"
    if isinstance(source, Image.Image):
        return f"a PIL image of {source.width}×{source.height}"
    if isinstance(source, BaseNode):
        return f"the image of node {one_line(source.node_id)}"
    return f"an object of type {type(source).__name__}"


def is_url(text: str) -> bool:
    """Return whether a text begins with a scheme, such as ``https://``."""
    return _URL.match(text) is not None


def _without_secrets(url: str) -> str:
    scheme, rest = url.split("://", 1)
    shown = _SECRETS.sub("", rest)
    # In a malformed URL, part of a password may be anywhere.
    return f"{scheme}://{shown if _HOST_AND_PATH.fullmatch(shown) else '…'}"
