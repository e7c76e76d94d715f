"""Texts are cut and wrapped by the columns that they take in a terminal."""

from __future__ import annotations

import pytest

from llama_index_mm_zhipu.cli.columns import fitted, wrapped
from llama_index_mm_zhipu.text import columns_of


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("", 0, ""),
        ("红苹果", 6, "红苹果"),
        ("红苹果", 5, "红苹…"),
        ("红苹果", 4, "红…"),
        ("apples", 5, "appl…"),
        ("apples", 1, "…"),
        ("apples", 0, "…"),
        ("apples", -3, "…"),
    ],
)
def test_a_text_is_cut_to_the_columns_that_there_are(text: str, columns: int, shown: str) -> None:
    assert fitted(text, columns) == shown


def test_lines_break_between_words_and_between_chinese_characters() -> None:
    assert wrapped("one two three", 7) == ["one two", "three"]
    assert wrapped("模型名（如 ViT-B-16）或路径", 16) == ["模型名（如", "ViT-B-16）或路径"]
    assert wrapped("混合（hybrid）、多样（mmr）", 20) == ["混合（hybrid）、多样", "（mmr）"]


def test_no_line_begins_with_punctuation_that_closes_or_ends_with_one_that_opens() -> None:
    text = "检索方式：向量（default）、全文（text_search）、混合（hybrid）、多样（mmr）。"
    for columns in range(17, 80):
        lines = wrapped(text, columns)
        assert "".join(lines) == text
        for line in lines:
            assert columns_of(line) <= columns
            assert line[0] not in "，。；：、）"
            assert line[-1] not in "（《"


def test_a_word_that_is_too_long_has_a_line_of_its_own() -> None:
    assert wrapped("a https://open.bigmodel.cn b", 10) == ["a", "https://open.bigmodel.cn", "b"]
    assert wrapped("", 10) == [""]
