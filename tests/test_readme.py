"""The code in the READMEs runs, and both READMEs have the same code."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from blocks import code_blocks, python_program
from llama_index.core import Settings

from llama_index_mm_zhipu.testing import MockGLMServer

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]


def test_the_python_blocks_run(
    documented_model: str,
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(photos[0].parent, tmp_path / "images")
    shutil.copy(photos[0], tmp_path / "query.jpg")
    (tmp_path / "goods.csv").write_text(code_blocks(READMES[0], "csv")[0], encoding="gbk")
    monkeypatch.chdir(tmp_path)
    # The code sets the model there, for all tests that follow in this process.
    monkeypatch.setattr(Settings, "_embed_model", None)
    with MockGLMServer() as server:
        monkeypatch.setenv("ZHIPUAI_API_KEY", "id.secret")
        monkeypatch.setenv("ZHIPUAI_BASE_URL", server.url)
        exec(python_program(READMES[0], documented_model), {})
    shown = capsys.readouterr().out
    assert "图里的飞机是什么颜色？" in shown
    assert "这是什么？" in shown
    assert "dress_084.jpg" in shown
    assert sorted(re.findall(r"^(\S+) (\d+)$", shown, flags=re.MULTILINE)) == [("皮鞋", "359"), ("连衣裙", "199")]
    assert "这是什么？多少钱？" in shown
    assert len(server.requests) == 4
    assert (tmp_path / "found.png").is_file()
    assert "图里的飞机是什么颜色？" in (tmp_path / "answer.html").read_text(encoding="utf-8")


def test_both_readmes_have_the_same_code() -> None:
    def without_comments(code: str) -> str:
        return re.sub(r"^#.*\n| +#.*", "", code, flags=re.MULTILINE)

    for language in ("python", "bash", "csv"):
        english, chinese = ([without_comments(block) for block in code_blocks(readme, language)] for readme in READMES)
        assert english == chinese


def test_targets_and_paths_in_shell_blocks_exist() -> None:
    commands = "\n".join(code_blocks(READMES[0], "bash"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", commands, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    for path in re.findall(r"(?:examples|requirements)/[\w./]+", commands):
        assert (ROOT / path).exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_manual_steps_are_those_of_make() -> None:
    planned = subprocess.run(["make", "-n", "-B", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    steps = [" ".join(line.split()) for line in planned.replace("\\\n", " ").splitlines() if ".venv/bin" in line]
    by_hand = code_blocks(READMES[0], "bash")[1].splitlines()
    assert sum("uv pip install" in step for step in steps) == sum("uv pip install" in line for line in by_hand) == 1
    for option in re.findall(r"--[\w-]+", "".join(by_hand)):
        assert any(option in step for step in steps), option
