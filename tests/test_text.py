"""Halves of surrogate pairs, which no file and no request can hold, are joined or marked."""

from __future__ import annotations

import pytest

from llama_index_mm_zhipu.text import SurrogateReplacer, replace_lone_surrogates


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", ""),
        ("红😀", "红😀"),
        ("红\ud83d苹果", "红�苹果"),
        ("\ude00", "�"),
        ("\ud83d\ude00", "😀"),
        ("\ude00\ud83d", "��"),
    ],
)
def test_whole_characters_stay_and_halves_are_marked(text: str, whole: str) -> None:
    assert replace_lone_surrogates(text) == whole
    for cut in range(len(text) + 1):
        pieces = SurrogateReplacer()
        assert pieces.add(text[:cut], last=False) + pieces.add(text[cut:], last=True) == whole
