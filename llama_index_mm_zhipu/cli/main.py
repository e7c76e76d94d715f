"""Entry point of the command: languages, errors and exit statuses."""

# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from llama_index_mm_zhipu.cli.console import Console, ExitStatus, hide_progress_bars, logging_to, make_streams_safe
from llama_index_mm_zhipu.cli.errors import explained
from llama_index_mm_zhipu.cli.opening import require_inputs
from llama_index_mm_zhipu.cli.parser import build_parser, language_in, parse
from llama_index_mm_zhipu.cli.wording import WORDING, CliWording, language_of_environment
from llama_index_mm_zhipu.types import Language

_LISTED = {"index": ("readers", "index"), "ask": ("query",), "chat": ("query",)}
"""Parts of the package whose skipped items and unknown citations a command lists in its result."""

_CONTINUING = ("index", "export", "import")
"""Commands that continue where an interrupted run ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The arguments of the command line, without the name of the program.

    Returns:
        An ``ExitStatus``.

    Raises:
        SystemExit: The usage is wrong, with status 2; or the help was asked for, with status 0.
    """
    make_streams_safe()
    given = sys.argv[1:] if arguments is None else list(arguments)
    wording, language = _wording_for(given)
    parser = build_parser(wording)
    if "_ARGCOMPLETE" in os.environ:
        # The shell asks for completions, which needs the package argcomplete.
        import_module("argcomplete").autocomplete(parser)
    if not given:
        parser.print_help()
        return ExitStatus.ERROR
    options = parse(parser, given)
    console = Console(
        wording, language, is_json=getattr(options, "json", False), is_verbose=getattr(options, "verbose", False)
    )
    if not console.shows_progress:
        hide_progress_bars()
    with logging_to(console, _LISTED.get(options.command, ())):
        return _run(options, console)


def _wording_for(arguments: Sequence[str]) -> tuple[CliWording, Language]:
    asked = language_in(arguments)
    # The parser refuses other languages.
    language: Language = asked if asked in ("zh", "en") else language_of_environment()  # type: ignore[assignment]
    return WORDING[language], language


def _run(options: argparse.Namespace, console: Console) -> int:
    try:
        require_inputs(options, console)
        command = import_module(f"llama_index_mm_zhipu.cli.commands.{options.command}_command")
        status: int = command.run(options, console)
    except KeyboardInterrupt:
        wording = console.wording
        console.note("\n" + (wording.interrupted_continues if options.command in _CONTINUING else wording.interrupted))
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return ExitStatus.BROKEN_PIPE
    except Exception as error:
        if console.is_verbose:
            traceback.print_exc()
        console.error(explained(error, console.wording))
        return ExitStatus.ERROR
    return status


def _discard_output() -> None:
    """Send what is left to be written nowhere: Python would complain at exit that it cannot write it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
