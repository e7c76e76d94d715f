"""Marks of reasoning and boxes are taken out of the text, wherever a stream cuts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_mm_zhipu.llm.responses import MarkedText

CASES = [
    ("红色的飞机", "红色的飞机", "", ""),
    ("", "", "", ""),
    ("<think>先看颜色</think>\n\n红色", "红色", "先看颜色", ""),
    ("\n<think>\n先看颜色\n</think>红色", "红色", "先看颜色\n", ""),
    ("<think>还没想完", "", "还没想完", ""),
    ("<think></think>红色", "红色", "", ""),
    ("答案是<|begin_of_box|>红色<|end_of_box|>。", "答案是红色。", "", "红色"),
    ("<think>想</think><|begin_of_box|>红色<|end_of_box|>", "红色", "想", "红色"),
    ("<|begin_of_box|>一<|end_of_box|>或<|begin_of_box|>二<|end_of_box|>", "一或二", "", "二"),
    ("用 <think> 标签包住", "用 <think> 标签包住", "", ""),
    ("a < b，b <| c", "a < b，b <| c", "", ""),
    ("以 < 结尾 <", "以 < 结尾 <", "", ""),
    ("<thin", "<thin", "", ""),
    ("先看颜色</think>\n\n红色", "红色", "先看颜色", ""),
    ("\n先看颜色\n</think>红色", "红色", "先看颜色\n", ""),
    ("</think>红色", "红色", "", ""),
    ("先看颜色</think>", "", "先看颜色", ""),
    ("想<|begin_of_box|>蓝<|end_of_box|></think>是<|begin_of_box|>红<|end_of_box|>", "是红", "想蓝", "红"),
    ("想<|begin_of_box|>蓝</think>红", "红", "想蓝", ""),
    ("先</think>再</think>三", "再</think>三", "先", ""),
    ("<think>想</think>用 </think> 结尾", "用 </think> 结尾", "想", ""),
    ("写 <think> 和 </think>", "写 <think> 和 </think>", "", ""),
]


@pytest.mark.parametrize(("raw", "text", "reasoning", "boxed"), CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_marks_are_found_however_the_text_is_cut(raw: str, text: str, reasoning: str, boxed: str, size: int) -> None:
    pieces = [raw[start : start + size] for start in range(0, len(raw), size)] or [""]
    marked = MarkedText()

    deltas = [marked.add(piece, last=number == len(pieces)) for number, piece in enumerate(pieces, start=1)]

    assert (marked.text, marked.reasoning, marked.boxed) == (text, reasoning, boxed)
    # What was passed on before a lone mark cannot be taken back.
    assert "".join(deltas).endswith(text)
    assert "".join(deltas) == text or "</think>" in raw


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<|begin_of_box|>", "<|end_of_box|>", "<", "字", " ", "\n"])).map(
        "".join
    ),
    st.randoms(use_true_random=False),
)
def test_cuts_never_change_what_is_found(raw: str, random: object) -> None:
    whole = MarkedText()
    whole.add(raw, last=True)

    cut = MarkedText()
    rest = raw
    while rest:
        length = random.randint(1, 9)  # type: ignore[attr-defined]
        cut.add(rest[:length], last=False)
        rest = rest[length:]
    cut.add("", last=True)

    assert (cut.text, cut.reasoning, cut.boxed) == (whole.text, whole.reasoning, whole.boxed)


def test_what_cannot_be_a_mark_is_not_held_back() -> None:
    marked = MarkedText()
    assert marked.add("红", last=False) == "红"
    assert marked.add("色 <", last=False) == "色 "
    assert marked.add("3", last=False) == "<3"


def test_text_before_a_lone_mark_becomes_reasoning() -> None:
    marked = MarkedText()
    assert marked.add("先看颜色", last=False) == "先看颜色"
    assert (marked.text, marked.reasoning) == ("先看颜色", "")
    assert marked.add("</think>红", last=False) == "红"
    assert (marked.text, marked.reasoning) == ("红", "先看颜色")
    assert marked.add("色", last=True) == "色"
    assert (marked.text, marked.reasoning) == ("红色", "先看颜色")
