"""Text layers of pages, as they are shown and searched."""

from __future__ import annotations

import re
from itertools import pairwise

from llama_index_mm_zhipu.scripts import UNSPACED

_CHARACTER = re.compile(f"[{UNSPACED}]")
_FULL = 0.8
"""Share of the longest line from which on a line may have been broken for lack of room."""


def tidied(text: str) -> str:
    """Return a text layer without blank lines and pdfium's marks at hyphens, Chinese sentences in one line.

    A line that reaches the margin and ends within Chinese goes on in the next one: words and sentences stay whole.
    """
    lines = [line.strip().replace("\ufffe", "-").replace("\x02", "-") for line in text.splitlines()]
    lines = [line for line in lines if line]
    margin = _FULL * max(map(_width, lines), default=0)
    whole = ""
    for line, following in pairwise([*lines, ""]):
        goes_on = _width(line) >= margin and _CHARACTER.match(line[-1]) and _CHARACTER.match(following)
        whole += line if goes_on else f"{line}\n"
    return whole.strip()


def _width(line: str) -> int:
    return len(line) + len(_CHARACTER.findall(line))
