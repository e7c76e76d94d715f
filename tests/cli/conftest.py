"""Fixtures: the command in this process, in surroundings without settings of the user, and an index of ten emoji."""

from __future__ import annotations

from pathlib import Path

import pytest
from published_forms import Example, write_lines
from runs import Command, Run

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.cli.main import main
from llama_index_mm_zhipu.testing import MockGLMServer

COLOURS = ("白", "红", "黄", "彩", "黄", "红", "红", "绿", "黄", "红")


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the command runs in, with English messages and without keys, stores and colours."""
    for variable in (
        "LC_ALL",
        "LC_MESSAGES",
        "LANGUAGE",
        "MMZHIPU_STORE",
        "MMZHIPU_TOKEN",
        "NO_COLOR",
        "ZAI_API_KEY",
        "ZAI_BASE_URL",
        "ZHIPUAI_API_KEY",
        "ZHIPUAI_BASE_URL",
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("LANG", "en_US.UTF-8")
    monkeypatch.setenv("COLUMNS", "100")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def mmzhipu(surroundings: Path, demo_embedding: ChineseClipEmbedding, capsys: pytest.CaptureFixture[str]) -> Command:
    """A function that runs the command in this process, in which the demo model stays loaded."""

    def run(*arguments: object) -> Run:
        capsys.readouterr()
        try:
            status = main([*map(str, arguments)])
        except SystemExit as left:
            status = int(left.code or 0)
        out, err = capsys.readouterr()
        # A busy machine may take seconds to load a model, which is reported then.
        return Run(status, out, "".join(line for line in err.splitlines(True) if not line.startswith("Loading the ")))

    return run


@pytest.fixture(scope="session")
def emoji(examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with ten emoji, the last two without captions, with a price and a colour each."""
    lines: list[object] = [
        {
            "image_id": example.number,
            "image_base64": example.base64,
            "caption": example.caption if example.number < 9 else None,
            "价格": 10 * example.number,
            "颜色": colour,
        }
        for example, colour in zip(examples, COLOURS, strict=True)
    ]
    return write_lines(tmp_path_factory.mktemp("emoji") / "emoji.jsonl", lines)


@pytest.fixture(scope="session")
def demo_model(demo_folder: Path, demo_embedding: ChineseClipEmbedding) -> Path:
    """Folder of the demo model, which is loaded."""
    return demo_folder / "model"


@pytest.fixture(scope="session")
def store(emoji: Path, demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an index of the emoji, which the command built with the demo model. Tests do not write to it."""
    folder = tmp_path_factory.mktemp("stores") / "emoji store"
    assert main(["index", str(emoji), "--store", str(folder), "--model", str(demo_model), "--device", "cpu"]) == 0
    return folder


@pytest.fixture
def glm(server: MockGLMServer, key: str, surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> MockGLMServer:
    """A mock server of the GLM API that the command asks, with a key."""
    monkeypatch.setenv("ZHIPUAI_API_KEY", key)
    monkeypatch.setenv("ZHIPUAI_BASE_URL", server.url)
    return server
