"""Pillow's warnings about files, kept from users' consoles without touching those of other code."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_opening = threading.local()
_inserting = threading.Lock()


class _PillowInThisThread:
    """Stands for a regular expression of module names in a filter: Pillow's, while this thread opens an image."""

    def match(self, module: str) -> bool:
        return getattr(_opening, "depth", 0) > 0 and module.startswith("PIL.")


# ``warnings.catch_warnings`` changes the filters of all threads, and may restore those of another thread. This filter
# may stay: it only ever matches in threads that are inside of ``pillow_warnings_ignored``.
_FILTER: Any = ("ignore", None, Warning, _PillowInThisThread(), 0)


@contextmanager
def pillow_warnings_ignored() -> Iterator[None]:
    """Ignore what Pillow warns of in this thread: odd tags and damaged metadata, which the pixels do not depend on."""
    if getattr(sys.flags, "context_aware_warnings", False):
        # Python 3.14 can keep the filters of threads apart.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
        return
    _put_filter_first()
    _opening.depth = getattr(_opening, "depth", 0) + 1
    try:
        yield
    finally:
        _opening.depth -= 1


def _put_filter_first() -> None:
    """Put the filter before those that were added since, such as ``error`` within ``catch_warnings``."""
    filters: Any = warnings.filters
    if filters and filters[0] is _FILTER:
        return
    with _inserting:
        filters.insert(0, _FILTER)
        for position in range(len(filters) - 1, 0, -1):
            if filters[position] is _FILTER:
                del filters[position]
