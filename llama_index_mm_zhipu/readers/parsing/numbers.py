"""Columns of tables that hold numbers only."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

# ASCII digits, no sign but "-", no leading zeros: "007", "+1", "1,000", "1e5", "50%" and "nan" stay text.
_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?")

_MAX_DIGITS = 15
"""What a float holds exactly, whatever the digits. Longer ones are codes rather than quantities."""


class NumericColumns:
    """Decides which columns of a table hold numbers only, and converts these.

    A column is one of integers if every value is one, and one of floats if every value is a number; empty values say
    nothing. Call ``see`` with every row first.

    Args:
        columns: Names of the columns that may be converted.
    """

    def __init__(self, columns: Collection[str]) -> None:
        self._types: dict[str, type[int] | type[float]] = {}
        self._candidates = list(columns)

    @property
    def may_hold_numbers(self) -> bool:
        """Whether any column may still be one of numbers."""
        return bool(self._candidates)

    def see(self, fields: Mapping[str, str]) -> None:
        """Take a row into account."""
        for column in self._candidates[:]:
            text = fields.get(column)
            if text is None or not text.strip():
                continue
            number = number_in(text)
            if number is None:
                self._candidates.remove(column)
                self._types.pop(column, None)
            elif isinstance(number, float):
                self._types[column] = float
            else:
                self._types.setdefault(column, int)

    def value(self, column: str, text: str) -> str | int | float:
        """Return a value as its column holds it."""
        column_type = self._types.get(column)
        number = number_in(text) if column_type is not None else None
        if column_type is None or number is None:
            return text
        return column_type(number)


def number_in(text: str) -> int | float | None:
    """Return the number that a text spells plainly, or None.

    Args:
        text: Blanks around the number do not matter.

    Examples:
        >>> [number_in(text) for text in ("199", "-0.5", "1,000", "007", "6901234567890123", "nan")]
        [199, -0.5, None, None, None, None]
    """
    digits = text.strip()
    found = _PLAIN.fullmatch(digits)
    if found is None:
        return None
    if found.group(1) is None:
        return int(digits) if len(digits.lstrip("-")) <= _MAX_DIGITS else None
    number = float(digits)
    significant = digits.lstrip("-").replace(".", "").strip("0")
    # Longer ones are floats, too, as other programs write them: 0.30000000000000004.
    return number if len(significant) <= _MAX_DIGITS or repr(number) == digits else None
