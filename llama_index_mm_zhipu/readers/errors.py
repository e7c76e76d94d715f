"""Errors of readers."""

from __future__ import annotations


class RecordError(ValueError):
    """A record of a data set cannot be used. The message names file and line, and says what is wrong."""


class EmptySourceError(ValueError):
    """A folder or file holds no image. The message says what was expected."""
