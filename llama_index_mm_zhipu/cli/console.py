"""Where the command writes: results on stdout, everything else on stderr."""

from __future__ import annotations

import io
import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

from llama_index_mm_zhipu.cli.wording import CliWording
from llama_index_mm_zhipu.types import Language

PACKAGE = __package__.partition(".")[0]

_LISTED_MESSAGES = ("skipped ", "the answer cites ")
_BOLD, _PLAIN = "\033[1m", "\033[0m"
# Answers and messages may hold any characters; these could move the cursor or change colours and titles.
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


class ExitStatus(IntEnum):
    """What the command tells its caller.

    Attributes:
        DONE: The command did what it was asked.
        NOTHING_FOUND: A search found nothing, or a check of ``doctor`` failed.
        ERROR: Wrong usage, bad input, or a failure.
        INTERRUPTED: The user pressed Ctrl-C.
        BROKEN_PIPE: The reader of the output ended, as ``head`` does.
    """

    DONE = 0
    NOTHING_FOUND = 1
    ERROR = 2
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class Console:
    """Output of one run of the command.

    Args:
        wording: The words to use.
        language: Their language.
        is_json: Whether results are JSON lines.
        is_verbose: Whether log messages of level INFO are shown, and tracebacks.
    """

    def __init__(
        self, wording: CliWording, language: Language, *, is_json: bool = False, is_verbose: bool = False
    ) -> None:
        self.wording = wording
        self.language: Language = language
        self.is_json = is_json
        self.is_verbose = is_verbose
        self._noted: set[str] = set()

    @property
    def is_terminal(self) -> bool:
        """Whether results go to a terminal."""
        return sys.stdout.isatty()

    @property
    def shows_progress(self) -> bool:
        """Whether progress bars are shown: only where they can be redrawn."""
        return sys.stderr.isatty()

    def result(self, text: str) -> None:
        """Write a line of the result."""
        print(text, flush=True)

    def piece(self, text: str) -> None:
        """Write a piece of an answer, without its control characters and without an end of line."""
        print(text.translate(_CONTROLS), end="", flush=True)

    def data(self, value: Mapping[str, Any]) -> None:
        """Write a JSON line; characters that the output cannot encode are escaped."""
        text = json.dumps(value, ensure_ascii=False)
        try:
            text.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            text = json.dumps(value)
        print(text, flush=True)

    def note(self, text: str) -> None:
        """Write a line for people on stderr, without control characters."""
        print(text.translate(_CONTROLS), file=sys.stderr, flush=True)

    def note_once(self, text: str) -> None:
        """Write a line for people on stderr, unless it was written before."""
        if text not in self._noted:
            self._noted.add(text)
            self.note(text)

    def error(self, message: str) -> None:
        """Write an error on stderr."""
        self.note(self.wording.error.format(message=message))

    def bold(self, text: str) -> str:
        """Return a text in bold, on a terminal that has colours."""
        return f"{_BOLD}{text}{_PLAIN}" if self.is_terminal and _has_colours() else text


def shell_quoted(text: str) -> str:
    """Return an argument as it is typed in the shell of the system."""
    if os.name == "nt":
        return f'"{text}"' if " " in text else text
    return shlex.quote(text)


def _has_colours() -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    # The older console of Windows shows the codes, unless a program switches them on.
    return os.name != "nt" or "WT_SESSION" in os.environ


def make_streams_safe() -> None:
    """Keep streams that are closed, and consoles whose encoding lacks a character, from ending the command.

    In output such characters become ``?``; bytes of the input that are not in its encoding are kept as Python keeps
    those of file names.
    """
    for name, errors in (("stdin", "surrogateescape"), ("stdout", "replace"), ("stderr", "replace")):
        stream = getattr(sys, name)
        if stream is None:
            # The shell closed it (>&-), or there is none, as for programs without a window.
            nowhere = Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, nowhere)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def hide_progress_bars() -> None:
    """Have tqdm show no bars but those that are asked for, if it is not loaded yet, as in a run of the command.

    A model that is converted for OpenVINO has a bar that nothing else switches off.
    """
    if "tqdm" not in sys.modules:
        os.environ.setdefault("TQDM_DISABLE", "1")


@contextmanager
def logging_to(console: Console, listed: Sequence[str] = ()) -> Iterator[None]:
    """Write the log messages of this package on stderr inside the block, one line each.

    Args:
        console: Where to write.
        listed: Parts of the package whose messages about skipped items and unknown citations are left out, because the
            result of the command lists these.
    """
    logger = logging.getLogger(PACKAGE)
    level, handlers, propagate = logger.level, logger.handlers, logger.propagate
    logger.setLevel(logging.INFO if console.is_verbose else logging.WARNING)
    logger.handlers = [_Handler(console, tuple(f"{PACKAGE}.{part}." for part in listed))]
    logger.propagate = False
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.handlers, logger.propagate = handlers, propagate


class _Handler(logging.Handler):
    """Writes messages above progress bars."""

    def __init__(self, console: Console, listed: tuple[str, ...]) -> None:
        super().__init__()
        self._console = console
        self._listed = listed

    def emit(self, record: logging.LogRecord) -> None:
        # Loads tqdm, which only commands with progress bars need.
        from llama_index_mm_zhipu.reporting import WORDING_KEY, report

        message = record.getMessage()
        if record.name.startswith(self._listed) and message.startswith(_LISTED_MESSAGES):
            return
        if (key := getattr(record, WORDING_KEY, None)) is not None:
            message = self._console.wording.warnings[key].format(*record.args or ())
        report(self._console.wording.warning.format(message=message) if record.levelno >= logging.WARNING else message)
