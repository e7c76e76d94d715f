"""The commands on the pages of the documentation give the outputs that are printed below them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import run_commands
from outputs import comparable

DOCS = Path(__file__).parents[1] / "docs"
PAGES = run_commands.pages()


@pytest.mark.integration
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_commands_give_the_outputs_below_them(page: Path) -> None:
    kept = page.read_text(encoding="utf-8")
    assert comparable(run_commands.executed(page)) == comparable(kept), "run make docs"


def test_both_languages_run_the_same_commands() -> None:
    def commands(page: Path) -> list[str]:
        return re.findall(r"^\$ .*?mmzhipu (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE)

    english, chinese = (
        {str(page.relative_to(DOCS / language)): commands(page) for page in PAGES if DOCS / language in page.parents}
        for language in ("en", "zh")
    )
    assert english == chinese
    run = {command for page in english.values() for command in page}
    assert {"index", "search", "ask", "chat", "info", "export", "import", "evaluate"} <= run
