"""Entry point of the command: languages, errors and exit statuses."""

# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from llama_index_mm_zhipu.cli.console import Console, log_to, make_output_safe
from llama_index_mm_zhipu.cli.parser import USAGE_ERROR, build_parser, language_in
from llama_index_mm_zhipu.cli.wording import WORDING, CliWording, language_of_environment
from llama_index_mm_zhipu.service.errors import class_names, is_expected, message_of
from llama_index_mm_zhipu.types import Language

NOTHING_FOUND = 1
"""Exit status if a search found nothing, or a check failed."""

_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The arguments of the command line, without the name of the program.

    Returns:
        Exit status: 0, 1 if nothing was found, 2 for wrong usage or bad input, 130 after Ctrl-C.
    """
    make_output_safe()
    given = sys.argv[1:] if arguments is None else list(arguments)
    wording, language = _wording_for(given)
    parser = build_parser(wording)
    if "_ARGCOMPLETE" in os.environ:
        # The shell asks for completions, which needs the package argcomplete.
        import_module("argcomplete").autocomplete(parser)
    if not given:
        parser.print_help()
        return USAGE_ERROR
    options = parser.parse_args(given)
    console = Console(
        wording, language, is_json=getattr(options, "json", False), is_verbose=getattr(options, "verbose", False)
    )
    log_to(console)
    return _run(options, console)


def _wording_for(arguments: Sequence[str]) -> tuple[CliWording, Language]:
    asked = language_in(arguments)
    # The parser refuses other languages.
    language: Language = asked if asked in ("zh", "en") else language_of_environment()  # type: ignore[assignment]
    return WORDING[language], language


def _run(options: argparse.Namespace, console: Console) -> int:
    try:
        command = import_module(f"llama_index_mm_zhipu.cli.commands.{options.command}_command")
        status: int = command.run(options, console)
    except KeyboardInterrupt:
        is_index = options.command == "index"
        console.note("\n" + (console.wording.interrupted_index if is_index else console.wording.interrupted))
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has ended, as head does. Python would complain at exit if it could not flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except Exception as error:
        if console.is_verbose:
            raise
        _explain(error, console)
        return USAGE_ERROR
    return status


def _explain(error: Exception, console: Console) -> None:
    """Write an error in one line: what happened and what to do."""
    names, message = class_names(error), message_of(error)
    if not is_expected(error):
        console.error(console.wording.unexpected.format(type=names[0], message=message))
        return
    reasons = console.wording.reasons
    template = next((reasons[name] for name in names if name in reasons), "{message}")
    console.error(template.format(message=message))
