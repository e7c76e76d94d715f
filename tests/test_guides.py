"""The pages of the documentation: their code prints what is shown, in both languages alike, in the same terms."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path

import pytest
import run_guides
from blocks import Block, blocks_in, without_blocks, without_comments
from outputs import comparable
from run_guides import CHINESE, ENGLISH, OUTPUT_TITLES

from llama_index_mm_zhipu.cli.parser import build_parser, parse
from llama_index_mm_zhipu.cli.wording.english import ENGLISH as WORDING

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ENGLISH) for path in ENGLISH.rglob("*.md"))
RUN_PAGES = [page.relative_to(ENGLISH) for page in run_guides.pages()]
CHINESE_PAGES = sorted(CHINESE.rglob("*.md"))
BOTH = [*(ENGLISH / page for page in PAGES), *CHINESE_PAGES]

# The languages of blocks, and who runs or checks them.
RUN = {"python", "console"}
FILES = {"csv", "yaml", "ini", "dockerfile", "toml", "nginx"}
SHOWN = {"text", "pycon"}
CHECKED = {"bash", "json", "powershell", "py"}

# Programs in blocks of commands that tests do not run: they install, do not end, or belong to the system.
PROGRAMS = {
    *("cd", "curl", "docker", "eval", "git", "install", "pip", "python", "python3", "source", "sudoedit", "systemctl"),
    *("useradd", "uv", "uvicorn"),
}


def page_id(page: Path) -> str:
    return str(page.relative_to(ENGLISH.parent) if page.is_absolute() else page)


def blocks_of(page: Path) -> list[Block]:
    return list(blocks_in(page.read_text(encoding="utf-8")))


def prose_of(text: str) -> str:
    """Return the text of a page without code, links' targets and comments."""
    return re.sub(r"`[^`\n]*`|\]\([^)]*\)|<!--.*?-->", " ", without_blocks(text), flags=re.DOTALL)


def shown_outputs(page: Path) -> list[str]:
    return [block.code for block in blocks_of(page) if block.title in OUTPUT_TITLES.values()]


def require_outputs(page: Path) -> None:
    """Run the code of an English page, and compare what it prints with what is shown in both languages."""
    printed = [comparable(text) for text in run_guides.outputs(ENGLISH / page) if text]
    for language in (ENGLISH, CHINESE):
        assert [comparable(text) for text in shown_outputs(language / page)] == printed, "run make docs"


def test_the_code_of_the_first_page_prints_what_is_shown() -> None:
    require_outputs(Path("index.md"))


@pytest.mark.integration
@pytest.mark.parametrize("page", RUN_PAGES, ids=str)
def test_the_code_of_pages_prints_what_is_shown(page: Path) -> None:
    require_outputs(page)


def test_both_languages_have_the_same_pages() -> None:
    assert sorted(path.relative_to(CHINESE) for path in CHINESE.rglob("*.md")) == PAGES


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_both_languages_have_the_same_code_and_sections(page: Path) -> None:
    def code(language: Path) -> list[tuple[str, str, str]]:
        return [
            (block.language, block.title, without_comments(block.code))
            for block in blocks_of(language / page)
            if block.language not in ("text", "console")
        ]

    def headings(language: Path) -> list[int]:
        text = without_blocks((language / page).read_text(encoding="utf-8"))
        return [len(marks) for marks in re.findall(r"^(#+) ", text, flags=re.MULTILINE)]

    assert code(CHINESE) == code(ENGLISH)
    if page.name != "errors.md":
        assert headings(CHINESE) == headings(ENGLISH)


@pytest.mark.parametrize("page", BOTH, ids=page_id)
def test_each_block_is_run_or_checked(page: Path) -> None:
    for block in blocks_of(page):
        assert block.language in RUN | FILES | SHOWN | CHECKED, f"unknown language: {block.language!r}"
        if block.language in FILES:
            assert block.title, f"a file needs its name as title:\n{block.code}"
        if block.language == "console":
            assert block.code.startswith("$ "), block.code
        if block.language == "python" and block.title:
            require_program(block)
        if block.language == "json":
            json.loads(block.code)
        if block.language == "py":
            require_valid_imports(block.code)
        if block.language == "bash":
            require_known_commands(block.code)


def require_program(block: Block) -> None:
    """Check a block with a name: an excerpt of a program of the repository, or a file for the code that follows."""
    program = ROOT / block.title
    if program.exists():
        excerpt, whole = (without_comments(code) for code in (block.code, program.read_text(encoding="utf-8")))
        assert excerpt.strip() in whole, f"not in {block.title}"
    else:
        assert "/" not in block.title, f"no such program: {block.title}"
        compile(block.code, block.title, "exec")


def require_valid_imports(code: str) -> None:
    """Check code that is not run: it is Python, and the names that it imports from the package exist."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llama_index_mm_zhipu"):
            module = __import__(node.module or "", fromlist=["_"])
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


def require_known_commands(code: str) -> None:
    """Check commands that are not run: options of ours parse, targets, extras and files exist."""
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=|export$|sudo$", words[0]):
            words = words[1:]
        if not words:
            continue
        program = words[0].rpartition("/")[2]
        if program == "mmzhipu":
            parse(build_parser(WORDING), [word for word in words[1:] if word != "&"])
        elif program == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), line
        elif program == "python" and len(words) > 1 and words[1].endswith(".py"):
            assert (ROOT / words[1]).exists(), line
        else:
            assert program in PROGRAMS, line
        for names in re.findall(r"(?:llama-index-mm-zhipu|\.)\[([\w,]+)\]", line):
            assert set(names.split(",")) <= extras, line


def glossary() -> dict[str, list[str]]:
    """Return the words that the Chinese pages do not use, by the terms that they use instead."""
    rows = re.findall(r"^\| (.+) \|$", (CHINESE / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)[1:]
    cells = [row.split(" | ") for row in rows]
    return {row[1]: row[2].split("、") for row in cells}


@pytest.mark.parametrize("page", [*CHINESE_PAGES, ROOT / "README.zh-CN.md"], ids=lambda page: page.name)
def test_chinese_pages_use_the_terms_of_the_glossary(page: Path) -> None:
    if page.name == "glossary.md":
        return
    prose = prose_of(page.read_text(encoding="utf-8"))
    for term, others in glossary().items():
        for other in others:
            assert other not in prose, f"{other}: write {term}"


@pytest.mark.parametrize("page", CHINESE_PAGES, ids=page_id)
def test_chinese_pages_are_chinese(page: Path) -> None:
    """Neither an untranslated page nor half-width punctuation behind Chinese."""
    prose = prose_of(page.read_text(encoding="utf-8"))
    if page.name != "errors.md":
        assert len(re.findall(r"[一-鿿]", prose)) > 0.25 * len(re.sub(r"\s", "", prose))
    assert re.findall(r"[一-鿿][,;:?!](?=\s|[一-鿿])", prose) == []


def test_the_glossaries_list_the_same_terms() -> None:
    english, chinese = (
        re.findall(r"^\| ([^|]+?) \|", (language / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)[1:]
        for language in (ENGLISH, CHINESE)
    )
    assert english == chinese
