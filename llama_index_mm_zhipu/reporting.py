"""Reports to the user: progress lines on stderr, skipped items, and less logging by other packages."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tqdm.auto import tqdm

SLOW_SECONDS = 2.0
"""After so long people wonder what is going on."""

_quiet: dict[logging.Logger, tuple[int, int]] = {}
_quiet_lock = threading.Lock()


_LISTED = 20


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
        """Return one line with the counts and the first reasons.

        Args:
            total: How many items there were, skipped or not.
            what: Plural name of the items.
        """
        listed = [f"{name}: {reason}" for name, reason in list(self.items())[:_LISTED]]
        more = [f"and {self.count - len(listed)} more"] if self.count > len(listed) else []
        return f"skipped {self.count} of {total} {what}: " + "; ".join([*listed, *more])


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
def errors_only(*logger_names: str) -> Iterator[None]:
    """Keep what other packages log below errors from the user while they work for us, in however many threads.

    Args:
        *logger_names: Loggers; those below them follow.
    """
    with ExitStack() as stack:
        for name in logger_names:
            stack.enter_context(_errors_only(logging.getLogger(name)))
        yield


@contextmanager
def _errors_only(logger: logging.Logger) -> Iterator[None]:
    # The level is the process's: the first that comes in changes it, the last that leaves restores it.
    with _quiet_lock:
        count, level = _quiet.get(logger, (0, logger.level))
        _quiet[logger] = (count + 1, level)
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        with _quiet_lock:
            count, level = _quiet.pop(logger)
            if count > 1:
                _quiet[logger] = (count - 1, level)
            else:
                logger.setLevel(level)
