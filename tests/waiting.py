"""Waits for conditions that other threads and processes fulfil, with a timeout for busy machines."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 300.0
"""Timeout in seconds. It is longer than anything takes on a busy machine, and shorter than pytest's timeout."""


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait until a condition holds or the time is over; return whether it holds."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return condition()
