"""``plot_results`` draws the query and the images found, and shows why an image is missing."""

from __future__ import annotations

import builtins
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from llama_index.core.base.response.schema import Response
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle, TextNode
from PIL import Image

from llama_index_mm_zhipu import plot_results
from llama_index_mm_zhipu.display.plots import CHUNKS, wrap


@pytest.fixture
def results(photo_nodes: list[ImageNode]) -> list[NodeWithScore]:
    return [NodeWithScore(node=node, score=0.9 - index / 10) for index, node in enumerate(photo_nodes[:7])]


def titles(figure: Any) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def texts(axes: Any) -> str:
    """Return the text in a tile without spaces, since line breaks replace some of them."""
    return "".join("".join(text.get_text().split()) for text in axes.texts)


def test_query_and_results_are_drawn_in_rows(results: list[NodeWithScore], tmp_path: Path) -> None:
    figure = plot_results("帽子", results, columns=3)

    assert titles(figure) == ["查询", *(f"{r.score:.4f}\n{r.node.get_content()}" for r in results)]
    assert len(figure.axes) == 3 * 4
    figure.savefig(tmp_path / "results.png")
    assert (tmp_path / "results.png").stat().st_size > 10_000


def test_the_time_of_a_video_frame_follows_its_score(results: list[NodeWithScore]) -> None:
    results[0].node.metadata = {"time": "00:01:23", "time_seconds": 83.0}
    first, second = titles(plot_results("帽子", results[:2]))[1:]
    assert first == f"0.9000  00:01:23\n{results[0].node.get_content()}"
    assert second == f"0.8000\n{results[1].node.get_content()}"


def test_results_may_be_nodes_a_response_or_retriever_output(results: list[NodeWithScore]) -> None:
    drawn = titles(plot_results("帽子", results))
    assert titles(plot_results("帽子", Response("是", source_nodes=results))) == drawn
    without_scores = titles(plot_results("帽子", [result.node for result in results]))
    assert without_scores == ["查询", *(result.node.get_content() for result in results)]


def test_results_may_be_images_by_path_or_content(photos: list[Path]) -> None:
    images = [str(photos[0]), photos[1], photos[2].read_bytes(), Image.open(photos[3])]
    figure = plot_results("x", images)
    assert [len(axes.images) for axes in figure.axes] == [0, 1, 1, 1, 1]
    assert titles(figure)[:3] == ["Query", photos[0].name, photos[1].name]
    assert len(plot_results(None, photos[0]).axes) == 1
    gone = plot_results("x", ["gone.jpg"]).axes[1]
    assert texts(gone).startswith("nosuchimage:gone.jpg")
    for wrong in ([3], 3, [photos[0], None]):
        with pytest.raises(TypeError, match=r"cannot show an object of type (int|NoneType): give nodes"):
            plot_results("x", wrong)


@pytest.mark.parametrize(
    ("query", "caption", "language", "title"),
    [
        ("飞机", "", None, "查询"),
        ("cap", "帽子", None, "查询"),
        ("cap", "Blue cap", None, "Query"),
        ("cap", "帽子", "en", "Query"),
        ("cap", "Blue cap", "zh", "查询"),
        (b"image", "Blue cap", None, "Query"),
        (b"image", "", None, "查询"),
    ],
)
def test_the_title_is_in_the_language_of_the_query_and_the_captions(
    photos: list[Path], query: Any, caption: str, language: Any, title: str
) -> None:
    node = ImageNode(id_="1", image_path=str(photos[0]), text=caption)
    query = photos[0].read_bytes() if isinstance(query, bytes) else query
    assert plot_results(query, [node], language=language).axes[0].get_title() == title


def test_a_query_bundle_is_drawn_with_its_words_and_its_image(results: list[NodeWithScore], photos: list[Path]) -> None:
    axes = plot_results(QueryBundle("哪顶？", image_path=str(photos[1])), results).axes[0]
    assert len(axes.images) == 1
    assert axes.get_title() == "查询\n哪顶？"


def test_titles_of_a_row_are_aligned_and_overlap_nothing(tmp_path: Path) -> None:
    """The images have different shapes and the captions different lengths."""
    nodes = []
    for number, size in enumerate([(300, 100), (100, 300), (200, 200), (400, 100), (100, 100), (30, 300)]):
        Image.new("RGB", size, "green").save(tmp_path / f"{number}.png")
        caption = "一架白色的飞机停在机场的跑道上，旁边有三辆行李车和几个工作人员" * (number % 2 + 1)
        nodes.append(NodeWithScore(node=ImageNode(image_path=str(tmp_path / f"{number}.png"), text=caption), score=1.0))
    figure = plot_results("飞机", nodes, columns=3)
    figure.canvas.draw()
    drawn = [axes for axes in figure.axes if axes.images]
    boxes = [axes.title.get_window_extent() for axes in drawn]

    for row in (boxes[:3], boxes[3:]):
        assert len({round(box.y0) for box in row}) == 1
    everything = [
        *boxes,
        *(axes.get_window_extent() for axes in drawn),
        *(axes.images[0].get_window_extent() for axes in drawn),
    ]
    for box in boxes:
        assert box.y1 <= figure.bbox.y1
        assert [other for other in everything if other is not box and box.overlaps(other)] == []


def test_a_notebook_displays_the_figure(results: list[NodeWithScore]) -> None:
    shell = InteractiveShell.instance()
    data, _ = shell.display_formatter.format(plot_results("帽子", results))
    assert Image.open(BytesIO(data["image/png"])).width > 800


def test_large_images_are_reduced_before_they_are_drawn(tmp_path: Path) -> None:
    Image.new("RGB", (4000, 3000), "green").save(tmp_path / "large.jpg")
    query, result = plot_results(tmp_path / "large.jpg", [tmp_path / "large.jpg"]).axes
    assert [axes.images[0].get_array().shape for axes in (query, result)] == [(540, 720, 3)] * 2


def test_texts_among_the_results_are_left_out(results: list[NodeWithScore]) -> None:
    assert len(titles(plot_results("帽子", [NodeWithScore(node=TextNode(text="x")), *results[:2]]))) == 3
    assert titles(plot_results("帽子", [])) == ["查询"]


def test_a_query_image_is_drawn(results: list[NodeWithScore], photos: list[Path]) -> None:
    for query in (photos[0], str(photos[0])):
        assert len(plot_results(query, results).axes[0].images) == 1
    assert len(plot_results("帽子", results).axes[0].images) == 0


def test_images_are_fetched_only_when_allowed(file_server: str, photos: list[Path]) -> None:
    node = ImageNode(image_url=f"{file_server}/{photos[0].name}?s3cr3t", text="裙子")
    query = f"{file_server}/{photos[1].name}?s3cr3t"

    words, refused = plot_results(query, [node]).axes
    assert len(words.images) == 0
    assert texts(words).startswith(file_server[:10])
    assert "s3cr3t" not in texts(words)
    assert len(refused.images) == 0
    assert texts(refused).startswith(f"{file_server}/{photos[0].name}isaURLand")
    assert refused.get_title() == "裙子"
    _, private = plot_results(query, [node], allow_urls=True).axes
    assert "leadstotheprivateaddress" in texts(private)
    fetched = plot_results(query, [node], allow_urls=True, allow_private_urls=True).axes
    assert [len(axes.images) for axes in fetched] == [1, 1]


def test_an_image_that_cannot_be_read_shows_the_reason_beside_the_others(
    results: list[NodeWithScore], tmp_path: Path
) -> None:
    damaged = tmp_path / "$1 or $2.jpg"
    damaged.write_bytes(b"no image")
    figure = plot_results("帽子", [ImageNode(image_path=str(damaged)), *results])
    assert "or$2.jpgisnotanimage" in texts(figure.axes[1])
    assert sum(len(axes.images) for axes in figure.axes) == len(results)
    figure.savefig(tmp_path / "results.png")


def test_a_query_that_is_too_long_for_a_path_counts_as_words(results: list[NodeWithScore]) -> None:
    assert len(plot_results("飞机" * 100, results).axes[0].images) == 0


def test_line_breaks_of_captions_are_kept(photo_nodes: list[ImageNode]) -> None:
    node = photo_nodes[0].model_copy(update={"text": "第 2 章\n轮胎气压\n\n与磨损"})
    assert plot_results(None, [node]).axes[0].get_title() == "第 2 章\n轮胎气压…"


def test_no_line_begins_with_closing_punctuation(photo_nodes: list[ImageNode]) -> None:
    figure = plot_results("胎压太低会有什么危害？", photo_nodes[:1])
    assert figure.axes[0].texts[0].get_text() == "胎压太低会有什么危\n害？"


def test_the_error_names_the_extra_where_matplotlib_is_missing(
    results: list[NodeWithScore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "llama_index_mm_zhipu.display.figure", raising=False)
    real_import = builtins.__import__

    def no_matplotlib(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(ImportError, match=r"llama-index-mm-zhipu\[plot\]"):
        plot_results("帽子", results)


# Line breaks


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("飞机", ["飞机"]),
        ("一架白色的飞机", ["一架白色的", "飞机"]),
        ("一架白色的飞机停在机场的跑道上", ["一架白色的", "飞机停在…"]),
        ("Blue cap, new", ["Blue cap,", "new"]),
        ("Donaudampfschiff", ["Donaudamp…"]),
        ("新款 Long 长袖", ["新款 Long", "长袖"]),
        ("检查轮胎的GPS，", ["检查轮胎的", "GPS，"]),
        ("", [""]),
    ],
)
def test_lines_are_broken_by_the_width_of_their_characters(text: str, lines: list[str]) -> None:
    assert wrap(text, 10, 2) == lines


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    """A data URI may have millions of characters: wrapping all of it would take hours."""
    assert wrap("A" * 1_000_000, 10, 2) == ["AAAAAAAAA…"]
    assert wrap("图" * 1_000_000, 10, 2) == ["图图图图图", "图图图图…"]
    assert wrap("A" * 1_000_000, 40, 2, CHUNKS) == ["A" * 30, "A" * 30 + "…"]
