"""Terms of many texts at once are those of each text alone."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest

from llama_index_mm_zhipu.vector_store import fulltext
from llama_index_mm_zhipu.vector_store.character_terms import character_terms
from llama_index_mm_zhipu.vector_store.fulltext import terms_of, terms_of_texts

ALPHABETS = (
    "飞机火车",
    "飞机火车，。！ 《》…“”",
    "飞1a机b2 ，-",
    "+=-①②😀🎉\u200d\ufe0f x",
    "é\u0301が\u3099ㄱ가〇㎡²Ａ１＋\U00020001\ud800\0#/\n",
)


def texts_of(alphabet: str, count: int) -> Iterator[str]:
    chosen = random.Random(len(alphabet))
    for _ in range(count):
        yield "".join(chosen.choices(alphabet, k=chosen.choice((0, 1, 2, 5, 20, 60))))


@pytest.mark.parametrize("alphabet", [*ALPHABETS, "".join(ALPHABETS)])
def test_terms_of_many_texts_are_those_of_each(alphabet: str) -> None:
    texts = list(texts_of(alphabet, 600))
    assert list(terms_of_texts(texts)) == [terms_of(text) for text in texts]


@pytest.mark.parametrize("texts", [[], [""], ["", "飞机", ""], ["，"] * 40, [*["飞机飞机"] * 40, "飞" * 70_000, "机"]])
def test_texts_of_any_number_and_length_have_their_terms(texts: list[str]) -> None:
    assert list(terms_of_texts(texts)) == [terms_of(text) for text in texts]


def test_characters_and_pairs_are_counted_within_a_text() -> None:
    found = character_terms([["飞机飞机", "机"], [], ["飞"]], "#")
    assert found.counts == [8, 0, 1]
    assert found.terms == ["飞 机 飞 机 机 飞机 机飞 飞机", "", "飞"]
    assert found.repetitions == ["飞#2 机#2 机#3 飞机#2", "", ""]


def test_texts_that_need_no_normalisation_have_the_terms_of_normalised_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = list(texts_of("飞机，。！ 《》…“”—　、（）：；？aB1 +-=^`~$|<>_@#/%&*\0\n\x7f", 500))
    directly = [terms_of(text) for text in texts]
    monkeypatch.setattr(fulltext, "_NORMAL", re.compile("(?!)"))
    assert [terms_of(text) for text in texts] == directly
