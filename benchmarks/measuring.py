"""Helpers for measurements: the order of contenders, and peak memory."""

from __future__ import annotations

import random
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def shuffled_rounds(names: Collection[str], rounds: Iterable[T], order: random.Random) -> Iterator[tuple[str, T]]:
    """Yield each round with every name, in random order, so that a slow phase of the machine slows all contenders."""
    for this_round in rounds:
        for name in order.sample(list(names), len(names)):
            yield name, this_round


def peak_bytes() -> int | None:
    """Return the peak memory of this process in bytes, or None if the system does not report it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "darwin":
        # On Linux getrusage reports at least the peak of the process that started this one.
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None
