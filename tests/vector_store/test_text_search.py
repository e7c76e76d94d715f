"""Search by words: the matches and scores are those of FTS5's own function bm25, whatever is added and deleted."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store.fulltext import ASCII_SYMBOLS, tokens_of, words_of_query

CHINESE = ("白色", "的", "飞机", "机场", "哈哈哈", "，", "🎉", "+ ", " ")
WORDS = ("iPhone", "15", "Pro", "iphone15pro", "a1b", "foo_bar", "1_2")
QUERIES = (
    *("飞机", "白色的飞机", "的", "机", "哈哈", "哈哈哈", "🎉🎉", "飞机 哈哈", "白色 机场", "机 的", "foo_bar 的"),
    *("iphone15", "iPhone15Pro", "a1b", "15", "foo_bar", "1_2 ", "15pro15", "1b15pro"),
)


def random_text(source: random.Random) -> str:
    return "".join(source.choices(CHINESE + WORDS, k=source.randint(0, 12)))


def node(number: int, text: str) -> TextNode:
    return TextNode(id_=str(number), text=text, embedding=[1.0, float(number)], metadata={"page": number % 7})


def found(
    store: FaissMultiModalVectorStore, words: str, k: int = 1000, filters: MetadataFilters | None = None
) -> list[tuple[str, float]]:
    mode = VectorStoreQueryMode.TEXT_SEARCH
    result = store.query(VectorStoreQuery(query_str=words, similarity_top_k=k, mode=mode, filters=filters))
    return list(zip(result.ids or [], result.similarities or [], strict=True))


def found_by_fts5(texts: Mapping[str, str], words: str) -> dict[str, float]:
    """Return the BM25 scores of a table with positions and lengths."""
    database = sqlite3.connect(":memory:")
    tokenizer = f"ascii tokenchars '_{ASCII_SYMBOLS}'"
    database.execute(f'create virtual table texts using fts5 (tokens, tokenize = "{tokenizer}")')
    rows = [(int(id_), tokens) for id_, text in texts.items() if (tokens := tokens_of(text))]
    database.executemany("insert into texts (rowid, tokens) values (?, ?)", rows)
    expression = " OR ".join(f'"{word}"' for word in words_of_query(words))
    scored = database.execute("select rowid, -bm25(texts) from texts where texts match ?", (expression,))
    return {str(id_): score for id_, score in scored}


def assert_finds_as_fts5(store: FaissMultiModalVectorStore, texts: Mapping[str, str]) -> None:
    for words in QUERIES:
        ours = found(store, words)
        assert dict(ours) == pytest.approx(found_by_fts5(texts, words), rel=1e-9)
        scores = [score for _, score in ours]
        assert scores == sorted(scores, reverse=True)
        assert found(store, words, 3) == ours[:3]


def test_scores_are_those_of_fts5(store: FaissMultiModalVectorStore) -> None:
    source = random.Random(1)
    texts = {str(number): random_text(source) for number in range(300)}
    store.add([node(int(id_), text) for id_, text in texts.items()])
    assert_finds_as_fts5(store, texts)


@pytest.mark.parametrize("first", [1, 3, 10, 50])
def test_the_best_texts_are_found_without_reading_all_lists(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = random.Random(first)
    store = FaissMultiModalVectorStore()
    store.add([node(number, random_text(source)) for number in range(400)])
    page = MetadataFilters(filters=[MetadataFilter(key="page", value=3, operator=FilterOperator.NE)])
    every = [(words, filters, found(store, words, filters=filters)) for words in QUERIES for filters in (None, page)]
    monkeypatch.setattr("llama_index_mm_zhipu.vector_store.text_search._FIRST_TEXTS", first)
    for words, filters, expected in every:
        for k in (1, 3, 10, 100):
            assert found(store, words, k, filters) == expected[:k]


def test_numbers_of_texts_are_counted_again_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_index_mm_zhipu.vector_store.text_search._FIRST_TEXTS", 1)
    monkeypatch.setattr("llama_index_mm_zhipu.vector_store.sessions._KEPT_COUNT", 1)
    source = random.Random(4)
    texts: dict[str, str] = {}
    with FaissMultiModalVectorStore(tmp_path) as store, FaissMultiModalVectorStore(tmp_path) as other:
        for changed in (store, other, store):
            added = {str(number): random_text(source) for number in range(len(texts), len(texts) + 40)}
            changed.add([node(int(id_), text) for id_, text in added.items()])
            texts |= added
            for words in ("飞机", "哈哈 机场"):
                scores = found_by_fts5(texts, words)
                best = found(store, words, 3)
                assert dict(best) == pytest.approx({id_: scores[id_] for id_, _ in best}, rel=1e-9)


def test_scores_stay_those_of_fts5_when_texts_are_replaced_and_deleted(store: FaissMultiModalVectorStore) -> None:
    source = random.Random(2)
    texts: dict[str, str] = {}
    for _ in range(12):
        changed = {str(number): random_text(source) for number in source.sample(range(60), 10)}
        store.add([node(int(id_), text) for id_, text in changed.items()])
        deleted = [str(number) for number in source.sample(range(60), 4)]
        store.delete_nodes(deleted)
        texts = {id_: text for id_, text in {**texts, **changed}.items() if id_ not in deleted}
    assert_finds_as_fts5(store, texts)
    store.delete_nodes(list(texts))
    assert not store.has_texts()
    store.add([node(1, "白色的飞机")])
    assert_finds_as_fts5(store, {"1": "白色的飞机"})
    store.clear()
    assert found(store, "飞机") == []
    store.add([node(2, "飞机飞机")])
    assert_finds_as_fts5(store, {"2": "飞机飞机"})


@pytest.mark.parametrize("by", ["listing nodes", "listing nodes after a sample", "looking into texts", "testing texts"])
def test_a_filter_leaves_the_scores_as_they_are(
    store: FaissMultiModalVectorStore, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by in ("listing nodes after a sample", "testing texts"):
        monkeypatch.setattr("llama_index_mm_zhipu.vector_store.sessions.MIN_LISTING_BUDGET", 1)
    if by == "looking into texts":
        monkeypatch.setattr("llama_index_mm_zhipu.vector_store.text_search._READ_PER_TEXT", 0)
        monkeypatch.setattr("llama_index_mm_zhipu.vector_store.text_search._READ_PER_TOKEN", 0)
    if by == "testing texts":
        monkeypatch.setattr("llama_index_mm_zhipu.vector_store.text_search._LISTED_PER_TEST", 0)
    source = random.Random(3)
    texts = {str(number): random_text(source) for number in range(200)}
    store.add([node(int(id_), text) for id_, text in texts.items()])
    filters = MetadataFilters(filters=[MetadataFilter(key="page", value=3, operator=FilterOperator.EQ)])
    for words in QUERIES:
        every = found(store, words)
        wanted = [(id_, score) for id_, score in every if int(id_) % 7 == 3]
        assert found(store, words, 5, filters) == wanted[:5]
        assert found(store, words, 1000, filters) == wanted


def test_older_nodes_come_first_among_equals(store: FaissMultiModalVectorStore) -> None:
    for number in range(9, 0, -1):
        store.add([node(number, "飞机")])
    assert [id_ for id_, _ in found(store, "飞机", 4)] == ["9", "8", "7", "6"]


def test_a_word_may_be_of_any_length(store: FaissMultiModalVectorStore) -> None:
    long = "x" * 40_000
    texts = {"1": f"{long} {long} 飞机", "2": "飞机", "3": f"{long}15"}
    store.add([node(int(id_), text) for id_, text in texts.items()])
    for words in (long, f"{long}15"):
        assert {id_ for id_, _ in found(store, words)} == set(found_by_fts5(texts, words))
    store.delete_nodes(["1", "3"])
    assert found(store, long) == []


def test_terms_that_another_python_left_in_the_table_find_nothing(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add([node(1, "飞机"), node(2, "飞机场飞机")])
    with sqlite3.connect(tmp_path / "default.sqlite3") as database:
        database.execute("insert into texts (rowid, terms) values (3 << 36 | 99, '飞机 飞机#2')")
        database.execute("update settings set value = '[2, 12, \"5.0.0\"]' where key = 'text_size'")
    with FaissMultiModalVectorStore(tmp_path) as store:
        assert dict(found(store, "飞机")).keys() == {"1", "2"}
        store.delete_nodes(["2"])
        assert [id_ for id_, _ in found(store, "飞机", 1)] == ["1"]
        store.delete_nodes(["1"])
        store.add([node(3, "飞机")])
        assert [id_ for id_, _ in found(store, "飞机")] == ["3"]
        assert_finds_as_fts5(store, {"3": "飞机"})


def test_the_table_holds_no_copy_of_the_texts(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add([node(1, "白色的飞机"), node(2, "")])
    with sqlite3.connect(tmp_path / "default.sqlite3") as database:
        tables = {name for (name,) in database.execute("select name from sqlite_master where name like 'texts%'")}
        assert tables == {"texts", "texts_data", "texts_idx", "texts_config"}
        database.execute("insert into texts (texts) values ('integrity-check')")
        assert database.execute("select value from settings where key = 'text_size'").fetchone()[0].startswith("[1, 9,")
