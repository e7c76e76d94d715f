"""Lines of OCR become text: columns, paragraphs, list items, tables, vertical text."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from unicodedata import east_asian_width

import pytest

from llama_index_mm_zhipu.ingestion import OcrLine
from llama_index_mm_zhipu.ingestion.reading_order import text_of_lines

WIDTH, HEIGHT, EM = 1000, 1400, 20
LINE = 30
"""Pixels from one line to the next."""


def line(text: str, left: float, top: float, em: float = EM) -> OcrLine:
    """Return a horizontal line as an engine would, at a place in pixels."""
    width = em * sum(1.0 if east_asian_width(character) in "WF" else 0.5 for character in text)
    return OcrLine(text, (left / WIDTH, top / HEIGHT, (left + width) / WIDTH, (top + em) / HEIGHT))


def below(texts: Sequence[str], left: float, top: float, leading: float = LINE) -> list[OcrLine]:
    """Return lines one below the other."""
    return [line(text, left, top + leading * number) for number, text in enumerate(texts)]


def read(*lines: OcrLine) -> list[str]:
    """Return the paragraphs of lines that come in any order."""
    shuffled = random.Random(len(lines)).sample(lines, len(lines))
    return text_of_lines(shuffled, WIDTH, HEIGHT).split("\n")


def test_wrapped_lines_of_a_paragraph_are_joined() -> None:
    first = below(
        ["轮胎的气压应当在冷态下测量，行驶后气压会", "因为发热而升高，此时的读数偏大，不能作为", "标准。"], 100, 100
    )
    second = below(["　　每月至少检查一次，长途行驶前也要检查，", "备胎也不例外。"], 100, 190)
    assert read(*first, *second) == [
        "轮胎的气压应当在冷态下测量，行驶后气压会因为发热而升高，此时的读数偏大，不能作为标准。",
        "每月至少检查一次，长途行驶前也要检查，备胎也不例外。",
    ]


def test_an_indented_line_begins_a_paragraph() -> None:
    lines = [
        *below(["轮胎的气压应当在冷态下测量，行驶后气压会", "因为发热而升高，此时的读数偏大，不作为标"], 100, 100),
        line("备胎的气压比其他轮胎高，每月检查一次", 140, 160),
        line("并记录。", 100, 190),
    ]
    assert read(*lines) == [
        "轮胎的气压应当在冷态下测量，行驶后气压会因为发热而升高，此时的读数偏大，不作为标",
        "备胎的气压比其他轮胎高，每月检查一次并记录。",
    ]


def test_latin_words_are_joined_with_a_space_and_hyphenated_ones_without() -> None:
    lines = below(
        ["Check the tyres once a month and be-", "fore long journeys, with cold tyres and", "a gauge."], 100, 100
    )
    assert read(*lines) == ["Check the tyres once a month and before long journeys, with cold tyres and a gauge."]


def test_a_hyphen_before_a_capital_letter_stays() -> None:
    assert read(*below(["trained by the method of Levenberg-", "Marquardt"], 100, 100)) == [
        "trained by the method of Levenberg- Marquardt"
    ]


def test_list_items_stay_apart_and_their_continuations_are_joined() -> None:
    lines = [
        line("● 滤芯堵塞后出风量明显变小，车窗容易起", 100, 100),
        line("雾，车内还可能有异味。", 130, 130),
        line("● 普通滤芯只拦截颗粒。", 100, 160),
        line("1. 拆下手套箱", 100, 190),
        line("2. 取出滤芯", 100, 220),
        line("（3）装回", 100, 250),
    ]
    assert read(*lines) == [
        "● 滤芯堵塞后出风量明显变小，车窗容易起雾，车内还可能有异味。",
        "● 普通滤芯只拦截颗粒。",
        "1. 拆下手套箱",
        "2. 取出滤芯",
        "（3）装回",
    ]


def test_sentences_on_lines_of_their_own_stay_apart() -> None:
    texts = ["冷却液不足时发动机会过热。", "打开盖子之前先等它冷却。", "只加同一种冷却液。", "每两年更换。"]
    assert read(*below(texts, 100, 100)) == texts


def test_headings_are_not_joined_with_the_text_below() -> None:
    lines = [line("检查胎压", 100, 100, 40), *below(["轮胎的气压应当在冷态下测量，行驶后", "会升高。"], 100, 160)]
    assert read(*lines) == ["检查胎压", "轮胎的气压应当在冷态下测量，行驶后会升高。"]


LEFT = ["左栏的第一行文字一直写到栏的右边", "左栏的第二行文字一直写到栏的右边", "左栏结束。"]
RIGHT = ["右栏的第一行文字一直写到栏的右边", "右栏的第二行文字一直写到栏的右边", "右栏结束。"]


@pytest.mark.parametrize("shift", [0, 14], ids=["same-baselines", "other-baselines"])
def test_columns_are_read_one_after_the_other(shift: int) -> None:
    assert read(*below(LEFT, 100, 200), *below(RIGHT, 460, 200 + shift)) == ["".join(LEFT), "".join(RIGHT)]


def test_three_columns_are_read_one_after_the_other() -> None:
    texts = [[f"第{name}栏文字写到右边了", f"第{name}栏文字又到右边了"] for name in "甲乙丙"]
    columns = [each for number, column in enumerate(texts) for each in below(column, 50 + 300 * number, 200)]
    assert read(*columns) == ["".join(column) for column in texts]


def test_a_heading_across_columns_is_read_first_and_a_footer_last() -> None:
    lines = [
        line("横跨两栏的标题在页面的中间", 300, 100, 30),
        *below(LEFT, 100, 200),
        *below(RIGHT, 460, 200),
        line("第 12 页", 400, 400),
    ]
    assert read(*lines) == ["横跨两栏的标题在页面的中间", "".join(LEFT), "".join(RIGHT), "第 12 页"]


def test_a_heading_between_columns_separates_them() -> None:
    lines = [
        *below(LEFT, 100, 100),
        *below(RIGHT, 460, 100),
        line("横跨两栏的标题在页面的中间", 300, 300, 30),
        *below(["下半页左栏的文字在这里写到右边", "下半页左栏的文字结束。"], 100, 400),
        *below(["下半页右栏的文字在这里写到右边", "下半页右栏的文字结束。"], 460, 400),
    ]
    assert read(*lines) == [
        "".join(LEFT),
        "".join(RIGHT),
        "横跨两栏的标题在页面的中间",
        "下半页左栏的文字在这里写到右边下半页左栏的文字结束。",
        "下半页右栏的文字在这里写到右边下半页右栏的文字结束。",
    ]


def test_tables_are_read_row_by_row() -> None:
    cells = [("项目", "规格", "周期"), ("机油", "5W-30", "一年"), ("胎压", "2.3 bar", "每月")]
    lines = [
        line(text, 100 + 250 * column, 100 + 40 * row)
        for row, texts in enumerate(cells)
        for column, text in enumerate(texts)
    ]
    assert read(*lines) == ["项目 规格 周期", "机油 5W-30 一年", "胎压 2.3 bar 每月"]


def test_labels_of_a_figure_are_read_after_the_text_beside_it() -> None:
    texts = [
        "梯度下降沿着损失函数梯度的反方向，一小步",
        "一小步地更新参数。",
        "学习率决定每一步迈多大，是训练时最需要细",
        "心调节的超参数。",
    ]
    label = OcrLine("学习率合适", (0.62, 0.2, 0.71, 0.23))
    lines = below(texts, 100, 200)
    level = OcrLine(label.text, (0.9, lines[0].box[1], 0.97, lines[0].box[3]))
    assert read(level, *lines) == ["".join(texts[:2]), "".join(texts[2:]), label.text]


def test_a_figure_with_rows_of_labels_is_read_after_the_text_beside_it() -> None:
    labels = [line("晴天", 560, 112), line("雨天", 760, 112), line("去", 560, 175), line("不去", 760, 175)]
    assert read(*below(LEFT, 100, 100), *labels) == ["".join(LEFT), "晴天 雨天", "去 不去"]


def test_tables_with_long_cells_are_read_row_by_row() -> None:
    rows = [("机油", "每一万公里或者每年更换一次，以先到者为准"), ("滤芯", "每两万公里更换，多尘地区应当缩短周期")]
    lines = [line(text, 100 + 150 * column, 100 + 40 * row) for row in (0, 1) for column, text in enumerate(rows[row])]
    assert read(*lines) == [" ".join(row) for row in rows]


def test_the_box_of_a_line_may_include_a_marker_that_its_text_lacks() -> None:
    texts = ["梯度下降沿着损失函数梯度的反方向，一小步", "一小步地更新参数，直到损失不再下降，这时"]
    first, *others = below([*texts, "训练结束。"], 100, 100)
    marked = OcrLine(first.text, (first.box[0] - 0.025, *first.box[1:]))
    assert read(marked, *others) == ["".join([*texts, "训练结束。"])]


def test_vertical_text_is_read_from_the_right() -> None:
    columns = ["床前明月光疑是地上霜举头望明月低头", "思故乡。"]
    lines = [
        OcrLine(text, ((900 - 40 * number) / WIDTH, 0.1, (920 - 40 * number) / WIDTH, 0.1 + EM * len(text) / HEIGHT))
        for number, text in enumerate(columns)
    ]
    assert read(*lines) == ["".join(columns)]


def test_a_vertical_label_beside_horizontal_text_does_not_mix_its_lines() -> None:
    texts = ["损失随步数下降。", "学习率太大会震荡。", "太小则收敛很慢。"]
    label = OcrLine("损失函数的值", (0.02, 0.05, 0.04, 0.2))
    assert read(label, *below(texts, 100, 100)) == [label.text, *texts]


def test_an_image_without_lines_has_no_text() -> None:
    assert text_of_lines([], WIDTH, HEIGHT) == ""
    assert text_of_lines([OcrLine(" ", (0, 0, 1, 1))], WIDTH, HEIGHT) == ""


def test_boxes_without_area_are_read_too() -> None:
    assert text_of_lines([OcrLine("甲乙", (0.5, 0.5, 0.5, 0.5))], WIDTH, HEIGHT) == "甲乙"


@pytest.mark.parametrize("pattern", ["scattered", "in-columns", "in-one-row", "in-one-place"])
def test_the_work_grows_about_linearly_up_to_a_page_of_twenty_thousand_characters(pattern: str) -> None:
    def count_calls(count: int) -> int:
        noise = random.Random(0)
        places = {
            "scattered": lambda number: (noise.uniform(0, 800), noise.uniform(0, 1380)),
            "in-columns": lambda number: (210 * (number % 4), 1400 * number / count),
            "in-one-row": lambda number: (210 * number, 100),
            "in-one-place": lambda number: (100, 100),
        }
        lines = [line("字" * 10, *places[pattern](number)) for number in range(count)]
        calls = 0

        def count_call(*event: object) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(count_call)
        try:
            text = text_of_lines(lines, WIDTH, HEIGHT)
        finally:
            sys.setprofile(None)
        assert text.count("字") == 10 * count
        return calls

    # Eight times the lines; quadratic work would be 64 times as much.
    assert count_calls(2_000) < 12 * count_calls(250)
