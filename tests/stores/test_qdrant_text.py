"""Text search in Qdrant finds the texts that the embedded store finds, and ranks them alike."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.stores import ExternalVectorStore
from llama_index_mm_zhipu.stores.qdrant.sparse import weights_of_words

WORDS = [
    "飞机",
    "汽车",
    "轮船",
    "红苹果",
    "消防车",
    "手机",
    "iphone15",
    "SU7",
    "Mate60Pro",
    "mg/L",
    "红色",
    "北京",
    "高铁",
    "🚗",
    "①",
    "天气",
    "音乐",
    "学校",
]


pytestmark = pytest.mark.integration


@pytest.fixture
def store() -> Iterator[ExternalVectorStore]:
    client = QdrantClient(":memory:")
    yield ExternalVectorStore(QdrantVectorStore("nodes", client=client))
    client.close()


def nodes_of(texts: Sequence[str]) -> list[TextNode]:
    return [TextNode(id_=text or "empty", text=text, embedding=[1.0, 0.0]) for text in texts]


def asking(words: str, k: int = 10) -> VectorStoreQuery:
    return VectorStoreQuery(query_str=words, similarity_top_k=k, mode=VectorStoreQueryMode.TEXT_SEARCH)


def scores(store: ExternalVectorStore | FaissMultiModalVectorStore, words: str, k: int) -> dict[str, float]:
    result = store.query(asking(words, k))
    return dict(zip(result.ids or [], result.similarities or [], strict=True))


def random_texts(rng: random.Random, n: int) -> list[str]:
    """Return Chinese texts of 10 to 60 words, which are as unevenly frequent as those of a language."""
    words = WORDS + [
        "".join(rng.choices("的一是在不了有和人这中大为上个国我以要他时来用们生到", k=2)) for _ in range(400)
    ]
    rng.shuffle(words)
    weights = [1 / (rank + 5) for rank in range(len(words))]
    return list(dict.fromkeys("".join(rng.choices(words, weights, k=rng.randint(10, 60))) for _ in range(n)))


def test_parts_of_words_are_found_as_in_the_embedded_store(store: ExternalVectorStore) -> None:
    texts = [
        "iPhone 15",
        "iphone15Pro",
        "15 iPhone",
        "iphone 14",
        "a_b",
        "b a",
        "a b",
        "abc 12 x",
        "abc12",
        "abc 12x",
        "",
    ]
    embedded = FaissMultiModalVectorStore()
    for each in (store, embedded):
        each.add(nodes_of(texts))
    for words in ("iphone15", "iPhone 15", "15", "iphone", "a_b", "abc12x", "12x", "?", "", "轮船"):
        assert scores(store, words, 20).keys() == scores(embedded, words, 20).keys(), words


def test_a_word_of_three_parts_is_found_behind_many_texts_with_two(store: ExternalVectorStore) -> None:
    # The long text has the lowest score of all that have the pairs.
    false = [f"xx 15 {i}, 15 pro {i}" for i in range(30)]
    store.add(nodes_of([*false, "xx15pro " + "猫" * 3000]))
    (found,) = store.query(asking("xx15pro", k=1)).ids or []
    assert found.startswith("xx15pro")
    assert len(store.query(asking("xx15pro", k=5)).ids or []) == 1


def test_words_with_the_same_index_are_told_apart(store: ExternalVectorStore) -> None:
    by_index: dict[int, str] = {}
    for number in count():
        word = f"w{'abcdefghij'[number % 10]}" + "".join(chr(97 + int(digit)) for digit in str(number))
        index = weights_of_words([word]).indices[0]
        if index in by_index and by_index[index] != word:
            break
        by_index[index] = word
    store.add(nodes_of([word]))
    assert store.query(asking(word)).ids == [word]
    assert store.query(asking(by_index[index])).ids == []


def test_random_texts_are_ranked_nearly_as_in_the_embedded_store(store: ExternalVectorStore) -> None:
    rng = random.Random(0)
    texts = random_texts(rng, 400)
    embedded = FaissMultiModalVectorStore()
    for each in (store, embedded):
        each.add(nodes_of(texts))
    correlations, shared = [], []
    for _ in range(40):
        start, text = rng.randint(0, 3), rng.choice(texts)
        words = text[start : start + rng.randint(2, 6)]
        ours, theirs = scores(store, words, 400), scores(embedded, words, 400)
        assert ours.keys() == theirs.keys(), words
        if len(ours) > 10:
            ids = list(ours)
            pair = [ours[each] for each in ids], [theirs[each] for each in ids]
            correlations.append(np.corrcoef(*pair)[0, 1])
            shared.append(len(set(ids[:10]) & set(list(theirs)[:10])) / 10)
    assert len(correlations) > 15
    # Measured: 0.985 and 0.90. The embedded store knows the average length of the texts.
    assert np.mean(correlations) > 0.97
    assert np.mean(shared) > 0.85
