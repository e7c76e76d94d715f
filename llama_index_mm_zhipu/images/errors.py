"""What an image is called in messages: one short line without secrets."""

from __future__ import annotations

import re
from pathlib import Path

from llama_index.core.schema import BaseNode
from PIL import Image


class ImageError(ValueError):
    """An image could not be found, fetched or decoded. The message names it and says what to do."""


_LONGEST_NAME = 300
_LONGEST_TEXT = 200

# A data URI, and base64 of JPEG, PNG, GIF and WebP.
_INLINE = ("data:", "/9j/", "iVBORw0K", "R0lGOD", "UklGR")

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SECRETS = re.compile(r"^[^/?#]*@|[?#].*", re.DOTALL)
_HOST_AND_PATH = re.compile(r"(\[[^\]/]*\]|[^/:\[]*)(:\d*)?(/.*)?", re.DOTALL)


def describe(source: object) -> str:
    """Name an image source for messages: a path, an address or a size, never the image's bytes.

    Of an address, user, password, query and fragment are left out: they may be secrets.
    """
    if isinstance(source, Path):
        return one_line(str(source))
    if isinstance(source, str):
        if is_url(source):
            return one_line(_without_secrets(source))
        if source.startswith(_INLINE):
            return f"an image given as {len(source)} characters"
        return one_line(source) if len(source) <= _LONGEST_TEXT else f"a string of {len(source)} characters"
    if isinstance(source, (bytes, bytearray)):
        return f"an image given as {len(source)} bytes"
    if isinstance(source, Image.Image):
        return f"a PIL image of {source.width}×{source.height}"
    if isinstance(source, BaseNode):
        return f"the image of node {one_line(source.node_id)}"
    return f"an object of type {type(source).__name__}"


def one_line(text: str) -> str:
    """Escape what does not print, line breaks included, and leave out the middle of a long text."""
    printable = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
    if len(printable) <= _LONGEST_NAME:
        return printable
    half = _LONGEST_NAME // 2
    return f"{printable[:half]}…{printable[-half:]}"


def is_url(text: str) -> bool:
    """Whether a text begins with a scheme, such as ``https://``."""
    return _ADDRESS.match(text) is not None


def _without_secrets(address: str) -> str:
    scheme, rest = address.split("://", 1)
    shown = _SECRETS.sub("", rest)
    # In an address that is none, a piece of a password may stand anywhere.
    return f"{scheme}://{shown if _HOST_AND_PATH.fullmatch(shown) else '…'}"
