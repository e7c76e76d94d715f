"""Lines that hold a JSON object each."""

from __future__ import annotations

import json
from typing import Any

from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.lines import LineOrError


def object_of(line: LineOrError, form: str, *required: str) -> dict[str, Any] | RecordError:
    """Return the object of a line, or the error of a line that holds none.

    Args:
        line: As ``lines_of`` yields it.
        form: What was expected, for the error: ``"an object with image_id and text"``.
        required: Keys that it must have.
    """
    if isinstance(line, RecordError):
        return line
    try:
        record = json.loads(line.text)
    except ValueError as error:
        return RecordError(f"{line.place}: not {form} ({error})")
    if not isinstance(record, dict) or not set(required) <= record.keys():
        return RecordError(f"{line.place}: not {form}")
    return record
