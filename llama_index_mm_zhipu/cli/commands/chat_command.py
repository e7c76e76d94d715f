"""``mmzhipu chat``: a conversation about the images of an index."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from llama_index_mm_zhipu.cli.answers import print_answer
from llama_index_mm_zhipu.cli.console import Console, ExitStatus
from llama_index_mm_zhipu.cli.errors import explained
from llama_index_mm_zhipu.cli.opening import open_service
from llama_index_mm_zhipu.service.answers import ChatSession
from llama_index_mm_zhipu.service.errors import is_expected

_PROMPT = "> "
_EXIT = ("/exit", "/quit")
_COMMAND = re.compile(r"/[a-z]+")


def run(options: argparse.Namespace, console: Console) -> int:
    """Answer messages until the input ends.

    Returns:
        ``ExitStatus.ERROR`` if the messages came from a pipe and one of them was not answered.
    """
    is_typed = sys.stdin.isatty()
    service = open_service(options, console)
    try:
        chat = service.chat(similarity_top_k=options.top_k, filters=options.filter)
        if is_typed:
            console.note(console.wording.chat_help)
        is_answered = _answer_all(chat, console)
    finally:
        service.close()
    return ExitStatus.DONE if is_typed or is_answered else ExitStatus.ERROR


def _answer_all(chat: ChatSession, console: Console) -> bool:
    """Obey commands and answer messages; return whether all could be obeyed and answered."""
    wording = console.wording
    image: Path | None = None
    errors = 0
    for line in _lines():
        command, _, rest = line.partition(" ")
        if command in _EXIT:
            break
        if command == "/help":
            console.note(wording.chat_help)
        elif command == "/clear":
            chat.clear()
            console.note(wording.chat_cleared)
        elif command == "/image":
            image = _file_at(rest.strip())
            if image is None:
                errors += 1
                console.error(wording.chat_no_file.format(path=rest.strip()))
        elif _COMMAND.fullmatch(command):
            errors += 1
            console.error(f"{wording.chat_unknown.format(command=command)} {wording.chat_help}")
        else:
            errors += not _answer(chat, line, image, console)
            image = None
    return not errors


def _answer(chat: ChatSession, message: str, image: Path | None, console: Console) -> bool:
    """Answer a message; return whether that was possible."""
    try:
        print_answer(chat.ask(message, image), console)
    except BrokenPipeError:
        raise
    except Exception as error:
        if not is_expected(error):
            raise
        # The conversation goes on: the next message may be answered.
        console.error(explained(error, console.wording))
        return False
    return True


def _file_at(typed: str) -> Path | None:
    """Return the file at a path as it is typed, or as terminals write that of a file dropped on them; None if none is.

    They put it in quotation marks, or backslashes before its spaces, which are part of any path on Windows.
    """
    spellings = [typed]
    with suppress(ValueError):
        spellings += shlex.split(typed)[:1]
    if typed[:1] == typed[-1:] and typed[:1] in ("'", '"'):
        spellings.append(typed[1:-1])
    paths = (Path(spelling).expanduser() for spelling in spellings if spelling)
    return next((path for path in paths if path.is_file()), None)


def _lines() -> Iterator[str]:
    """Yield the messages that are typed, or the lines of a pipe, without blank ones."""
    is_typed = sys.stdin.isatty()
    if is_typed:
        with suppress(ImportError):
            # Gives input() a history and editing; Windows has its own.
            import readline  # noqa: F401
    while True:
        prompt = _PROMPT if is_typed else ""
        if not sys.stdout.isatty():
            # A pipe gets the answers alone.
            print(prompt, end="", file=sys.stderr, flush=True)
            prompt = ""
        try:
            line = input(prompt)
        except EOFError:
            return
        if line.strip():
            yield line.strip()
