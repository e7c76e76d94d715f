"""``mmzhipu chat``: a conversation about the images of an index."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from llama_index_mm_zhipu.cli.answers import print_answer
from llama_index_mm_zhipu.cli.console import Console
from llama_index_mm_zhipu.cli.opening import open_service
from llama_index_mm_zhipu.images import ImageError
from llama_index_mm_zhipu.llm import GLMError
from llama_index_mm_zhipu.service.answers import ChatSession

_PROMPT = "> "
_EXIT = ("/exit", "/quit")


def run(options: argparse.Namespace, console: Console) -> int:
    """Answer messages until the input ends; return the exit status."""
    service = open_service(options, console)
    try:
        chat = service.chat(similarity_top_k=options.top_k, filters=options.filter)
        if sys.stdin.isatty():
            console.note(console.wording.chat_help)
        _answer_all(chat, console)
    finally:
        service.close()
    return 0


def _answer_all(chat: ChatSession, console: Console) -> None:
    image: Path | None = None
    for line in _lines():
        command, _, rest = line.partition(" ")
        if command in _EXIT:
            return
        if command == "/help":
            console.note(console.wording.chat_help)
        elif command == "/clear":
            chat.clear()
            console.note(console.wording.chat_cleared)
        elif command == "/image":
            image = Path(*shlex.split(rest)).expanduser()
            if not image.is_file():
                console.error(str(FileNotFoundError(2, "No such file", str(image))))
                image = None
        else:
            try:
                print_answer(chat.ask(line, image), console)
            except (GLMError, ImageError, ValueError) as error:
                # The conversation goes on: the next message may be answered.
                console.error(" ".join(str(error).split()))
            image = None


def _lines() -> Iterator[str]:
    """Yield the messages that are typed, or the lines of a pipe, without blank ones."""
    is_typed = sys.stdin.isatty()
    if is_typed:
        with suppress(ImportError):
            # Gives input() a history and editing; Windows has its own.
            import readline  # noqa: F401
    while True:
        try:
            # The prompt goes to stderr off a terminal, so that a pipe gets the answers alone.
            line = input(_PROMPT if is_typed and sys.stdout.isatty() else "")
        except EOFError:
            return
        if line.strip():
            yield line.strip()
