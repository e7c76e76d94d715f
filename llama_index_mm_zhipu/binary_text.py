"""Texts that are the bytes of a binary file, as readers give them that take every file for text."""

from __future__ import annotations

import re

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
