"""JSON objects of data sets, checked for what they must hold."""

from __future__ import annotations

import json
from collections.abc import Collection

from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.parsing.lines import LineOrError
from llama_index_mm_zhipu.readers.parsing.record import Record, RecordOrError


def object_of(line: LineOrError, form: str, *required: str) -> RecordOrError:
    """Return the object of a line, or the error of a line that holds none.

    Args:
        line: As ``lines_of`` yields it.
        form: What was expected, for the error: ``"an object with image_id and text"``.
        required: Keys that it must have.
    """
    if isinstance(line, RecordError):
        return line
    try:
        value = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        return RecordError(f"{line.place}: not {form} ({error})")
    return checked_object(value, line.place, form, required)


def checked_object(value: object, place: str, form: str, required: Collection[str]) -> RecordOrError:
    """Return an object with all keys that it must have, or an error.

    Args:
        value: Any value of JSON.
        place: File and line.
        form: As in ``object_of``.
        required: Keys that it must have.
    """
    if not isinstance(value, dict):
        return RecordError(f"{place}: not {form}")
    if not set(required) <= value.keys():
        return RecordError(f"{place}: not {form}, but with {', '.join(map(str, value)) or 'no key'}")
    return Record(place, value)
