"""Where the command writes: results on stdout, everything else on stderr."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from llama_index_mm_zhipu.cli.wording import CliWording
from llama_index_mm_zhipu.types import Language

PACKAGE = __package__.partition(".")[0]

_BOLD, _PLAIN = "\033[1m", "\033[0m"


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
        """Write a piece of an answer, without an end of line."""
        print(text, end="", flush=True)

    def data(self, value: Mapping[str, Any]) -> None:
        """Write a JSON line."""
        print(json.dumps(value, ensure_ascii=False), flush=True)

    def note(self, text: str) -> None:
        """Write a line for people on stderr."""
        print(text, file=sys.stderr, flush=True)

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
        is_plain = not self.is_terminal or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return text if is_plain else f"{_BOLD}{text}{_PLAIN}"


def make_output_safe() -> None:
    """Keep consoles whose encoding lacks a character from losing results: it is replaced by ``?``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def log_to(console: Console) -> None:
    """Write the log messages of this package on stderr, one line each."""
    logger = logging.getLogger(PACKAGE)
    logger.setLevel(logging.INFO if console.is_verbose else logging.WARNING)
    logger.handlers = [_Handler(console)]
    logger.propagate = False


class _Handler(logging.Handler):
    """Writes messages above progress bars."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        # Loads tqdm, which only commands with progress bars need.
        from llama_index_mm_zhipu.reporting import report

        message = record.getMessage()
        if message.startswith("skipped "):
            # The commands list what was skipped at their end.
            return
        report(self._console.wording.warning.format(message=message) if record.levelno >= logging.WARNING else message)
