"""The quickstart script runs offline, and the notebook has the same code and outputs."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
QUICKSTART = EXAMPLES / "quickstart.py"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ZHIPUAI_API_KEY", "ZAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("ending_servers")
def test_the_script_prints_results_and_saves_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(QUICKSTART), "--output", str(tmp_path)])
    runpy.run_path(str(QUICKSTART), run_name="__main__")
    require_results(*capsys.readouterr(), tmp_path)


@pytest.mark.integration
def test_the_script_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, str(QUICKSTART), "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    require_results(done.stdout, done.stderr, tmp_path)


def require_results(shown: str, shown_on_stderr: str, folder: Path) -> None:
    """Check what the script printed and saved."""
    assert re.search(r"Images for the words 绿色\n +score +id +caption\n +0\.9\d+ +\d+ +绿色圆\n", shown)
    assert re.search(r"Images like query\.jpg\n +score +id +caption\n +0\.9\d+ +\d+ +红苹果\n", shown)
    assert "Loaded the index again from disk; it finds the same images." in shown
    assert "asking the local mock server" in shown
    assert re.search(r"Question: 图里有消防车吗？\nAnswer: .*本地模拟服务", shown)
    assert re.search(r"说明：图1（相似度 0\.9\d+）：「消防车」\n", shown)
    assert re.search(r"Cited as 图1: \d+  消防车\n", shown)
    own = shown.partition("Question: 我的图片里是什么？")[2]
    assert "第1张图片：JPEG 96×96" in own
    assert re.search(r"Cited as 图1: \d+  红苹果\n", own)
    assert re.search(r"Pages for 胎压太低会有什么危害？\n 1\.0000  2\.png  轮胎气压与磨损\n", shown)
    for name in ("five_images.png", "by_words.png", "by_image.png", "answer.html", "pages.png"):
        assert f"Saved {name}" in shown
        assert (folder / name).stat().st_size > 10_000
    assert re.search(r"\nGo on in the terminal: \S*mmzhipu search 绿色 --store test-model\n.* chat, .* doctor", shown)
    # On stderr there are only progress bars, and lines that report slow steps on a busy machine.
    lines = re.split(r"[\r\n]+", shown_on_stderr.strip())
    assert [line for line in lines if not re.match("Embedding|Converting|Loading|Reading", line)] == []
    # With the command that make prints, the progress bar and the lines for slow steps, the output is below 65 lines.
    assert len(shown.splitlines()) <= 60


@pytest.mark.integration
@pytest.mark.usefixtures("ending_servers")
def test_the_script_accepts_a_folder_an_image_and_another_model(
    tmp_path: Path,
    photos: list[Path],
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, model, image = str(photos[0].parent), str(tiny_model), str(photos[3])
    options = ["--data", data, "--model", model, "--image", image, "--words", "帽子", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(QUICKSTART), *options])
    shown = []
    for _ in range(2):
        runpy.run_path(str(QUICKSTART), run_name="__main__")
        shown.append(capsys.readouterr().out)
    assert "Loaded 10 images, 0 of them with captions" in shown[0]
    assert re.search(rf"Images like .*\n.*\n +1\.0000 +{photos[3].name}", shown[0])
    assert shown[1].split("Images for")[1] == shown[0].split("Images for")[1]


@pytest.mark.integration
def test_the_example_on_ray_embeds_searches_and_continues(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "embed_on_ray.py"), "--output", str(tmp_path)]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout for _ in range(2)
    )
    assert "1,389 images in 22 shards" in first
    assert "0 of them were there before; 0 images were left out" in first
    assert re.search(r"1,389 images added to .+store\n\n绿色\n 1\.0000 .+ 绿色圆\n", first)
    assert "1,389 of them were there before" in second
    assert re.search(r"\n0 images added to .+store\n\n绿色\n 1\.0000 .+ 绿色圆\n", second)


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)


def outputs_by_cell(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """Return the outputs below each cell: names of streams, and MIME types of displayed objects."""
    return [
        [output.get("name") or max(output.data, key=lambda mime: mime != "text/plain") for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_the_notebook_has_the_code_of_the_script(
    notebook: nbformat.NotebookNode, load_script: Callable[[Path], ModuleType]
) -> None:
    setup = load_script(Path("docs/run_notebook.py")).SETUP
    script = jupytext.read(QUICKSTART)
    assert [cell.source for cell in notebook.cells[: len(setup)]] == setup
    assert [(cell.cell_type, cell.source) for cell in notebook.cells[len(setup) :]] == [
        (cell.cell_type, cell.source) for cell in script.cells
    ], "run make docs"


def test_the_notebook_fetches_the_repository_where_it_is_opened_alone(
    notebook: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Colab, but from this clone and without the installation."""
    repository = tmp_path / "origin"
    (repository / "examples" / "demo").mkdir(parents=True)
    (repository / "examples" / "demo" / "README.md").write_text("demo", encoding="utf-8")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(repository)]
    subprocess.run(["git", "init", "--quiet", str(repository)], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "Add the demo"], check=True)
    (opened := tmp_path / "opened").mkdir()
    monkeypatch.chdir(opened)
    code = notebook.cells[1].source
    url = re.search(r'REPOSITORY = "(.+)"', code)
    assert url is not None
    for name, value in {"COUNT": "1", "KEY_0": f"url.{repository.as_uri()}.insteadOf", "VALUE_0": url[1]}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    exec(code, {})
    assert Path.cwd() == opened / "llama-index-mm-zhipu" / "examples"
    assert Path("demo/README.md").is_file()
    exec(code, {})
    assert Path.cwd() == opened / "llama-index-mm-zhipu" / "examples"


def test_the_notebook_is_stored_with_its_outputs(notebook: nbformat.NotebookNode) -> None:
    shown = [output for outputs in outputs_by_cell(notebook) for output in outputs]
    assert shown.count("image/png") == 4
    assert shown.count("text/html") == 1
    assert "stderr" not in shown
    text = (EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8")
    assert "绿色圆" in text
    assert "本地模拟服务" in text
    assert len(text.encode()) <= 500_000
    assert str(ROOT) not in text


@pytest.mark.integration
def test_the_notebook_runs_and_has_the_same_outputs(
    load_script: Callable[[Path], ModuleType], notebook: nbformat.NotebookNode
) -> None:
    run = load_script(Path("docs/run_notebook.py")).executed_notebook()
    assert outputs_by_cell(run) == outputs_by_cell(notebook), "run make docs"
