"""The commands in the guides to the command line give the outputs that are printed below them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = ("command.md", "command.zh-CN.md")


@pytest.fixture(scope="module")
def script(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    return load_script(Path("docs/run_commands.py"))


@pytest.mark.integration
@pytest.mark.parametrize("guide", GUIDES)
def test_commands_give_the_outputs_below_them(guide: str, script: ModuleType) -> None:
    kept = (DOCS / guide).read_text(encoding="utf-8")
    assert script.comparable(script.executed(DOCS / guide)) == script.comparable(kept), "run make docs"


def test_both_guides_run_the_same_commands() -> None:
    english, chinese = (
        re.findall(r"^\$ .*?mmzhipu (\w+)", (DOCS / guide).read_text(encoding="utf-8"), re.MULTILINE)
        for guide in GUIDES
    )
    assert english == chinese
    assert {"index", "search", "ask", "chat", "info", "export", "import", "evaluate"} <= set(english)
