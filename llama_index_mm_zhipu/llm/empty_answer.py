"""The error of an answer that says nothing, of whatever LLM."""

from __future__ import annotations


class EmptyAnswerError(RuntimeError):
    """The model was asked and answered nothing."""
