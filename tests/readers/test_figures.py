"""Which images are figures, and what the text of a page says about them."""

from __future__ import annotations

import pytest

from llama_index_mm_zhipu.readers.figures import Box, Line, is_caption, is_figure, labels_in, texts_of

LEFT, RIGHT = Box(0, 100, 180, 200), Box(220, 100, 400, 200)


def line(text: str, left: float, top: float, width: float = 150, height: float = 12) -> Line:
    return Line(text, Box(left, top, left + width, top + height))


@pytest.mark.parametrize(
    "text",
    [
        "图 3-2 更换备胎的步骤",
        "图3：结构",
        "圖 1-4a 結構",
        "图一 流程",
        "图 2.1　流程",
        "表 1 参数",
        "Figure 2: Parts",
        "FIG. 3 Parts",
        "Fig. A1. Parts",
        "  图 7",
    ],
)
def test_captions_begin_with_a_label(text: str) -> None:
    assert is_caption(text)


@pytest.mark.parametrize(
    "text",
    [
        "图 3-2 所示的步骤",
        "图3展示了结构",
        "图2中，箭头表示方向",
        "Figure 2 shows the parts",
        "如图 3 所示",
        "图书馆 3 楼",
        "图三角形",
        "图表 3",
        "figures 3",
        "步骤 2",
        "",
    ],
)
def test_sentences_are_not_captions(text: str) -> None:
    assert not is_caption(text)


def test_labels_are_recognised_however_they_are_written() -> None:
    assert labels_in("如图 3－2、图3-2 和图 13 所示") == {"图3-2", "图13"}
    assert labels_in("see Fig. 2 and figure 2") == {"figure2"}


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (Box(0, 0, 100, 100), True),
        (Box(0, 0, 31, 300), False),
        (Box(0, 0, 40, 40), False),
        (Box(0, 0, 450, 36), False),
        (Box(0, 0, 500, 440), False),
    ],
    ids=["figure", "narrow", "icon", "rule", "page"],
)
def test_icons_rules_and_whole_pages_are_not_figures(box: Box, expected: bool) -> None:
    assert is_figure(box, 500, 480) is expected


def test_each_figure_of_a_row_has_the_caption_below_it() -> None:
    lines = [line("图 1 左", 10, 204), line("图 2 右", 230, 204)]
    assert [each.caption for each in texts_of([LEFT, RIGHT], lines, 500)] == ["图 1 左", "图 2 右"]


def test_captions_above_are_recognised_by_those_of_the_whole_page() -> None:
    boxes = [Box(0, 100, 180, 200), Box(0, 230, 180, 330)]
    above = [line("图 1 上", 10, 85), line("图 2 下", 10, 214)]
    assert [each.caption for each in texts_of(boxes, above, 500)] == ["图 1 上", "图 2 下"]
    below = [line("图 1 上", 10, 204), line("图 2 下", 10, 334)]
    assert [each.caption for each in texts_of(boxes, below, 500)] == ["图 1 上", "图 2 下"]


def test_a_caption_of_several_lines_is_joined() -> None:
    lines = [line("图 1 更换备胎时先松开", 0, 204, 178), line("螺母再顶起", 0, 218, 80), line("正文", 0, 232, 60)]
    (text,) = texts_of([LEFT], lines, 500)
    assert text.caption == "图 1 更换备胎时先松开螺母再顶起"
    assert text.neighbours == ("正文",)
    smaller = [lines[0], line("螺母再顶起", 0, 218, 80, height=10)]
    assert texts_of([LEFT], smaller, 500)[0].caption == "图 1 更换备胎时先松开"


def test_latin_captions_are_joined_with_a_blank() -> None:
    lines = [line("Figure 1: Loosen the", 0, 204, 178), line("nuts first", 0, 218, 80)]
    assert texts_of([LEFT], lines, 500)[0].caption == "Figure 1: Loosen the nuts first"


def test_lines_belong_to_the_nearest_figure() -> None:
    lines = [
        line("左边的说明", 10, 84),
        line("右边的说明", 230, 84),
        line("太远", 10, 450),
        line("12", 10, 204),
    ]
    left, right = texts_of([LEFT, RIGHT], lines, 500)
    assert (left.neighbours, right.neighbours) == (("左边的说明",), ("右边的说明",))


def test_a_line_far_away_that_names_the_figure_is_about_it() -> None:
    lines = [line("如图 1-2 所示，先松开", 0, 0), line("见图 1-21", 0, 14), line("图 1-2 螺母", 10, 204)]
    (text,) = texts_of([LEFT], lines, 300)
    assert text.neighbours == ("如图 1-2 所示，先松开",)


def test_neighbouring_text_is_bounded_and_in_reading_order() -> None:
    lines = [line(f"第{number}行" + "字" * 96, 0, 96 - 14 * (20 - number)) for number in range(20)]
    (text,) = texts_of([LEFT], lines, 2000)
    assert [each[:4] for each in text.neighbours] == [f"第{number}行" for number in range(14, 20)]
    (long,) = texts_of([LEFT], [line("字" * 5000, 0, 84)], 2000)
    assert len(long.neighbours[0]) == 600
