"""Helpers for text."""

from __future__ import annotations


def with_whole_characters(text: str) -> str:
    """Return a text with U+FFFD for each half of a surrogate pair.

    JSON can spell such halves, and readers of PDF files give them; no file, database or request can hold them.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
