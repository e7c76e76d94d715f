"""Markdown and HTML of GLM-OCR become lines of plain text."""

from __future__ import annotations

import pytest

from llama_index_mm_zhipu.llm.markdown import plain_lines

TABLE = """<table border="1"><tr><td>项目</td><td>本期 金额</td></tr>
<tr><td>政府补助 &amp; 其他</td><td></td><td>10,102<br>396</td></tr></table>"""


@pytest.mark.parametrize(
    ("markdown", "lines"),
    [
        ("", []),
        ("# 冷却系统检查\n\n## 3.1 水箱", ["冷却系统检查", "3.1 水箱"]),
        ("第一行\n第二行", ["第一行", "第二行"]),
        ("- 胎压\n* 胎纹\n+ 气门\n1. 轮毂", ["胎压", "胎纹", "气门", "1. 轮毂"]),
        ("> 引用\n---\n***\n```python\nx = 1\n```", ["引用", "x = 1"]),
        ("**注意**：*高温*，__危险__", ["注意：高温，危险"]),
        ("见[手册](https://example.com/a?b=1)第 3 页", ["见手册第 3 页"]),
        ("前![](page=0,bbox=[431, 1762, 1061, 2189])后", ["前后"]),
        ('<div align="center">\n图 1 <b>水箱</b>\n</div>', ["图 1 水箱"]),
        ("一<br>二<br/>三", ["一", "二", "三"]),
        ("$$\nE = mc^2\n$$", ["E = mc^2"]),
        ("其中 $$x$$ 是 15\\mathrm{g}", ["其中 x 是 15\\mathrm{g}"]),
        ("A &lt; B&nbsp;&amp; C", ["A < B\xa0& C"]),
        (TABLE, ["项目 本期 金额", "政府补助 & 其他 10,102 396"]),
        (f"表 1\n{TABLE}\n单位：元", ["表 1", "项目 本期 金额", "政府补助 & 其他 10,102 396", "单位：元"]),
        ("<table><caption>表 2</caption><tr><th>甲</th><td>乙</td></tr>", ["表 2", "甲 乙"]),
        ("| 项目 | 数量 |\n|:---|---:|\n| 苹果 | 3 |", ["项目 数量", "苹果 3"]),
    ],
)
def test_marks_are_left_out(markdown: str, lines: list[str]) -> None:
    assert plain_lines(markdown) == lines


@pytest.mark.parametrize(
    "text",
    [
        "C# 与 F#",
        "2 * 3 * 4 = 24",
        "snake_case_name",
        "List<String> 与 a<2>c",
        "-5°C",
        "价格 $15 和 $20",
        "[图1] 水箱",
        "a ** b",
    ],
)
def test_text_that_only_looks_like_marks_is_kept(text: str) -> None:
    assert plain_lines(text) == [text]


@pytest.mark.parametrize(
    "unit",
    [
        "字",
        "*",
        "**a",
        "![](",
        "[a](https://",
        "<table><tr><td>",
        "|-",
        "- ",
        "<b",
        "$$",
        "# ",
        "&amp;",
        "_",
        "<div",
        "((",
    ],
)
def test_long_texts_of_marks_are_read_in_moderate_time(unit: str) -> None:
    """In quadratic time, this would take minutes."""
    text = unit * (200_000 // len(unit))
    assert sum(map(len, plain_lines(text))) <= len(text)
