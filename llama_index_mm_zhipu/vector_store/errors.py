"""What the store raises about its files and its model."""

from __future__ import annotations


class StoreError(RuntimeError):
    """A store's files cannot be opened, read or written. The message names the file and says what to do."""


class ModelMismatchError(ValueError):
    """A store was filled with one embedding model and asked with another."""
