"""Pictures that a data set names by their addresses on the web."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from llama_index.core.schema import ImageNode

from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.parsing.json_values import described, is_no_number
from llama_index_mm_zhipu.readers.picture_record import PictureRecord


def addressed_picture(
    node_id: str, url: object, caption: str, place: str, metadata: dict[str, Any] | None = None
) -> ImageNode | RecordError:
    """Make the node of a picture on the web, which is fetched when it is embedded, or the error of its record.

    Args:
        node_id: The picture's id.
        url: Its address.
        caption: Its captions, a line each.
        place: File and line.
        metadata: What else to say of it.
    """
    if is_no_number(url):
        return RecordError(f"{place}: {described(url)} is no http address of a picture")
    address = str(url or "").strip()
    if path_of_address(address) is None:
        return RecordError(f"{place}: {address!r:.80} is no http address of a picture")
    return PictureRecord.of(node_id, None, image_url=address, text=caption, metadata=metadata)


def path_of_address(value: str) -> str | None:
    """Return the path of an http(s) address, or None for what is none."""
    try:
        address = urlsplit(value)
    except ValueError:
        return None
    return address.path if address.scheme in ("http", "https") and address.netloc else None
