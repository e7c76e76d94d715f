"""Errors whose messages tell users what to do, for programs that show them in one line."""

from __future__ import annotations

_EXPECTED = frozenset({"GLMError", "ImportError", "LookupError", "OSError", "RuntimeError", "ValueError"})
"""Classes by name: bad input, missing extras, stores, models, the API. Importing some of them is slow."""


def is_expected(error: Exception) -> bool:
    """Return whether the message of an error tells what to do; others are faults of this package."""
    return not _EXPECTED.isdisjoint(class_names(error))


def class_names(error: Exception) -> list[str]:
    """Return the names of an error's class and its base classes."""
    return [each.__name__ for each in type(error).__mro__]


def message_of(error: Exception) -> str:
    """Return the message of an error in one line; its class if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
