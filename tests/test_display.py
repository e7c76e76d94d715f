"""Pictures of results hold what was found, and say what is missing."""

from __future__ import annotations

import builtins
import logging
import shutil
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from llama_index.core.base.response.schema import Response
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode
from matplotlib import font_manager

from llama_index_mm_zhipu import display, plot_results


@pytest.fixture
def results(photo_nodes: list[ImageNode]) -> list[NodeWithScore]:
    return [NodeWithScore(node=node, score=0.9 - place / 10) for place, node in enumerate(photo_nodes[:7])]


def titles(figure: Any) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_query_and_results_are_drawn_in_rows(results: list[NodeWithScore], tmp_path: Path) -> None:
    figure = plot_results("帽子", results, columns=3)

    assert titles(figure) == ["查询", *(f"{r.score:.4f}\n{r.node.get_content()}" for r in results)]
    assert len(figure.axes) == 3 * 4
    figure.savefig(tmp_path / "results.png")
    assert (tmp_path / "results.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("飞机", ["飞机"]),
        ("一架白色的飞机", ["一架白色的", "飞机"]),
        ("一架白色的飞机停在机场的跑道上", ["一架白色的", "飞机停在…"]),
        ("Blue cap, new", ["Blue cap,", "new"]),
        ("Donaudampfschiff", ["Donaudamp…"]),
        ("新款 Long 长袖", ["新款 Long", "长袖"]),
        ("", [""]),
    ],
)
def test_titles_are_wrapped_by_the_width_of_their_characters(text: str, lines: list[str]) -> None:
    assert display._wrap(text, 10, 2) == lines


def test_nodes_responses_and_retriever_output_are_taken(results: list[NodeWithScore]) -> None:
    drawn = titles(plot_results("帽子", results))
    assert titles(plot_results("帽子", Response("是", source_nodes=results))) == drawn
    without_scores = titles(plot_results("帽子", [result.node for result in results]))
    assert without_scores == ["查询", *(result.node.get_content() for result in results)]


def test_texts_among_the_results_are_left_out(results: list[NodeWithScore]) -> None:
    assert len(titles(plot_results("帽子", [NodeWithScore(node=TextNode(text="x")), *results[:2]]))) == 3
    assert titles(plot_results("帽子", [])) == ["查询"]


def test_a_query_picture_is_drawn(results: list[NodeWithScore], photos: list[Path]) -> None:
    for query in (photos[0], str(photos[0])):
        assert len(plot_results(query, results).axes[0].images) == 1
    assert len(plot_results("帽子", results).axes[0].images) == 0


def texts(axes: Any) -> str:
    """What is written in a tile, without the spaces, as some are lost where lines break."""
    return "".join("".join(text.get_text().split()) for text in axes.texts)


def test_pictures_are_fetched_only_when_allowed(file_server: str, photos: list[Path]) -> None:
    node = ImageNode(image_url=f"{file_server}/{photos[0].name}?s3cr3t", text="裙子")
    query = f"{file_server}/{photos[1].name}?s3cr3t"

    words, refused = plot_results(query, [node]).axes
    assert len(words.images) == 0
    assert texts(words).startswith(file_server[:10])
    assert "s3cr3t" not in texts(words)
    assert len(refused.images) == 0
    assert texts(refused).startswith(f"{file_server}/{photos[0].name}isanaddressand")
    assert refused.get_title() == "裙子"
    _, private = plot_results(query, [node], allow_urls=True).axes
    assert "leadstotheprivateaddress" in texts(private)
    fetched = plot_results(query, [node], allow_urls=True, allow_private_urls=True).axes
    assert [len(axes.images) for axes in fetched] == [1, 1]


def test_a_picture_that_cannot_be_read_leaves_the_others(results: list[NodeWithScore], tmp_path: Path) -> None:
    damaged = tmp_path / "$1 or $2.jpg"
    damaged.write_bytes(b"no picture")
    figure = plot_results("帽子", [ImageNode(image_path=str(damaged)), *results])
    assert "or$2.jpgisnotapicture" in texts(figure.axes[1])
    assert sum(len(axes.images) for axes in figure.axes) == len(results)
    figure.savefig(tmp_path / "results.png")


def test_long_words_are_no_path(results: list[NodeWithScore]) -> None:
    assert len(plot_results("飞机" * 100, results).axes[0].images) == 0


def test_a_given_font_is_used_and_a_missing_one_named(results: list[NodeWithScore], tmp_path: Path) -> None:
    import matplotlib

    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    figure = plot_results("帽子", results, font=font)
    assert figure.axes[0].title.get_fontproperties().get_file() == str(font)
    with pytest.raises(FileNotFoundError, match="no such font file"):
        plot_results("帽子", results, font=tmp_path / "gone.ttf")


def test_without_a_chinese_font_a_warning_names_a_package(
    results: list[NodeWithScore], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(display, "_CJK_FAMILIES", ("No Such Family",))
    display._chinese_font.cache_clear()
    plot_results("帽子", results)
    display._chinese_font.cache_clear()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "fonts-noto-cjk" in caplog.text


def test_a_font_installed_since_matplotlib_listed_them_is_found(
    results: list[NodeWithScore], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "STIXGeneral.ttf"
    new = shutil.copy(font, tmp_path / "new.ttf")
    kept = list(font_manager.fontManager.ttflist)
    listed = [entry for entry in kept if not entry.name.startswith("STIXGeneral")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", listed)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(new), str(tmp_path / "no font.ttf")])
    monkeypatch.setattr(display, "_CJK_FAMILIES", ("STIXGeneral",))
    display._chinese_font.cache_clear()
    figure = plot_results("帽子", results)
    display._chinese_font.cache_clear()
    assert figure.axes[0].title.get_fontproperties().get_family()[0] == "STIXGeneral"


def test_captions_of_several_lines_keep_them(photo_nodes: list[ImageNode]) -> None:
    node = photo_nodes[0].model_copy(update={"text": "第 2 章\n轮胎气压\n\n与磨损"})
    assert plot_results(None, [node]).axes[0].get_title() == "第 2 章\n轮胎气压…"


def test_no_line_begins_with_closing_punctuation(photo_nodes: list[ImageNode]) -> None:
    figure = plot_results("胎压太低会有什么危害？", photo_nodes[:1])
    assert figure.axes[0].texts[0].get_text() == "胎压太低会有什么危\n害？"
    assert display._wrap("检查轮胎的GPS，然后", 14, 5) == ["检查轮胎的", "GPS，然后"]


def test_without_matplotlib_the_error_names_the_extra(
    results: list[NodeWithScore], monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def no_matplotlib(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(ImportError, match=r"llama-index-mm-zhipu\[plot\]"):
        plot_results("帽子", results)
