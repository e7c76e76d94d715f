"""What people are told while they wait: lines on stderr, and less of what other packages log."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

SLOW_SECONDS = 2.0
"""After so long people wonder what is going on."""


def report(message: str) -> None:
    """Print a line on stderr, above progress bars that are shown there."""
    tqdm.write(message, file=sys.stderr)


@contextmanager
def reported_when_slow(message: str) -> Iterator[None]:
    """Print a line if what happens inside takes longer than ``SLOW_SECONDS``."""
    timer = threading.Timer(SLOW_SECONDS, report, (message,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def errors_only(logger_name: str) -> Iterator[None]:
    """Keep another package's warnings from the user while it works for us; loggers below this one follow it."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
