"""The parser of the command line. Building it loads only the standard library."""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from llama_index_mm_zhipu import __version__
from llama_index_mm_zhipu.cli.columns import wrapped
from llama_index_mm_zhipu.cli.console import ExitStatus
from llama_index_mm_zhipu.cli.wording import CliWording
from llama_index_mm_zhipu.text import columns_of

PROGRAM = "mmzhipu"

_MAX_PORT = 65535

STORE_VARIABLE = "MMZHIPU_STORE"
DEFAULT_STORE = "mmzhipu_store"

MODES = ("default", "hybrid", "text_search", "mmr")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")

DATASETS = ("muge", "flickr30k-cn", "coco-cn", "flickr8k-cn", "chinese-clip", "jsonl", "folder")
"""Formats of ``evaluate``: the keys of ``evaluation.dataset.FORMATS``, which loads llama-index-core."""


INPUTS = {
    "index": ("PATH", "captions"),
    "search": ("image",),
    "ask": ("image",),
    "evaluate": ("PATH", "images"),
    "import": ("FOLDER",),
}
"""Arguments by command that name files and folders to read."""

SIDECAR = "sidecar"
"""Value of ``--captions`` for files beside the images: ``readers.folder.SIDECAR``, which loads llama-index-core."""


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose own words are in the language of the command."""

    def __init__(self, wording: CliWording, **options: Any) -> None:
        super().__init__(
            add_help=False,
            allow_abbrev=False,
            formatter_class=lambda prog: _Formatter(wording.usage, prog),
            **options,
        )
        self._wording = wording
        self.arguments = self.add_argument_group(wording.arguments)
        self.options = self.add_argument_group(wording.options)
        self.options.add_argument("-h", "--help", action="help", help=wording.help["help"])

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where the help is, and exit with ``ExitStatus.ERROR``."""
        for pattern, translation in self._wording.errors.items():
            message = re.sub(pattern, translation, message)
        hint = self._wording.see_help.format(program=self.prog)
        self.exit(ExitStatus.ERROR, f"{self._wording.error.format(message=message)}\n{hint}\n")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, usage: str, prog: str) -> None:
        # argparse counts the characters of the title, not its columns.
        columns = shutil.get_terminal_size().columns - (columns_of(usage) - len(usage))
        super().__init__(prog, max_help_position=30, width=columns - 2)
        self._usage_title = usage

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, self._usage_title if prefix is None else prefix)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrapped(text, width)


def default_store() -> Path:
    """Return the folder of the index if ``--store`` is not given: that of ``MMZHIPU_STORE``, or ``DEFAULT_STORE``."""
    return _path(os.environ.get(STORE_VARIABLE) or DEFAULT_STORE)


def build_parser(wording: CliWording) -> Parser:
    """Return the parser of all commands.

    Args:
        wording: The words of its help.
    """
    parser = Parser(wording, prog=PROGRAM, description=wording.description, epilog=wording.epilog)
    version = f"{PROGRAM} {__version__}"
    parser.options.add_argument("--version", action="version", version=version, help=wording.help["version"])
    _add_language(parser, wording)
    commands = parser.add_subparsers(title=wording.commands, dest="command", metavar=wording.command, required=True)
    for name, add in _COMMANDS.items():
        text = wording.help[name]
        of_command = commands.add_parser(name, wording=wording, help=text, description=text)
        of_command.set_defaults(parser=of_command)
        add(_Options(of_command, name, wording))
    return parser


def parse(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line.

    Args:
        parser: The parser of all commands.
        arguments: The command line.

    Raises:
        SystemExit: The usage is wrong, with ``ExitStatus.ERROR``; or the help was asked for, with 0.
    """
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        # argparse would refer to the help of the program, which does not explain the command.
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return options


def language_in(arguments: Sequence[str]) -> str | None:
    """Return the value of ``--lang``, which is needed before the parser is built."""
    for position, argument in enumerate(arguments):
        if argument.startswith("--lang="):
            return argument.partition("=")[2]
        if argument == "--lang" and position + 1 < len(arguments):
            return arguments[position + 1]
    return None


def _add_language(parser: Parser, wording: CliWording) -> None:
    parser.options.add_argument("--lang", choices=("zh", "en"), default=argparse.SUPPRESS, help=wording.help["lang"])


class _Options:
    """Adds arguments to the parser of a command, with the help that belongs to their names."""

    def __init__(self, parser: Parser, command: str, wording: CliWording) -> None:
        self._parser = parser
        self._command = command
        self._help = wording.help
        self._group: argparse._ActionsContainer = parser.options
        _add_language(parser, wording)
        self.flag("verbose", "-v")

    def argument(self, name: str, **options: Any) -> None:
        """Add a positional argument."""
        self._parser.arguments.add_argument(name, help=self._text(name.lower()), **options)

    def option(self, name: str, *short: str, **options: Any) -> None:
        """Add an option with a value; ``name`` without dashes."""
        self._group.add_argument(*short, f"--{name}", help=self._text(name), **options)

    def flag(self, name: str, *short: str) -> None:
        """Add an option without a value."""
        self.option(name, *short, action="store_true")

    @contextmanager
    def alternatives(self) -> Iterator[None]:
        """Add options inside the block of which only one can be given."""
        self._group = self._parser.options.add_mutually_exclusive_group()
        yield
        self._group = self._parser.options

    def store(self) -> None:
        """Add the option for the folder of the index."""
        self.option("store", type=_path, metavar="DIR", default=default_store())

    def model(self) -> None:
        """Add the options for the embedding model."""
        self.option("model", metavar="MODEL")
        self.option("device", default="auto", metavar="DEVICE")
        self.option("precision", choices=PRECISIONS)

    def question(self) -> None:
        """Add the options that choose the images for an answer, and the LLM."""
        self.option("top-k", "-k", type=_count, default=3, metavar="N")
        self.filters()
        self.llm()

    def filters(self) -> None:
        """Add the option for metadata filters."""
        self.option("filter", "-f", action="append", default=[], metavar="EXPR")

    def llm(self) -> None:
        """Add the options for the LLM that answers."""
        self.option("llm", metavar="MODEL")
        self.flag("mock")

    def shown(self) -> None:
        """Add the options for how results are shown."""
        # Images among the lines would not be JSON.
        with self.alternatives():
            self.flag("json")
            self.flag("show")
        self.flag("open")
        self.option("html", type=_path, metavar="FILE")

    def _text(self, name: str) -> str:
        # "%" would begin a field of argparse.
        text = self._help.get(f"{self._command}.{name}") or self._help[name]
        return text.replace("%", "%%").replace("%%(default)s", "%(default)s")


def _add_index(options: _Options) -> None:
    options.argument("PATH", type=_path, nargs="+")
    options.store()
    options.model()
    options.option("captions", metavar="CSV")
    options.option("name-column", default="file_name", metavar="NAME")
    options.option("caption-column", default="caption", metavar="NAME")
    options.flag("ocr")
    options.flag("remove-missing")
    options.flag("strict")
    options.flag("json")


def _add_search(options: _Options) -> None:
    options.argument("WORDS", nargs="*")
    with options.alternatives():
        options.option("image", "-i", metavar="FILE")
        options.option("like", metavar="ID")
    options.option("top-k", "-k", type=_count, default=5, metavar="N")
    options.filters()
    options.option("mode", choices=MODES)
    options.option("cutoff", type=float, metavar="COSINE")
    options.store()
    options.model()
    options.shown()


def _add_ask(options: _Options) -> None:
    options.argument("QUESTION", nargs="+")
    options.option("image", "-i", metavar="FILE")
    options.question()
    options.store()
    options.model()
    options.shown()


def _add_chat(options: _Options) -> None:
    options.question()
    options.store()
    options.model()
    options.flag("json")


def _add_mcp(options: _Options) -> None:
    options.flag("http")
    options.option("host", default="127.0.0.1")
    options.option("port", type=_port, default=8765)
    options.option("token", metavar="TOKEN")
    options.llm()
    options.store()
    options.model()


def _add_serve(options: _Options) -> None:
    options.option("host", default="127.0.0.1")
    options.option("port", type=_port, default=8766)
    options.option("token", metavar="TOKEN")
    options.flag("open")
    options.flag("read-only")
    options.flag("create")
    options.flag("ocr")
    options.llm()
    options.store()
    options.model()


def _add_info(options: _Options) -> None:
    options.store()
    options.flag("json")


def _add_evaluate(options: _Options) -> None:
    options.argument("DATASET", choices=DATASETS, metavar="DATASET")
    options.argument("PATH", type=_path)
    options.option("images", type=_path, metavar="DIR")
    options.option("split", metavar="NAME")
    options.option("model", default="ViT-B-16", metavar="MODEL")
    options.option("device", default="auto", metavar="DEVICE")
    options.option("index", type=_path, metavar="DIR")
    options.flag("skip")
    options.flag("json")


def _add_export(options: _Options) -> None:
    options.argument("FOLDER", type=_path)
    options.store()
    options.flag("float16")
    options.flag("json")


def _add_import(options: _Options) -> None:
    options.argument("FOLDER", type=_path)
    options.store()
    options.flag("json")


def _add_doctor(options: _Options) -> None:
    options.option("store", type=_path, metavar="DIR", default=None)
    options.option("model", metavar="MODEL")
    options.flag("offline")
    options.flag("json")


_COMMANDS = {
    "index": _add_index,
    "search": _add_search,
    "ask": _add_ask,
    "chat": _add_chat,
    "serve": _add_serve,
    "mcp": _add_mcp,
    "info": _add_info,
    "evaluate": _add_evaluate,
    "export": _add_export,
    "import": _add_import,
    "doctor": _add_doctor,
}


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)
