"""A Chinese font is there on every system, and a character that it lacks costs one line, not one warning each."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
from llama_index.core.schema import ImageNode
from matplotlib import font_manager

from llama_index_mm_zhipu import plot_results
from llama_index_mm_zhipu.display import plots
from llama_index_mm_zhipu.display.plots import BUNDLED_FONT, find_font

MATPLOTLIB_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@pytest.fixture
def fresh_choice() -> Iterator[None]:
    """The system's fonts are looked at anew."""
    plots._chinese_font.cache_clear()
    yield
    plots._chinese_font.cache_clear()


@pytest.fixture
def no_chinese_font(fresh_choice: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without any Chinese font."""
    monkeypatch.setattr(plots, "_CHINESE_FAMILIES", ())


@pytest.mark.usefixtures("no_chinese_font")
def test_without_a_chinese_font_the_bundled_one_draws_without_a_warning(
    photo_nodes: list[ImageNode], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        figure = plot_results("哪张图里有帽子？Noto 123", photo_nodes)
        figure.savefig(tmp_path / "results.png")
    assert figure.axes[0].title.get_fontproperties().get_family()[0] == "Noto Sans SC"
    assert caplog.records == []


@pytest.mark.usefixtures("no_chinese_font")
def test_the_bundled_font_has_every_character_of_the_demo_and_of_gb_2312(demo_folder: Path) -> None:
    lines = (demo_folder / "test.jsonl").read_text(encoding="utf-8").splitlines()
    captions = "".join(json.loads(line)["caption"] for line in lines)
    level_1_and_2 = bytes(byte for high in range(0xB0, 0xF8) for low in range(0xA1, 0xFF) for byte in (high, low))
    ideographs = level_1_and_2.decode("gb2312", "ignore")
    assert len(ideographs) == 6763
    for text in (captions, ideographs, "，。？！“”《》：；、…—％℃", "Aa1ä"):
        assert find_font(BUNDLED_FONT).drawable(text) == text


@pytest.mark.usefixtures("no_chinese_font")
def test_characters_that_no_font_has_are_boxes_named_in_one_line(
    photo_nodes: list[ImageNode], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = photo_nodes[0].model_copy(update={"text": "𠮷野家 𠮷\n㐂"})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        figure = plot_results(None, [node, node])
        figure.savefig(tmp_path / "results.png")
    assert figure.axes[0].get_title() == "□野家 □\n□"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "no font has 㐂 𠮷: " in record.getMessage()
    assert "fonts-noto-cjk" in record.getMessage()


def test_a_given_font_is_used_and_a_missing_one_named(photo_nodes: list[ImageNode], tmp_path: Path) -> None:
    font = MATPLOTLIB_FONTS / "DejaVuSans.ttf"
    figure = plot_results("hat", photo_nodes, font=font)
    assert figure.axes[0].title.get_fontproperties().get_file() == str(font)
    with pytest.raises(FileNotFoundError, match="no such font file"):
        plot_results("hat", photo_nodes, font=tmp_path / "gone.ttf")


@pytest.mark.usefixtures("fresh_choice")
def test_a_font_installed_since_matplotlib_listed_them_is_found(
    photo_nodes: list[ImageNode], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    new = shutil.copy(MATPLOTLIB_FONTS / "STIXGeneral.ttf", tmp_path / "new.ttf")
    kept = list(font_manager.fontManager.ttflist)
    listed = [entry for entry in kept if not entry.name.startswith("STIXGeneral")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", listed)
    monkeypatch.setattr(plots, "findSystemFonts", lambda: [str(new), str(tmp_path / "no font.ttf")])
    monkeypatch.setattr(plots, "_CHINESE_FAMILIES", ("STIXGeneral",))
    figure = plot_results("帽子", photo_nodes)
    assert figure.axes[0].title.get_fontproperties().get_family()[0] == "STIXGeneral"
