"""Reference pages are what the docstrings say, links lead somewhere, and every public name has its place."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import llama_index_mm_zhipu
import llama_index_mm_zhipu.llm
import llama_index_mm_zhipu.testing
import llama_index_mm_zhipu.vector_store

ROOT = Path(__file__).parents[1]
MARKDOWN = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    specification = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_pages_are_up_to_date(generator: ModuleType) -> None:
    kept = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")}
    assert kept == generator.pages(), "run make docs"


def test_every_public_name_has_its_place(generator: ModuleType) -> None:
    described = {name for modules in generator.PAGES.values() for names in modules.values() for name in names}
    public = {
        *llama_index_mm_zhipu.__all__,
        *llama_index_mm_zhipu.llm.__all__,
        *llama_index_mm_zhipu.testing.__all__,
        *llama_index_mm_zhipu.vector_store.__all__,
    }
    assert public - {"MODELS"} <= described


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("guide", sorted((ROOT / "docs").glob("*.md")), ids=lambda guide: guide.name)
def test_the_code_of_guides_runs(guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec("\n".join(re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), flags=re.DOTALL)), {})
