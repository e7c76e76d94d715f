"""Pictures in text: base64 and data URIs."""

from __future__ import annotations

import base64
import binascii
import re

from llama_index_mm_zhipu.images.errors_old import ImageError

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
        raise ImageError(f"{name} holds no picture")
    return data
