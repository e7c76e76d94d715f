"""What can go wrong with a model."""

from __future__ import annotations


def in_one_line(error: object, longest: int = 200) -> str:
    """Return what another library says as the detail of an error: one line of so many characters at most."""
    return " ".join(str(error).split())[:longest]


class CheckpointError(ValueError):
    """Weights could not be found, fetched or loaded. The message names the file and says what to do."""


class BackendError(ValueError):
    """This machine cannot run a model as asked. The message says what to take instead, or what to install."""
