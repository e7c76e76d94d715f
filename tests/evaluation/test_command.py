"""The command reads a data set in its published form and sets published figures beside the measured ones."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from published_forms import FORMS, Example, chinese_clip

from llama_index_mm_zhipu import read_jsonl
from llama_index_mm_zhipu.evaluation.__main__ import main


@pytest.fixture
def examples(demo_folder: Path) -> list[Example]:
    return [
        Example(number, base64.b64decode(node.image or ""), node.text)
        for number, node in enumerate(read_jsonl(demo_folder / "test.jsonl")[:10], 1)
    ]


def rows_of(output: str) -> dict[str, list[float]]:
    """Return the figures of the printed table by the name of their row."""
    rows = {}
    for line in output.splitlines()[1:]:
        words = line.split()
        figures = [float(word) for word in words if word.replace(".", "").isdigit() and "." in word]
        rows[" ".join(words[: len(words) - len(figures)])] = figures
    return rows


@pytest.mark.parametrize("name", ["flickr30k-cn", "coco-cn", "flickr8k-cn", "folder"])
def test_data_sets_in_their_own_form(
    name: str, examples: list[Example], demo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, *rest = FORMS[name].write(tmp_path, examples)
    images = ["--images", str(rest[0])] if len(rest) == 2 else []
    main([name, str(root), *images, "--model", str(demo_folder / "model"), "--device", "cpu"])
    captured = capsys.readouterr()
    assert rows_of(captured.out).keys() == {"10 texts → pictures", "10 pictures → texts"}
    assert "Embedding pictures" in captured.err


def test_published_figures_stand_beside_those_of_an_official_model(
    examples: list[Example],
    user_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOME", str(user_home))
    monkeypatch.setenv("LLAMA_INDEX_CACHE_DIR", str(user_home / "cache"))
    chinese_clip(tmp_path / "Flickr30k-CN", examples)
    main(["flickr30k-cn", str(tmp_path / "Flickr30k-CN"), "--model", "ViT-B-16", "--device", "cpu"])
    rows = rows_of(capsys.readouterr().out)
    assert rows["published, texts → pictures"] == [62.7, 86.9, 92.8, 80.8]
    assert rows["published, pictures → texts"] == [74.6, 93.5, 97.1, 88.4]


def test_a_kept_index_is_measured_again(
    examples: list[Example], demo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chinese_clip(tmp_path / "MUGE", examples, split="valid")
    arguments = ["muge", str(tmp_path / "MUGE"), "--model", str(demo_folder / "model"), "--device", "cpu"]
    main([*arguments, "--index", str(tmp_path / "index")])
    first = capsys.readouterr()
    main([*arguments, "--index", str(tmp_path / "index")])
    second = capsys.readouterr()
    assert second.out == first.out
    assert "Embedding pictures" not in second.err


def test_what_is_wrong_is_one_line(demo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in [
        (["coco-cn", str(tmp_path)], "error: coco-cn has its pictures elsewhere: give their folder with --images\n"),
        (["jsonl", str(tmp_path / "no.jsonl")], f"error: no such file: {tmp_path}/no.jsonl; check the path of"),
    ]:
        with pytest.raises(SystemExit) as left:
            main([*arguments, "--model", str(demo_folder / "model")])
        assert left.value.code == 1
        assert message in capsys.readouterr().err
