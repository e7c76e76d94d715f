"""The READMEs fit on a screen and have the same code, which runs; so do the steps of the installation page."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from blocks import code_blocks, python_program, without_comments

from llama_index_mm_zhipu.testing import MockGLMServer

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
INSTALLATION = [ROOT / "docs" / language / "install.md" for language in ("en", "zh")]


def test_the_python_block_runs(
    documented_model: str,
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(photos[0].parent, tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    with MockGLMServer() as server:
        monkeypatch.setenv("ZHIPUAI_API_KEY", "id.secret")
        monkeypatch.setenv("ZHIPUAI_BASE_URL", server.url)
        exec(python_program(READMES[0], documented_model), {})
    assert "图里的飞机是什么颜色？\n收到 3 张图片。" in capsys.readouterr().out
    assert (tmp_path / "found.png").stat().st_size > 10_000


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: readme.name)
def test_a_readme_fits_on_a_screen(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 50
    assert len(code_blocks(readme, "bash")[0].splitlines()) == 3
    (code,) = code_blocks(readme, "python")
    assert len([line for line in without_comments(code).splitlines() if line.strip()]) <= 10


def test_both_readmes_have_the_same_code() -> None:
    for language in ("python", "bash"):
        english, chinese = ([without_comments(block) for block in code_blocks(readme, language)] for readme in READMES)
        assert english == chinese


@pytest.mark.parametrize("page", [READMES[0], INSTALLATION[0]], ids=lambda page: page.name)
def test_targets_and_paths_in_shell_blocks_exist(page: Path) -> None:
    commands = "\n".join(code_blocks(page, "bash"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", commands, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    for path in re.findall(r"(?:examples|requirements)/[\w./]+", commands):
        assert (ROOT / path).exists() or "/output/" in path


@pytest.mark.parametrize("page", INSTALLATION, ids=lambda page: page.parent.name)
def test_the_overrides_shown_are_those_of_the_file(page: Path) -> None:
    file = (ROOT / "requirements" / "overrides.txt").read_text(encoding="utf-8")
    (shown,) = code_blocks(page, "text")
    assert shown.splitlines() == [line for line in file.splitlines() if not line.startswith("#")]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("page", INSTALLATION, ids=lambda page: page.parent.name)
def test_the_manual_steps_are_those_of_make(page: Path) -> None:
    planned = subprocess.run(["make", "-n", "-B", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    steps = [" ".join(line.split()) for line in planned.replace("\\\n", " ").splitlines() if ".venv/bin" in line]
    by_hand = next(block for block in code_blocks(page, "bash") if "quickstart.py" in block).splitlines()
    assert sum("uv pip install" in step for step in steps) == sum("uv pip install" in line for line in by_hand) == 1
    for option in re.findall(r"--[\w-]+", "".join(by_hand)):
        assert any(option in step for step in steps), option
