"""Chinese sentences that a page breaks into lines are whole again; headings and lists stay as they are."""

from __future__ import annotations

from llama_index_mm_zhipu.readers.pages import clean_text_layer


def test_sentences_that_reach_the_margin_go_on() -> None:
    lines = [
        "梯度下降",
        "学习率决定每一步迈多大，是最需要细",
        " 心调节的超参数。",
        "",
        "过大时损失会来回震荡甚至发散，过小",
        "则收敛。",
    ]
    assert clean_text_layer("\r\n".join(lines)).splitlines() == [
        "梯度下降",
        "学习率决定每一步迈多大，是最需要细心调节的超参数。",
        "过大时损失会来回震荡甚至发散，过小则收敛。",
    ]


def test_sentences_that_end_at_the_margin_stay_apart() -> None:
    assert clean_text_layer("这一句刚好到头。\n下一句也刚好到\n") == "这一句刚好到头。\n下一句也刚好到"


def test_other_scripts_keep_their_lines() -> None:
    assert clean_text_layer("a line of English\nand another line\n") == "a line of English\nand another line"
    assert clean_text_layer("auto\ufffe\nmatic\x02") == "auto-\nmatic-"
    assert clean_text_layer(" \n\n") == ""
