"""The error of all pictures that cannot be had."""

from __future__ import annotations


class ImageError(ValueError):
    """A picture could not be found, fetched or decoded. The message names it and says what to do."""
