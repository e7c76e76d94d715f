"""Outputs in the documentation: what differs from run to run and from machine to machine."""

from __future__ import annotations

import re
from pathlib import Path

SOURCE_HASH = re.compile(r"(?<=-)[0-9a-f]{6}(?=/)")
"""The hash of a folder's path in node ids; the code runs in another folder each time."""

SHOWN_HASH = "5de34d"
"""What outputs show instead."""

SHOWN_FOLDER = "/home/me/work"
"""What outputs call the folder that the code runs in."""

_DURATION = re.compile(r"\d+\.\d(?= (?:s\b|秒))")
_SCORE = re.compile(r"(?<=\d\.\d\d)\d\d+\b")
_SIZE = re.compile(r"\d+\.\d(?= [kM]B)|(?<=\"bytes\": )\d+")
_VARYING = (_DURATION, SOURCE_HASH, _SCORE, _SIZE)


def shown(text: str, folder: Path) -> str:
    """Return an output of code that ran in a folder, with the names that pages show."""
    return SOURCE_HASH.sub(SHOWN_HASH, text.replace(str(folder), SHOWN_FOLDER))


def comparable(text: str) -> str:
    """Return outputs without what differs from run to run."""
    for pattern in _VARYING:
        text = pattern.sub("…", text)
    return text
