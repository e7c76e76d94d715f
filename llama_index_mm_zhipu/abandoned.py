"""What processes that were killed left in a folder that others use too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

_ABANDONED_SECONDS = 3600.0


def abandoned(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield the files and folders of a pattern that nobody changed for an hour: younger ones may be in work.

    Args:
        folder: Where they lie; it need not exist.
        pattern: As for ``Path.glob``.
    """
    for path in folder.glob(pattern):
        try:
            unchanged = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            # Another process has just removed it, or finished it under its own name.
            continue
        if unchanged > _ABANDONED_SECONDS:
            yield path
