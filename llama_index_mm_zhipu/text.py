"""Helpers for text."""

from __future__ import annotations

import re
from dataclasses import dataclass


def replace_lone_surrogates(text: str) -> str:
    """Return a text with U+FFFD for each half of a surrogate pair.

    JSON can spell such halves, and readers of PDF files give them; no file, database or request can hold them.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass
class SurrogateReplacer:
    """As ``replace_lone_surrogates``, of a text that comes in pieces: a pair may be cut between two of them."""

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
        return replace_lone_surrogates(text[:-1] if is_cut else text)


CJK_RANGES = "\u2e80-\u2fdf\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
"""Han with its extensions and 〇, kana and hangul: scripts whose words are not set apart."""


# Of PDF and of Office files; other binary files are known by their control characters.
_BINARY_STARTS = ("%PDF-", "PK\x03\x04")
# Extracted text and logs hold some: PDF readers give "\0" for ligatures, terminals colours with "\x1b".
_UNUSUAL_CONTROLS = re.compile(r"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
_MAX_CONTROL_SHARE = 0.05
_SAMPLE_CHARACTERS = 4096


def looks_binary(text: str) -> bool:
    """Whether a text is the bytes of a binary file, by its beginning."""
    sample = text[:_SAMPLE_CHARACTERS]
    if sample.startswith(_BINARY_STARTS):
        return True
    return len(_UNUSUAL_CONTROLS.findall(sample)) > _MAX_CONTROL_SHARE * len(sample)
