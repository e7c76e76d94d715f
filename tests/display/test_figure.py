"""Plots find a Chinese font on every system, and log missing characters once."""

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
from llama_index_mm_zhipu.display import figure as figure_module
from llama_index_mm_zhipu.display.figure import BUNDLED_FONT, find_font

MATPLOTLIB_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@pytest.fixture
def no_cached_font() -> Iterator[None]:
    """The cached choice of a font is dropped before and after the test."""
    figure_module._chinese_font.cache_clear()
    yield
    figure_module._chinese_font.cache_clear()


@pytest.fixture
def no_chinese_font(no_cached_font: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system has no Chinese font."""
    monkeypatch.setattr(figure_module, "_CHINESE_FAMILIES", ())


@pytest.mark.usefixtures("no_chinese_font")
def test_the_bundled_font_is_used_where_the_system_has_no_chinese_font(
    photo_nodes: list[ImageNode], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        figure = plot_results("哪张图里有帽子？Noto 123", photo_nodes)
        figure.savefig(tmp_path / "results.png")
    assert figure.axes[0].title.get_fontproperties().get_family()[0] == "Noto Sans SC"
    assert caplog.records == []


@pytest.mark.usefixtures("no_chinese_font")
def test_the_bundled_font_has_all_characters_of_gb_2312_and_of_the_demo(demo_folder: Path) -> None:
    lines = (demo_folder / "test.jsonl").read_text(encoding="utf-8").splitlines()
    captions = "".join(json.loads(line)["caption"] for line in lines)
    level_1_and_2 = bytes(byte for high in range(0xB0, 0xF8) for low in range(0xA1, 0xFF) for byte in (high, low))
    ideographs = level_1_and_2.decode("gb2312", "ignore")
    assert len(ideographs) == 6763
    for text in (captions, ideographs, "，。？！“”《》：；、…—％℃", "Aa1ä"):
        assert find_font(BUNDLED_FONT).drawable(text) == text


@pytest.mark.usefixtures("no_chinese_font")
def test_characters_without_a_glyph_are_drawn_as_boxes_and_logged_once(
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


def test_a_font_file_can_be_given_and_must_exist(photo_nodes: list[ImageNode], tmp_path: Path) -> None:
    font = MATPLOTLIB_FONTS / "DejaVuSans.ttf"
    figure = plot_results("hat", photo_nodes, font=font)
    assert figure.axes[0].title.get_fontproperties().get_file() == str(font)
    with pytest.raises(FileNotFoundError, match="no such font file"):
        plot_results("hat", photo_nodes, font=tmp_path / "gone.ttf")


@pytest.mark.usefixtures("no_cached_font")
def test_a_font_that_was_installed_after_matplotlib_cached_its_list_is_found(
    photo_nodes: list[ImageNode], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    new = shutil.copy(MATPLOTLIB_FONTS / "STIXGeneral.ttf", tmp_path / "new.ttf")
    kept = list(font_manager.fontManager.ttflist)
    listed = [entry for entry in kept if not entry.name.startswith("STIXGeneral")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", listed)
    monkeypatch.setattr(figure_module, "findSystemFonts", lambda: [str(new), str(tmp_path / "no font.ttf")])
    monkeypatch.setattr(figure_module, "_CHINESE_FAMILIES", ("STIXGeneral",))
    figure = plot_results("帽子", photo_nodes)
    assert figure.axes[0].title.get_fontproperties().get_family()[0] == "STIXGeneral"
