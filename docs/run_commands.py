"""Run the commands in the guides to the command line, and write their outputs below them.

Run with ``make docs``; a test compares the outputs with what this gives. A block begins with ``console``, and its
commands with ``$ ``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from llama_index_mm_zhipu.cli.main import main as run
from llama_index_mm_zhipu.cli.parser import PROGRAM

DOCS = Path(__file__).parent
ROOT = DOCS.parent

LOCALES = {"command.md": "C.UTF-8", "command.zh-CN.md": "zh_CN.UTF-8"}
"""The guides, and the locale that each is run in."""

SHOWN_FOLDER = "/home/me/images"
"""What the outputs call the folder that the commands run in."""

_SHOWN_HASH = "5de34d"
"""The hash of a folder's path in node ids; the commands run in another folder each time."""

_BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
_PROMPT = "$ "

# What differs from run to run and from machine to machine.
_DURATION = re.compile(r"\d+\.\d(?= (?:s\b|秒))")
_SOURCE_HASH = re.compile(r"(?<=-)[0-9a-f]{6}(?=/)")
_SCORE = re.compile(r"(?<=\d\.\d\d)\d\d+\b")
_SIZE = re.compile(r"\d+\.\d(?= [kM]B)|(?<=\"bytes\": )\d+")
_LOADING = re.compile(r"^Loading the model .*\n", re.MULTILINE)
_VARYING = (_DURATION, _SOURCE_HASH, _SCORE, _SIZE)


def comparable(text: str) -> str:
    """Return outputs without what differs from run to run."""
    for pattern in _VARYING:
        text = pattern.sub("…", text)
    return text


def executed(guide: Path) -> str:
    """Return the text of a guide with the outputs that its commands give now, run one after the other."""
    text, before = guide.read_text(encoding="utf-8"), Path.cwd()
    with TemporaryDirectory() as scratch, _environment(LOCALES[guide.name]):
        # Links are resolved, so that outputs hold the same folder.
        folder = Path(scratch).resolve()
        for name in ("demo", "cases"):
            shutil.copytree(
                ROOT / "examples" / name, folder / "examples" / name, ignore=shutil.ignore_patterns("output")
            )
        shutil.copytree(ROOT / "tests" / "data" / "photos", folder / "photos")
        os.chdir(folder)
        try:
            return _BLOCK.sub(lambda block: "".join(_with_outputs(block[0], folder)), text)
        finally:
            os.chdir(before)


@contextmanager
def _environment(locale: str) -> Iterator[None]:
    """Set the locale, and hide what users may have set."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("ZHIPUAI", "ZAI", "MMZHIPU", "LC_", "LANG", "COLUMNS")):
            del os.environ[name]
    os.environ["LC_ALL"] = locale
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _with_outputs(block: str, folder: Path) -> Iterator[str]:
    for line in block.splitlines():
        if line.startswith(_PROMPT):
            yield f"{line}\n"
            output = _output_of(line.removeprefix(_PROMPT)).replace(str(folder), SHOWN_FOLDER)
            yield _SOURCE_HASH.sub(_SHOWN_HASH, output)


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
    """Write the outputs into the guides."""
    for name in LOCALES:
        guide = DOCS / name
        guide.write_text(executed(guide), encoding="utf-8")
        print(f"Wrote {guide}")


if __name__ == "__main__":
    main()
