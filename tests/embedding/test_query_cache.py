"""A query that was asked before costs nothing, and nobody can spoil it for the next."""

from __future__ import annotations

import copy
import pickle

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding.chinese_clip.vectors import QueryCache


def test_the_latest_queries_are_kept_and_the_oldest_leave() -> None:
    cache = QueryCache(size=2)
    computed: list[str] = []

    def ask(query: str) -> list[float]:
        return cache.get(query, lambda: (computed.append(query), [float(len(query))])[1])

    for query in ("a", "bb", "a", "ccc", "bb"):
        assert ask(query) == [len(query)]
    assert computed == ["a", "bb", "ccc", "bb"]


def test_what_the_caller_does_to_a_vector_stays_there() -> None:
    cache = QueryCache()
    cache.get("query", lambda: [1.0, 2.0]).clear()
    assert cache.get("query", list) == [1.0, 2.0]


def test_copies_begin_empty() -> None:
    cache = QueryCache(size=3)
    cache.get("query", lambda: [1.0])
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert other.get("query", lambda: [2.0]) == [2.0]


def test_what_depends_on_the_settings_is_kept_apart(tiny_embedding: ChineseClipEmbedding) -> None:
    long = "天空" * 40
    whole = tiny_embedding.model_copy(update={"long_text": "mean"})
    assert tiny_embedding.get_query_embedding(long) != whole.get_query_embedding(long)
    assert whole.get_query_embedding(long) == whole.get_text_embedding(long)
