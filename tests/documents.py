"""Extracts code from Markdown files."""

from __future__ import annotations

import re
from pathlib import Path


def code_blocks(document: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language in a Markdown file."""
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(encoding="utf-8"), flags=re.DOTALL)


def python_program(document: Path, model: str) -> str:
    """Return the Python blocks of a Markdown file as one program in which a model name replaces ViT-B-16."""
    return "\n".join(code_blocks(document, "python")).replace('"ViT-B-16"', repr(model))
