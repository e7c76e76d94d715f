"""The documentation is up to date: generated pages, links, tables of models and errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import error_messages
import pytest
from blocks import without_blocks

import llama_index_mm_zhipu
import llama_index_mm_zhipu.embedding
import llama_index_mm_zhipu.evaluation
import llama_index_mm_zhipu.ingestion
import llama_index_mm_zhipu.llm
import llama_index_mm_zhipu.query
import llama_index_mm_zhipu.readers
import llama_index_mm_zhipu.testing
import llama_index_mm_zhipu.vector_store
from llama_index_mm_zhipu.llm import MODELS
from llama_index_mm_zhipu.llm.errors import ERROR_BY_CODE, error_from_answer

ROOT = Path(__file__).parents[1]
REPOSITORY = re.compile(
    r"https://(?:github\.com/llama-index-mm-zhipu/llama-index-mm-zhipu/(?:blob|tree)"
    r"|raw\.githubusercontent\.com/llama-index-mm-zhipu/llama-index-mm-zhipu)/main/"
)
MARKDOWN = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("examples/**/*.md"),
    *ROOT.glob("llama_index_mm_zhipu/**/*.md"),
]


@pytest.fixture(scope="module")
def generator(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    return load_script(Path("docs/generate.py"))


def test_reference_pages_are_up_to_date(generator: ModuleType) -> None:
    kept = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")}
    assert kept == generator.pages(), "run make docs"


def test_every_public_name_is_in_the_reference(generator: ModuleType) -> None:
    described = {name for modules in generator.PAGES.values() for names in modules.values() for name in names}
    public = {
        *llama_index_mm_zhipu.__all__,
        *llama_index_mm_zhipu.embedding.__all__,
        *llama_index_mm_zhipu.evaluation.__all__,
        *llama_index_mm_zhipu.ingestion.__all__,
        *llama_index_mm_zhipu.llm.__all__,
        *llama_index_mm_zhipu.query.__all__,
        *llama_index_mm_zhipu.readers.__all__,
        *llama_index_mm_zhipu.testing.__all__,
        *llama_index_mm_zhipu.vector_store.__all__,
    }
    assert public - {"MODELS", "OFFICIAL_MODELS", "PROMPTS"} <= described


def test_the_pages_of_error_messages_are_up_to_date() -> None:
    for language, page in error_messages.PAGES.items():
        assert page.read_text(encoding="utf-8") == error_messages.page(language), "run make docs"


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", without_blocks(text))


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub and the site make them."""
    text = without_blocks(page.read_text(encoding="utf-8"))
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")
        anchors.add(slug if slug not in anchors else f"{slug}-1")
    return anchors


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_of_the_repository_exist(page: Path) -> None:
    text = without_code(page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        path, _, anchor = target.partition("#")
        if (ours := REPOSITORY.match(path)) is not None:
            linked = ROOT / path[ours.end() :]
        elif path.startswith("http"):
            continue
        else:
            linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor and linked.suffix == ".md" and "reference" not in linked.parts:
            assert anchor in anchors_of(linked), target


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_links_of_the_readmes_are_absolute(readme: str) -> None:
    """The package index shows the READMEs, too."""
    text = re.sub(r"```.*?```|`[^`]*`", "", (ROOT / readme).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert [target for target in re.findall(r"\]\(([^)]+)\)", text) if not target.startswith("https://")] == []


LANGUAGES = pytest.mark.parametrize("language", ["en", "zh"])


def table_rows(language: str, start: str) -> list[list[str]]:
    """Return the cells of the rows in the LLM guide that begin with a string."""
    lines = (ROOT / "docs" / language / "guides" / "llm.md").read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith(start)]


@LANGUAGES
def test_the_table_of_models_matches_the_code(language: str) -> None:
    brackets, assumed = {"en": (" ({})", "{} assumed"), "zh": ("（{}）", "推测 {}")}[language]
    words = {
        "en": ("video", "functions", "thinking", "always thinking", "free"),
        "zh": ("视频", "函数", "思考", "总是思考", "免费"),
    }[language]
    rows = table_rows(language, "| `glm")
    described = {name: cells for cells in rows for name in re.findall(r"`(glm-[^`]+)`", cells[0])}
    assert described.keys() == MODELS.keys()
    for name, (_, context, longest, images, abilities) in described.items():
        limits = MODELS[name]
        assert context in (f"{limits.context_window // 1024} K", f"{limits.context_window:,}")
        assert longest == (f"{limits.max_tokens:,}" if limits.max_tokens else "–")
        documented = limits.documented_images
        if documented:
            assert images == f"{limits.images}{brackets.format(documented)}"
        else:
            assert images == assumed.format(limits.images)
        thinks = limits.thinking and not limits.always_thinks
        has = (limits.video, limits.tools, thinks, limits.always_thinks, limits.free)
        able = [word for word, is_able in zip(words, has, strict=True) if is_able]
        assert re.split("[,、] ?", abilities) == (able or ["–"])


def codes_in(cell: str) -> list[str]:
    """Return the codes of the API in a cell, such as ``1302, 1308–1311``."""
    ranges = re.findall(r"\b(1\d{3})\b(?:–(\d{4}))?", cell)
    return [str(code) for first, last in ranges for code in range(int(first), int(last or first) + 1)]


@LANGUAGES
def test_the_table_of_errors_matches_the_code(language: str) -> None:
    yes = {"en": "yes", "zh": "是"}[language]
    rows = [cells for cells in table_rows(language, "| ") if re.fullmatch(r"`GLM\w+Error`", cells[1])]
    assert sorted(code for cells in rows for code in codes_in(cells[0])) == sorted(ERROR_BY_CODE)
    for named, kind, retried, remedy in rows:
        assert remedy, named
        for code in codes_in(named):
            error = error_from_answer(400, {"error": {"code": code}})
            assert (f"`{type(error).__name__}`", error.retryable) == (kind, retried == yes), code
        for status in re.findall(r"\b[45]\d\d\b", named) if named.startswith("HTTP") else []:
            error = error_from_answer(int(status), None)
            assert (f"`{type(error).__name__}`", error.retryable) == (kind, retried == yes), status


@LANGUAGES
def test_frequent_errors_have_the_words_of_the_code(language: str) -> None:
    page = (ROOT / "docs" / language / "troubleshooting.md").read_text(encoding="utf-8")
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "llama_index_mm_zhipu").rglob("*.py"))
    headings = re.findall(r"^### .+$", page.split("\n## ")[1], re.MULTILINE)
    assert len(headings) == 10
    for words in re.findall(r"`([^`]+)`", "".join(headings)):
        assert all(part.strip() in source for part in words.split("…")), words


@pytest.mark.integration
def test_the_table_of_stores_is_up_to_date(load_script: Callable[[Path], ModuleType]) -> None:
    for page, text in load_script(Path("docs/store_table.py")).pages().items():
        assert page.read_text(encoding="utf-8") == text, "run make docs"
