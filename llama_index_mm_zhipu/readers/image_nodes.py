"""Pictures that a data set holds in base64."""

from __future__ import annotations

import base64
from typing import Any

from llama_index.core.schema import ImageNode

from llama_index_mm_zhipu.images import ImageError, decode_base64, sniff_format
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.parsing.json_values import described, is_no_number
from llama_index_mm_zhipu.readers.picture_record import PictureRecord, content_hash


def inline_picture(
    node_id: str, encoded: object, caption: str, place: str, metadata: dict[str, Any] | None = None
) -> ImageNode | RecordError:
    """Make the node of a picture given in base64, or the error of its record.

    Args:
        node_id: The picture's id.
        encoded: Base64, with or without the head of a data URI.
        caption: Its captions, a line each.
        place: File and line.
        metadata: What else to say of it.
    """
    if not isinstance(encoded, str):
        spelled = described(encoded) if is_no_number(encoded) else f"{encoded!r:.40}"
        return RecordError(f"{place}: the picture of {node_id!r} is {spelled}, not base64")
    try:
        data = decode_base64(encoded, f"the picture of {node_id!r}")
    except ImageError:
        return RecordError(f"{place}: the picture of {node_id!r} is not base64")
    if sniff_format(data) is None:
        return RecordError(f"{place}: what is in base64 for {node_id!r} is no picture that Pillow can read")
    image = base64.b64encode(data).decode("ascii")
    return PictureRecord.of(node_id, content_hash(data), image=image, text=caption, metadata=metadata)
