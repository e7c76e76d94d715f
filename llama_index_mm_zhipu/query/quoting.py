"""Captions, texts and metadata as data in prompts: quoted, so that nothing in them passes for a label or a rule."""

from __future__ import annotations

import re
import unicodedata

from llama_index_mm_zhipu.text import with_whole_characters
from llama_index_mm_zhipu.prompts.wording import Wording

# Emoji of several people and flags are joined by these; other characters without a shape can hide words, or turn their
# order round.
_JOINERS = "\u200c\u200d"
_HIDDEN = frozenset({"Cc", "Cf", "Co"})
# Versions of banks below 2.5 read an image block, with the path of any file, out of a value that is so marked.
_BLOCK = re.compile(r"<(?=/?\s*content_block)", re.IGNORECASE)


def without_hidden_characters(text: str) -> str:
    """Return a text without controls, marks of direction and other characters that nobody sees; line ends stay."""
    shown = (
        character
        for character in with_whole_characters(text)
        if character in _JOINERS or character in "\n\t" or unicodedata.category(character) not in _HIDDEN
    )
    return without_block_marks("".join(shown))


def without_block_marks(text: str) -> str:
    """Return a text in which no template engine finds an image block."""
    return _BLOCK.sub("＜", text)


def in_one_line(text: str) -> str:
    """Return a text, such as a metadata value, as a line without hidden characters."""
    # Python and models know more line ends than "\n".
    return " ".join(without_hidden_characters(" ".join(text.split())).split())


def quoted(text: str, wording: Wording) -> str:
    """Return a caption in quotation marks, on one line; marks inside become inner ones, so that none ends it early."""
    opening, closing = wording.quotes
    inner = str.maketrans({opening: wording.inner_quotes[0], closing: wording.inner_quotes[1]})
    return f"{opening}{in_one_line(text).translate(inner)}{closing}"


def as_quoted_lines(text: str) -> str:
    """Return a text whose every line begins with ``> ``, as quotations in mail do."""
    return "\n".join(f"> {without_hidden_characters(line)}" for line in text.splitlines())
