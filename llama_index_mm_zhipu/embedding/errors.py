"""What can go wrong with a model."""

from __future__ import annotations


class CheckpointError(ValueError):
    """Weights could not be found, fetched or loaded. The message names the file and says what to do."""


class BackendError(ValueError):
    """This machine cannot run a model as asked. The message says what to take instead, or what to install."""
