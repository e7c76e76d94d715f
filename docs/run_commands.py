"""Run the commands on the pages of the documentation, and write their outputs below them.

Run with ``make docs``, or ``python docs/run_commands.py docs/zh/start.md`` for some pages; a test compares the outputs
with what this gives. A block begins with ``console``, and its commands with ``$ ``. The commands of a page are run in
turn in the folder that ``guide_folder.py`` makes.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from guide_folder import guide_folder
from outputs import shown

from llama_index_mm_zhipu.cli.main import main as run
from llama_index_mm_zhipu.cli.parser import PROGRAM

DOCS = Path(__file__).parent

LOCALES = {DOCS / "en": "C.UTF-8", DOCS / "zh": "zh_CN.UTF-8"}
"""The folders of pages, and the locale that the commands of their pages are run in."""

_BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
_PROMPT = "$ "

_LOADING = re.compile(r"^Loading the model .*\n", re.MULTILINE)


def pages() -> list[Path]:
    """Return the pages with commands."""
    found = (page for folder in LOCALES for page in sorted(folder.rglob("*.md")))
    return [page for page in found if _BLOCK.search(page.read_text(encoding="utf-8"))]


def executed(page: Path) -> str:
    """Return the text of a page with the outputs that its commands give now, run one after the other."""
    text = page.read_text(encoding="utf-8")
    locale = next(locale for language, locale in LOCALES.items() if language in page.parents)
    with guide_folder(locale=locale, with_key=False) as folder:
        return _BLOCK.sub(lambda block: "".join(_with_outputs(block[0], folder)), text)


def _with_outputs(block: str, folder: Path) -> Iterator[str]:
    for line in block.splitlines():
        if line.startswith(_PROMPT):
            yield f"{line}\n"
            yield shown(_output_of(line.removeprefix(_PROMPT)), folder)


def _output_of(line: str) -> str:
    """Return what a command writes; mmzhipu runs in this process, which imports torch once."""
    before, _, arguments = line.rpartition(f"{PROGRAM} ")
    if not before.endswith("| ") and not line.startswith(PROGRAM):
        return _shell(line)
    typed = _shell(before.rstrip(" |"))
    output, stdin = StringIO(), sys.stdin
    sys.stdin = StringIO(typed)
    try:
        with redirect_stdout(output), redirect_stderr(output):
            run(shlex.split(arguments))
    finally:
        sys.stdin = stdin
    # Slow machines are told that a model is being loaded.
    return _LOADING.sub("", output.getvalue())


def _shell(line: str) -> str:
    if not line:
        return ""
    # The locale of the guide may not be installed.
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    return subprocess.run(["bash", "-c", line], check=True, env=environment, capture_output=True, text=True).stdout


def main() -> None:
    """Write the outputs into the pages."""
    for page in [Path(argument).resolve() for argument in sys.argv[1:]] or pages():
        page.write_text(executed(page), encoding="utf-8")
        print(f"Wrote {page}")


if __name__ == "__main__":
    main()
