"""``mmzhipu evaluate``: the table and JSON lines of a measurement, its errors, and consoles of other encodings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from published_forms import FORMS, Example, chinese_clip
from runs import Command, Run

from llama_index_mm_zhipu.cli.wording.chinese import CHINESE
from llama_index_mm_zhipu.cli.wording.english import ENGLISH

pytestmark = pytest.mark.integration

Evaluate = Callable[..., Run]


@pytest.fixture
def evaluate(mmzhipu: Command, demo_model: Path) -> Evaluate:
    """A function that runs the command with the demo model."""
    return lambda *arguments: mmzhipu("evaluate", *arguments, "--model", demo_model, "--device", "cpu")


@pytest.fixture
def flickr(examples: list[Example], tmp_path: Path) -> tuple[Path, Path]:
    """Ten emoji in the format of Flickr30k-CN: the data set and its images."""
    root, images, *_ = FORMS["flickr30k-cn"].write(tmp_path / "data", examples)
    return Path(str(root)), Path(str(images))


TABLE = """\
                           R@1          R@5         R@10  mean recall       MRR@10
10 texts → images        100.0        100.0        100.0        100.0        100.0
10 images → texts        100.0        100.0        100.0        100.0        100.0
"""


def test_the_table_is_on_stdout_and_nothing_else(evaluate: Evaluate, flickr: tuple[Path, Path]) -> None:
    root, images = flickr
    assert evaluate("flickr30k-cn", root, "--images", images, "--split", "test") == (0, TABLE, "")
    assert evaluate("flickr30k-cn", root, "--images", images, "--lang", "zh") == (0, TABLE, "")


def test_json_lines_have_shares_by_the_titles_of_the_table(evaluate: Evaluate, flickr: tuple[Path, Path]) -> None:
    root, images = flickr
    run = evaluate("flickr30k-cn", root, "--images", images, "--json")
    figures = {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "mean recall": 1.0, "MRR@10": 1.0}
    assert (run.status, run.err) == (0, "")
    assert run.rows == [{"name": "10 texts → images", **figures}, {"name": "10 images → texts", **figures}]


def test_the_index_is_kept_in_a_folder_that_other_commands_read(
    evaluate: Evaluate, mmzhipu: Command, flickr: tuple[Path, Path]
) -> None:
    root, images = flickr
    for _ in range(2):
        assert evaluate("flickr30k-cn", root, "--images", images, "--index", "kept") == (0, TABLE, "")
    assert mmzhipu("info", "--store", "kept", "--json").rows[0]["images"] == 10


def test_records_that_are_skipped_are_named(evaluate: Evaluate, examples: list[Example], tmp_path: Path) -> None:
    (file,) = FORMS["article"].write(tmp_path, examples)
    with Path(str(file)).open("a", encoding="utf-8") as lines:
        lines.write("no json\n")
    run = evaluate("jsonl", file)
    assert (run.status, run.out) == (2, "")
    assert "line 11: not an object" in run.err
    run = evaluate("jsonl", file, "--skip")
    assert (run.status, run.out) == (0, TABLE)
    assert "line 11: not an object" in run.err


def test_errors_are_one_line_with_status_2(evaluate: Evaluate, examples: list[Example], tmp_path: Path) -> None:
    chinese_clip(tmp_path, examples)
    for arguments, said in (
        (("coco-cn", tmp_path / ".."), "coco-cn comes without its images: give their folder with --images"),
        (("muge", tmp_path, "--images", tmp_path), "--images: this data set contains its images"),
        (("folder", tmp_path, "--split", "test"), "--split: folder has no splits"),
    ):
        assert evaluate(*arguments) == (2, "", f"error: {said}\n")
        assert evaluate(*arguments, "--lang", "zh") == (2, "", f"错误：{said}\n")
    missing = tmp_path / "no.jsonl"
    assert evaluate("jsonl", missing) == (2, "", f"error: {ENGLISH.no_path.format(path=missing)}\n")
    assert evaluate("jsonl", missing, "--lang", "zh") == (2, "", f"错误：{CHINESE.no_path.format(path=missing)}\n")
    run = evaluate("chinese-clip", tmp_path, "--index", "/dev/null/x")
    assert run.err.startswith("error: cannot open the vector store")
    assert evaluate("nothing", tmp_path).status == 2


@pytest.mark.integration
def test_results_are_printed_on_a_console_with_another_encoding(
    examples: list[Example], demo_folder: Path, tmp_path: Path
) -> None:
    chinese_clip(tmp_path, examples)
    command = [sys.executable, "-m", "llama_index_mm_zhipu", "evaluate", "chinese-clip", str(tmp_path)]
    done = subprocess.run(
        [*command, "--model", str(demo_folder / "model"), "--device", "cpu"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "10 texts ? images        100.0" in done.stdout
    assert [line for line in done.stderr.splitlines() if not line.startswith("Loading the model ")] == []
