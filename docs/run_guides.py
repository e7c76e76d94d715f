"""Run the Python code of the documentation, and write what it prints below each block, in both languages.

Run with ``make docs``, or ``python docs/run_guides.py docs/en/guides/captions.md`` for some pages; a test compares the
outputs with what this gives. The blocks of a page are one program, run in the folder that ``guide_folder.py`` makes.
The code of the Chinese page is that of the English one, but for its comments, so it is run once.

A block with a title that names a file, such as ``csv title="goods.csv"``, is written to that file when its turn comes.
A block whose output ends with the line of an exception, ``ValueError: …``, must raise it.
"""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from io import StringIO
from itertools import pairwise
from pathlib import Path
from types import ModuleType

from blocks import Block, blocks_in, with_model
from guide_folder import MODEL, guide_folder
from llama_index.core import Settings
from outputs import shown

DOCS = Path(__file__).parent
ENGLISH, CHINESE = DOCS / "en", DOCS / "zh"
OUTPUT_TITLES = {ENGLISH: "Output", CHINESE: "输出"}

_EXCEPTION = re.compile(r"^(?:\w+\.)*(\w+)(?:: |$)")
_OUTPUT_LANGUAGE = "text"


def pages() -> list[Path]:
    """Return the English pages with Python code."""
    return [page for page in sorted(ENGLISH.rglob("*.md")) if any(map(_is_run, _blocks(page)))]


def outputs(page: Path) -> list[str]:
    """Return what each block of Python code on a page prints, when all are run in turn."""
    found = list(_blocks(page))
    expected = {id(block): _expected_exception(follower) for block, follower in pairwise([*found, None])}
    module = ModuleType("__main__")
    printed = []
    with guide_folder() as folder, _fresh_settings(), _as_main(module):
        for block in found:
            if _is_run(block):
                code = with_model(block.code, str(MODEL))
                printed.append(_shown(_output_of(code, module, page, expected[id(block)]), folder))
            elif _is_file(block):
                target = Path(block.title)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.code, encoding="utf-8")
    return printed


def with_outputs(text: str, printed: Iterable[str], title: str) -> str:
    """Return the text of a page in which each block of Python code is followed by what it printed."""
    parts, position, remaining = [], 0, iter(printed)
    found = list(blocks_in(text))
    for block, follower in pairwise([*found, None]):
        if block is None or not _is_run(block):
            continue
        output = next(remaining)
        parts.append(text[position : block.end])
        position = follower.end if follower is not None and _is_output(follower) else block.end
        if output:
            fence = f'```{_OUTPUT_LANGUAGE} title="{title}"\n{output}```'
            parts.append("\n\n" + "\n".join(block.indent + line for line in fence.splitlines()))
    parts.append(text[position:])
    return "".join(parts)


def counterpart(page: Path) -> Path:
    """Return the Chinese page of an English one."""
    return CHINESE / page.relative_to(ENGLISH)


def _blocks(page: Path) -> Iterator[Block]:
    return blocks_in(page.read_text(encoding="utf-8"))


def _is_run(block: Block) -> bool:
    return block.language == "python" and not block.title


def _is_output(block: Block) -> bool:
    return block.title in OUTPUT_TITLES.values()


def _is_file(block: Block) -> bool:
    """Whether a block holds a file for the code: its title is a file name, and none of the repository."""
    return bool(block.title) and not _is_output(block) and not (DOCS.parent / block.title).exists()


def _expected_exception(follower: Block | None) -> str | None:
    if follower is None or not _is_output(follower):
        return None
    last = _EXCEPTION.match(follower.code.rstrip().rpartition("\n")[2])
    return last[1] if last and last[1].endswith(("Error", "Exception")) else None


def _output_of(code: str, module: ModuleType, page: Path, exception: str | None) -> str:
    output = StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec(compile(code, page.name, "exec"), module.__dict__)
        except Exception as error:
            if type(error).__name__ != exception:
                raise
            output.write(f"{exception}: {error}\n")
        else:
            if exception is not None:
                raise AssertionError(f"{page}: the code should raise {exception}:\n{code}")
    return output.getvalue()


def _shown(output: str, folder: Path) -> str:
    """Return an output with the names that the page shows, without blanks at the ends of lines."""
    output = shown(output.replace(str(MODEL), "ViT-B-16"), folder)
    return "".join(f"{line.rstrip()}\n" for line in output.rstrip().splitlines())


@contextlib.contextmanager
def _fresh_settings() -> Iterator[None]:
    """Undo what a page sets in LlamaIndex's global settings."""
    before = dict(vars(Settings))
    try:
        yield
    finally:
        vars(Settings).update(before)


@contextlib.contextmanager
def _as_main(module: ModuleType) -> Iterator[None]:
    """Let classes and functions of a page be found in their module, as pydantic and pickle do."""
    before = sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        yield
    finally:
        sys.modules["__main__"] = before


def main() -> None:
    """Write the outputs into the pages."""
    chosen = [Path(argument).resolve() for argument in sys.argv[1:]] or pages()
    for page in chosen:
        printed = outputs(page)
        for written, language in ((page, ENGLISH), (counterpart(page), CHINESE)):
            if written.exists():
                text = written.read_text(encoding="utf-8")
                written.write_text(with_outputs(text, printed, OUTPUT_TITLES[language]), encoding="utf-8")
                print(f"Wrote {written}")


if __name__ == "__main__":
    main()
