"""The error of a data set's record."""

from __future__ import annotations


class RecordError(ValueError):
    """A record of a data set cannot be used. The message names file and line, and says what is wrong."""
