"""Ids of pictures as data sets give them."""

from __future__ import annotations

from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.parsing.json_values import described, is_no_number

_MAX_EXACT = 2**53


def picture_id_of(value: object, place: str, key: str) -> str | RecordError:
    """Return an id as a string, or the error of a record without one.

    Args:
        value: A string or an integer; other values of JSON are no ids.
        place: File and line.
        key: Under which the record holds it, for the error.
    """
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    try:
        text.encode()
    except UnicodeEncodeError:
        return RecordError(f"{place}: the picture id is {value!r:.40}, under {key}, with half of a character")
    if text:
        return text
    return RecordError(
        f"{place}: the picture id is {described(value)}, under {key}; an id is a string or an integer{_remedy(value)}"
    )


def _remedy(value: object) -> str:
    if value is None or is_no_number(value):
        return ", and is missing here"
    if isinstance(value, str):
        return ", and is empty here"
    if not isinstance(value, float) or not value.is_integer():
        return ""
    # pandas turns a column of integers into one of floats where a value is missing.
    if abs(value) <= _MAX_EXACT:
        return f": write {int(value)} (in pandas, astype(int), or astype('Int64') where ids are missing)"
    return ": write it as a string, as a float of this size has lost digits (in pandas, read the column as str)"
