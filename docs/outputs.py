"""Outputs in the documentation: what differs from run to run and from machine to machine."""

from __future__ import annotations

import re

SOURCE_HASH = re.compile(r"(?<=-)[0-9a-f]{6}(?=/)")
"""The hash of a folder's path in node ids; the code runs in another folder each time."""

SHOWN_HASH = "5de34d"
"""What outputs show instead."""

_DURATION = re.compile(r"\d+\.\d(?= (?:s\b|秒))")
_SCORE = re.compile(r"(?<=\d\.\d\d)\d\d+\b")
_SIZE = re.compile(r"\d+\.\d(?= [kM]B)|(?<=\"bytes\": )\d+")
_VARYING = (_DURATION, SOURCE_HASH, _SCORE, _SIZE)


def comparable(text: str) -> str:
    """Return outputs without what differs from run to run."""
    for pattern in _VARYING:
        text = pattern.sub("…", text)
    return text
