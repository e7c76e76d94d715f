"""Sparse vectors of texts give the BM25 scores of the embedded store."""

from __future__ import annotations

from llama_index_mm_zhipu.stores.qdrant.sparse import SparseWeights, weights_of_tokens, weights_of_words
from llama_index_mm_zhipu.vector_store.fulltext import tokens_of, words_of_query


def score(query: str, text: str) -> float:
    """Return the inner product of a query and a text, without IDF."""
    words, tokens = weights_of_words(words_of_query(query)), weights_of_tokens(tokens_of(text))
    weights = dict(zip(tokens.indices, tokens.values, strict=True))
    return sum(value * weights.get(index, 0.0) for index, value in zip(words.indices, words.values, strict=True))


def test_indices_are_the_same_in_every_process() -> None:
    assert weights_of_words(["飞机", "iphone"]).indices == [1889898867, 3826926701]


def test_each_term_has_one_index_of_32_bits() -> None:
    weights = weights_of_tokens(tokens_of("白色的飞机 iPhone15Pro 飞机"))
    assert len(set(weights.indices)) == len(weights.indices) == len(weights.values)
    assert all(0 <= index < 2**32 for index in weights.indices)


def test_a_text_without_words_has_an_empty_vector() -> None:
    assert weights_of_tokens(tokens_of("……")) == weights_of_words([]) == SparseWeights([], [])


def test_repeated_words_and_short_texts_score_higher() -> None:
    assert score("飞机", "飞机 飞机") > score("飞机", "飞机") > score("飞机", "飞机 " + "猫 " * 50) > 0
    assert score("飞机", "机飞") == 0


def test_the_parts_of_a_word_are_found_in_order_only() -> None:
    for text in ("iPhone 15", "iphone15", "iPhone15Pro"):
        assert score("iphone 15", text) > 0
        assert score("iphone15", text) > 0
    assert score("iphone15", "15 iPhone") == score("iphone15", "iPhone 14, 15") == 0


def test_a_word_of_many_parts_weighs_as_much_as_any_other() -> None:
    assert sum(weights_of_words(["iphone 15 pro"]).values) == sum(weights_of_words(["飞机"]).values) == 1
