"""Helpers for text."""

from __future__ import annotations

from dataclasses import dataclass


def with_whole_characters(text: str) -> str:
    """Return a text with U+FFFD for each half of a surrogate pair.

    JSON can spell such halves, and readers of PDF files give them; no file, database or request can hold them.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass
class WholeCharacters:
    """As ``with_whole_characters``, of a text that comes in pieces: a pair may be cut between two of them."""

    _held: str = ""

    def add(self, piece: str, *, last: bool) -> str:
        """Take a piece and return what can be said of the text for sure.

        Args:
            piece: The next piece, as it came.
            last: Whether it is the last one: then the first half of a pair is not held back for the second.
        """
        text = self._held + piece
        is_cut = not last and "\ud800" <= text[-1:] <= "\udbff"
        self._held = text[-1:] if is_cut else ""
        return with_whole_characters(text[:-1] if is_cut else text)
