"""Caption and legible text are found in whatever a model puts around them, and in no time."""

from __future__ import annotations

import time

import pytest

from llama_index_mm_zhipu.ingestion.captioner import caption_in


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("说明：一只猫\n文字：无", "一只猫"),
        ("说明：一只猫。\n文字：停车\n禁止", "一只猫。\n停车\n禁止"),
        ("**说明**：一只猫\n\n**文字**: SALE", "一只猫\nSALE"),
        ("**说明：** 一只猫\n**文字：** SALE", "一只猫\nSALE"),
        ("说明:一只猫\n坐着\n文字:没有文字。", "一只猫\n坐着"),
        ("1. 说明：一只猫\n2. 文字：SALE", "一只猫\nSALE"),
        ("- 说明：一只猫\n- 文字：SALE", "一只猫\nSALE"),
        ("说明：一只猫。文字：无", "一只猫。"),
        ("文字：SALE\n说明：一只猫", "一只猫\nSALE"),
        ("说明：一只猫", "一只猫"),
        ("文字：无", ""),
        ("```\n说明：一只猫\n文字：SALE\n```", "一只猫\nSALE"),
        ("<think>\n说明：草稿\n</think>\n说明：一只猫\n文字：SALE", "一只猫\nSALE"),
        ("Caption: A cat\nText: none", "A cat"),
        ("Caption: A cat\nText: STOP", "A cat\nSTOP"),
        ("Description: A cat\nText: No legible text.", "A cat"),
        ("  一只猫坐着  ", "一只猫坐着"),
        ("产品说明：见附件", "产品说明：见附件"),
        ("说明：封面\n文字：产品名\n说明：请勿折叠", "封面\n产品名\n说明：请勿折叠"),
        ("说明：\n文字：停车", "停车"),
        ("一个红苹果。\n文字：ABC", "一个红苹果。\nABC"),
        ("A blue sign.\nText: STOP", "A blue sign.\nSTOP"),
        ("这张图片的说明：苹果\n文字：无", "苹果"),
        ('"说明：苹果\n文字：无"', "苹果"),
        ("【说明】苹果。\n【文字】无", "苹果。"),
        ("**图片内容说明**：苹果\n**文字**：无", "苹果"),
        ("**说明（图片内容）**：苹果\n文字：无", "苹果"),
        ("图片描述：苹果\n图片文字：ABC", "苹果\nABC"),
        ("（1）说明：苹果\n（2）文字：ABC", "苹果\nABC"),
        ("一、说明：苹果\n二、文字：ABC", "苹果\nABC"),
        ("", ""),
    ],
)
def test_what_an_answer_gives(answer: str, caption: str) -> None:
    assert caption_in(answer) == caption


@pytest.mark.parametrize(
    "text",
    [
        "无文字",
        "图中没有文字。",
        "没有可见的文字",
        "n/a",
        "“无”",
        "No text in the image",
        "（无）",
        "无法辨认",
        "没有可识别的文字信息",
        "图片中没有清晰可见的文字",
        "No text is visible.",
    ],
)
def test_ways_to_say_that_there_is_no_text(text: str) -> None:
    assert caption_in(f"说明：一只猫\n文字：{text}") == "一只猫"


@pytest.mark.parametrize("filler", ["\n", " \n", "*", "- ", "说明：", "<think>"])
def test_an_answer_that_runs_away_takes_no_time(filler: str) -> None:
    start = time.process_time()
    caption_in("说明：猫" + filler * 5000 + "。")
    caption_in(filler * 5000)
    assert time.process_time() - start < 1
