"""Ids of pictures as data sets give them."""

from __future__ import annotations

from llama_index_mm_zhipu.readers.errors import RecordError


def picture_id_of(value: object, place: str) -> str | RecordError:
    """Return an id as a string, or the error of a record without one.

    Args:
        value: A string or an integer; other values of JSON are no ids.
        place: File and line.
    """
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = ""
    return text or RecordError(f"{place}: the picture id is {value!r:.40}")
