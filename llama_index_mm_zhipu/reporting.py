"""Reports to the user: progress lines on stderr, skipped items, and less logging by other packages."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tqdm.auto import tqdm

from llama_index_mm_zhipu.text import one_line

SLOW_SECONDS = 2.0
"""Time after which ``reported_when_slow`` prints its message."""

WORDING_KEY = "wording_key"
"""Attribute of the log records that the command says in its own words, with the arguments of the record."""

_MAX_LISTED = 20

# How many threads keep a logger quiet, and the level to restore.
_quiet_loggers: dict[logging.Logger, tuple[int, int]] = {}
_quiet_lock = threading.Lock()


class Skipped(dict[str, str]):
    """The items that were left out, with the reason for each.

    Keys are node ids, file names or record positions, in the order in which the items were skipped.

    Args:
        max_listed: How many reasons to keep; ``None`` keeps all. ``count`` includes those that are not kept.
    """

    def __init__(self, max_listed: int | None = None) -> None:
        super().__init__()
        self.count = 0
        self._max_listed = max_listed

    def add(self, name: str, reason: str) -> None:
        """Record an item and the reason why it was skipped."""
        self.count += 1
        if self._max_listed is None or len(self) < self._max_listed:
            self[name] = reason

    def summary(self, total: int, what: str = "images") -> str:
        """Return one line with the counts and the first reasons, in which names are escaped.

        Args:
            total: How many items there were, skipped or not.
            what: Plural name of the items.
        """
        listed = [f"{one_line(name)}: {reason}" for name, reason in list(self.items())[:_MAX_LISTED]]
        more = [f"and {self.count - len(listed)} more"] if self.count > len(listed) else []
        return f"skipped {self.count} of {total} {what}: " + "; ".join([*listed, *more])


def report(message: str) -> None:
    """Print a line on stderr, above any progress bars there."""
    tqdm.write(message, file=sys.stderr)


@contextmanager
def reported_when_slow(message: str) -> Iterator[None]:
    """Print a line if the block takes longer than ``SLOW_SECONDS``."""
    timer = threading.Timer(SLOW_SECONDS, report, (message,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def errors_only(*logger_names: str) -> Iterator[None]:
    """Hide log records of other packages below level ERROR during the block. Blocks in several threads may overlap.

    Args:
        *logger_names: Names of the loggers. Their descendants inherit the level.
    """
    with ExitStack() as stack:
        for name in logger_names:
            stack.enter_context(_errors_only(logging.getLogger(name)))
        yield


@contextmanager
def _errors_only(logger: logging.Logger) -> Iterator[None]:
    # All threads share the level: the first block changes it, and the last one restores it.
    with _quiet_lock:
        count, level = _quiet_loggers.get(logger, (0, logger.level))
        _quiet_loggers[logger] = (count + 1, level)
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        with _quiet_lock:
            count, level = _quiet_loggers.pop(logger)
            if count > 1:
                _quiet_loggers[logger] = (count - 1, level)
            else:
                logger.setLevel(level)
