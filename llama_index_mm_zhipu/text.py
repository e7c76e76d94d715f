"""Text helpers: lone surrogates, one-line messages, CJK character ranges and detection of binary data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from unicodedata import east_asian_width

CJK_RANGES = "\u2e80-\u2fdf\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
"""Ranges for a regular expression: Han with its extensions and 〇, kana and hangul."""

_MAX_LINE_LENGTH = 300

# PDF and Office files. Other binary files are recognised by their control characters.
_BINARY_PREFIXES = ("%PDF-", "PK\x03\x04")
# Text may contain a few: PDF readers write "\0" for ligatures, terminals write colours with "\x1b".
_UNUSUAL_CONTROLS = re.compile(r"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
_MAX_CONTROL_SHARE = 0.05
_SAMPLE_LENGTH = 4096


def replace_lone_surrogates(text: str) -> str:
    """Return the text with U+FFFD in place of each lone surrogate.

    JSON escapes and PDF readers can produce lone surrogates, which cannot be encoded as UTF-8 and therefore cannot be
    written to a file, a database or a request. A high surrogate followed by a low one becomes the character that they
    encode.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass
class SurrogateReplacer:
    """Incremental ``replace_lone_surrogates`` for streamed text, where a pair may be split between two pieces."""

    _pending: str = ""

    def add(self, piece: str, *, last: bool) -> str:
        """Add a piece and return the text that is complete so far.

        Args:
            piece: The next piece of the stream.
            last: Whether the stream ends with this piece. Otherwise a high surrogate at its end is held back until
                the next piece shows whether a low one follows.
        """
        text = self._pending + piece
        is_split = not last and "\ud800" <= text[-1:] <= "\udbff"
        self._pending = text[-1:] if is_split else ""
        return replace_lone_surrogates(text[:-1] if is_split else text)


def one_line(text: str) -> str:
    """Return the text as one line of at most 301 characters, for messages.

    Unprintable characters, line breaks included, are escaped; the middle of a longer text is replaced by ``…``.
    """
    if not text.isprintable():
        text = "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
        )
    if len(text) <= _MAX_LINE_LENGTH:
        return text
    half = _MAX_LINE_LENGTH // 2
    return f"{text[:half]}…{text[-half:]}"


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: Chinese characters take two."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 image`` or ``1,389 images``.

    Args:
        number: How many.
        noun: The singular of a noun whose plural ends in s.
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def readable_size(number: float) -> str:
    """Return a number of bytes with its unit, such as ``24.4 MB``."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def looks_binary(text: str) -> bool:
    """Return whether a text, judged by its first 4,096 characters, is a binary file decoded as text."""
    sample = text[:_SAMPLE_LENGTH]
    if sample.startswith(_BINARY_PREFIXES):
        return True
    return len(_UNUSUAL_CONTROLS.findall(sample)) > _MAX_CONTROL_SHARE * len(sample)
