"""The quickstart runs offline, as a script and as a notebook, and shows its results."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZHIPUAI_API_KEY", raising=False)


def run(*options: str) -> str:
    command = [sys.executable, str(EXAMPLES / "quickstart.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_script_shows_what_it_finds_and_where_its_plots_are(tmp_path: Path) -> None:
    shown = run("--output", str(tmp_path))

    assert re.search(r"Pictures for the words 飞机\n +score +id +caption\n +0\.9\d+ +\d+ +飞机\n", shown)
    assert re.search(r"Pictures like .*query\.jpg\n +score +id +caption\n +0\.9\d+ +\d+ +红苹果\n", shown)
    first, again = re.findall(r"ictures for the words 飞机\n((?: +.*\n)+)", shown)
    assert first == again
    assert "asking the local stand-in" in shown
    assert re.search(r"Question: 图里有消防车吗？\nAnswer: .*本地替身", shown)
    assert re.search(r"说明：图1（相似度 0\.9\d+）：消防车\n", shown)
    assert re.search(r"Cited as 图1: \d+  消防车\n", shown)
    own = shown.partition("Question: 我的图片里是什么？")[2]
    assert "第1张图片：JPEG 96×96" in own
    assert re.search(r"Cited as 图1: \d+  红苹果\n", own)
    for name in ("five_pictures.png", "by_words.png", "by_picture.png"):
        assert f"Saved {tmp_path / name}" in shown
        assert (tmp_path / name).stat().st_size > 10_000


def test_the_script_takes_a_folder_a_picture_and_another_model(
    tmp_path: Path, photos: list[Path], tiny_model: Path
) -> None:
    data, model, picture = str(photos[0].parent), str(tiny_model), str(photos[3])
    options = ["--data", data, "--model", model, "--picture", picture, "--words", "帽子", "--output", str(tmp_path)]
    shown = run(*options)
    assert "Loaded 10 pictures, 0 of them with captions" in shown
    assert re.search(rf"Pictures like .*\n.*\n +1\.0000 +{photos[3].name}", shown)
    assert run(*options).split("Pictures for")[1] == shown.split("Pictures for")[1]


def test_the_notebook_is_the_script() -> None:
    script = jupytext.read(EXAMPLES / "quickstart.py")
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in script.cells
    ], "run make docs"


def test_the_notebook_runs_and_shows_pictures() -> None:
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(EXAMPLES)}})

    client.execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert "本地替身" in "".join(output.get("text", "") for output in outputs)
