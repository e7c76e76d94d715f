"""Waiting for what other threads and processes bring about, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 300.0
"""Seconds after which something hangs: far more than anything takes on a busy machine, below pytest's own timeout."""


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait for a condition that another thread or process brings about; return whether it holds."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return condition()
