"""A record of a table or a JSON file."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from llama_index_mm_zhipu.readers.errors import RecordError


class Record(NamedTuple):
    """Fields by name.

    Attributes:
        place: File and line, for messages.
        fields: Strings of a table, any values of JSON.
    """

    place: str
    fields: dict[str, Any]


RecordOrError: TypeAlias = Record | RecordError
