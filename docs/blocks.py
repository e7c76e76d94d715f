"""Fenced blocks of Markdown files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# A fence begins a line, may be indented (in lists and admonitions), and ends with the same indentation and length.
_FENCE = re.compile(
    r"^(?P<indent>[ ]*)(?P<fence>```+)(?P<language>[\w-]*)(?P<attributes>[^\n`]*)\n"
    r"(?P<code>.*?)^(?P=indent)(?P=fence)[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r'title="([^"]*)"')


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: The word behind the fence, such as ``python``; empty without one.
        title: The ``title`` behind the language: the name of a file, or what the block is; empty without one.
        code: The lines between the fences, without the indentation of the fences.
        start: Position of the fence's line in the text.
        end: Position behind the last fence.
        indent: Blanks before the fence.
    """

    language: str
    title: str
    code: str
    start: int
    end: int
    indent: str


def blocks_in(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a Markdown text."""
    for match in _FENCE.finditer(text):
        title = _TITLE.search(match["attributes"])
        lines = match["code"].splitlines(keepends=True)
        code = "".join(line.removeprefix(match["indent"]) for line in lines)
        yield Block(match["language"], title[1] if title else "", code, match.start(), match.end(), match["indent"])


def changed_outside(code: re.Pattern[str], text: str, change: Callable[[str], str]) -> str:
    """Return a text in which all that a pattern does not match is changed, such as prose outside of code."""
    parts, position = [], 0
    for match in code.finditer(text):
        parts += [change(text[position : match.start()]), match[0]]
        position = match.end()
    return "".join([*parts, change(text[position:])])


def with_model(code: str, model: str) -> str:
    """Return code in which a model takes the place of ViT-B-16, whose weights have to be downloaded."""
    return code.replace('"ViT-B-16"', repr(model))


def without_blocks(text: str) -> str:
    """Return a Markdown text without its fenced blocks."""
    for block in reversed(list(blocks_in(text))):
        text = text[: block.start] + text[block.end :]
    return text


def code_blocks(document: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language in a Markdown file."""
    return [block.code for block in blocks_in(document.read_text(encoding="utf-8")) if block.language == language]


def python_program(document: Path, model: str) -> str:
    """Return the Python blocks of a Markdown file as one program in which a model name replaces ViT-B-16."""
    return with_model("\n".join(code_blocks(document, "python")), model)


def without_comments(code: str) -> str:
    """Return code without comments, which each language has its own."""
    return re.sub(r"^ *#.*\n|[ ]+#.*", "", code, flags=re.MULTILINE)
