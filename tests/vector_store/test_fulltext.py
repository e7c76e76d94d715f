"""Full text for Chinese: characters, words, their parts and symbols are found, and rankings can be fused."""

from __future__ import annotations

import sqlite3

import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store import StoreError, schema
from llama_index_mm_zhipu.vector_store.fulltext import (
    QueryWord,
    TextTerms,
    count_words,
    query_words,
    terms_of,
    tokens_of,
    words_of_query,
)

TEXTS = {
    "plane": "一架白色的飞机停在机场",
    "phone": "手机和充电器",
    "car": "小米汽车 SU7 Max，售价 29.99 万元",
    "cat": "猫",
    "none": "",
    "odd": 'x" OR "y\'; drop table nodes --',
}


@pytest.fixture
def filled() -> FaissMultiModalVectorStore:
    store = FaissMultiModalVectorStore()
    nodes = [
        TextNode(id_=name, text=text, embedding=[1.0 - position / 10, 0.0], metadata={"position": position})
        for position, (name, text) in enumerate(TEXTS.items())
    ]
    store.add(nodes)
    return store


def search(store: FaissMultiModalVectorStore, words: str, **query: object) -> list[str]:
    query = {"mode": VectorStoreQueryMode.TEXT_SEARCH, "similarity_top_k": 10, "query_str": words, **query}
    return store.query(VectorStoreQuery(**query)).ids or []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("飞机", ["plane"]),
        ("机", ["phone", "plane"]),
        ("猫", ["cat"]),
        ("su7", ["car"]),
        ("ＳＵ７", ["car"]),
        ("汽车的售价", ["car"]),
        ("轮船", []),
        ("", []),
        ("！？", []),
        ('" OR "', ["odd"]),
        ("drop table", ["odd"]),
    ],
)
def test_words_and_characters_are_found(filled: FaissMultiModalVectorStore, words: str, found: list[str]) -> None:
    assert sorted(search(filled, words)) == found


def test_the_best_match_comes_first(filled: FaissMultiModalVectorStore) -> None:
    query = VectorStoreQuery(query_str="白色飞机 猫", similarity_top_k=2, mode=VectorStoreQueryMode.TEXT_SEARCH)
    result = filled.query(query)
    assert result.similarities == sorted(result.similarities or [], reverse=True)
    assert len(result.ids or []) == 2


def test_deleted_and_replaced_texts_are_not_found(filled: FaissMultiModalVectorStore) -> None:
    filled.delete_nodes(["cat"])
    filled.add([TextNode(id_="plane", text="轮船", embedding=[0.0, 1.0])])
    assert search(filled, "猫") == search(filled, "飞机") == []
    assert search(filled, "轮船") == ["plane"]


def test_text_search_obeys_filters(filled: FaissMultiModalVectorStore) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key="position", value=0)])
    assert search(filled, "机", filters=filters) == ["plane"]
    assert search(filled, "机", node_ids=["phone"]) == ["phone"]


def test_without_fts5_only_the_text_modes_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_has_fts5", lambda connection: False)
    store = FaissMultiModalVectorStore()
    store.add([TextNode(id_="a", text="猫", embedding=[1.0])])
    store.delete_nodes(["gone"])

    assert store.query(VectorStoreQuery(query_embedding=[1.0], similarity_top_k=1)).ids == ["a"]
    assert not store.has_texts()
    with pytest.raises(StoreError, match="has no FTS5"):
        search(store, "猫")


def test_tokens_of_chinese_are_characters_and_pairs_of_neighbours() -> None:
    assert tokens_of("飞机场 纸") == "飞 机 场 飞机 机场 纸"
    assert words_of_query("飞机场 纸") == ["机场", "纸", "飞机"]
    assert tokens_of("二〇二四") == "二 〇 二 四 二〇 〇二 二四"
    assert tokens_of("，。！") == ""
    assert words_of_query("，。！") == []


def test_tokens_of_words_are_the_whole_and_its_letters_and_digits() -> None:
    assert tokens_of("iPhone15Pro") == "iphone15pro iphone 15 pro"
    assert tokens_of("img_001") == "img_001 img 001"
    assert tokens_of("飞机 Boeing 747 ___") == "飞 机 飞机 boeing 747 ___"
    # These words are found neither by every 15 nor by every pro.
    assert words_of_query("iPhone15Pro") == ["iphone 15 pro", "iphone15pro"]
    assert words_of_query("SU7 A4") == ["a 4", "a4", "su 7", "su7"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("🎉🎂", "🎉 🎂 🎉🎂"),
        ("我❤️你", "我 ❤ 你"),
        ("👨\u200d👩\u200d👧", "👨 👩 👧 👨👩 👩👧"),
        ("C++", "c + + ++"),
        ("Ｃ＋＋", "c + + ++"),
        ("iPhone™", "iphone ™ tm"),
        ("①②", "① ② ①② 12 1 2"),
        ("10⁶", "10 ⁶ 6 106"),
        ("Ⅳ", "ⅳ iv"),
        ("㈠", "㈠ 一"),
        # ≠ as one character and as two.
        ("\u2260", "\u2260"),
        ("=\u0338", "\u2260"),
        # An emoji that is unassigned in the Unicode of older Pythons.
        ("\U0001fae9", "\U0001fae9"),
    ],
)
def test_symbols_are_tokens_beside_their_normal_forms(text: str, tokens: str) -> None:
    assert tokens_of(text) == tokens
    assert set(words_of_query(text)) <= set(tokens.split())


@pytest.mark.parametrize(
    ("text", "found_by"),
    [
        ("生日快乐🎉🎂", ["🎉", "🎂", "🎉🎂", "🎂 快乐"]),
        ("👨\u200d👩\u200d👧在公园", ["👩", "👨\u200d👩\u200d👧"]),
        ("我❤️你", ["❤", "❤️"]),
        ("👍🏽", ["👍", "👍🏿"]),
        ("🇨🇳国旗", ["🇨🇳"]),
        ("‼️注意1️⃣", ["‼", "1️⃣", "1"]),
        ("★★★酒店", ["★", "★★★"]),
        ("C++入门", ["C++", "c＋＋", "+"]),
        ("售价€99", ["€", "€99", "99"]),
        ("￥99", ["¥", "￥"]),
        ("$+<=>^`|~", ["$", "+", "<", "=", ">", "^", "`", "|", "~", '"+"']),
        ("iPhone™手机", ["iphone", "™", "手机"]),
        ("iPhone15Pro手机壳", ["iphone", "iPhone15", "15", "pro", "手机壳", "iphone15pro"]),
        ("小米SU7Max", ["su7", "max", "SU7MAX"]),
        ("①②③步骤", ["①", "②③", "123", "1"]),
        ("❶❷", ["❶", "❷"]),
        ("客厅100㎡", ["㎡", "100㎡", "100m2", "m2"]),
        ("½杯水", ["½", "1/2"]),
        ("x²", ["²", "x2", "x²"]),
        ("H₂O是水", ["h2o", "H₂O", "₂"]),
        ("CO₂", ["co2", "co"]),
        ("维生素B₁₂", ["b12", "₁₂", "12"]),
        ("第Ⅳ章", ["Ⅳ", "iv", "第4章 Ⅳ"]),
        ("25℃", ["℃", "25°C", "°"]),
        ("ﬁlm ＴＶ ﾃﾚﾋﾞ Cafe\u0301", ["film", "tv", "テレビ", "café"]),
        ("⼀般", ["一般"]),
    ],
)
def test_a_text_is_found_by_each_of_its_parts(text: str, found_by: list[str]) -> None:
    store = FaissMultiModalVectorStore()
    others = [TextNode(id_="other", text="公路，“天空”！", embedding=[0.0, 1.0])]
    store.add([TextNode(id_="it", text=text, embedding=[1.0, 0.0]), *others])
    assert {words: search(store, words) for words in found_by} == {words: ["it"] for words in found_by}


def test_parts_of_a_word_are_found_only_in_order() -> None:
    store = FaissMultiModalVectorStore()
    texts = {
        "glued": "iPhone15Pro 手机壳",
        "apart": "iPhone 15 Pro",
        "other": "iPhone 14，15 元，Pro 版",
        "15": "第15张",
    }
    store.add([TextNode(id_=name, text=text, embedding=[1.0, 0.0]) for name, text in texts.items()])
    assert sorted(search(store, "iphone15pro")) == ["apart", "glued"]
    assert sorted(search(store, "iPhone15")) == ["apart", "glued"]
    assert sorted(search(store, "iphone")) == ["apart", "glued", "other"]
    assert sorted(search(store, "15")) == ["15", "apart", "glued", "other"]


def test_the_words_that_a_text_has_are_counted() -> None:
    words = words_of_query("白色iPhone15和飞机")
    assert words == ["iphone 15", "iphone15", "和飞", "白色", "飞机"]
    assert count_words(words, tokens_of("一架白色的飞机")) == 2
    assert count_words(words, tokens_of("iPhone 15 Pro")) == 1
    assert count_words(words, "") == 0


def test_terms_are_the_tokens_with_their_repetitions() -> None:
    assert terms_of("飞机 飞鸟") == TextTerms(6, "飞 机 飞 鸟 飞机 飞鸟 飞#2")
    assert terms_of("哈哈哈") == TextTerms(5, "哈 哈 哈 哈哈 哈哈 哈#2 哈#3 哈哈#2")
    assert terms_of("a a b") == TextTerms(3, "a a b a#2")
    assert terms_of("……") is None


def test_terms_of_letters_and_digits_keep_their_order() -> None:
    terms = terms_of("iPhone15Pro 机 16")
    assert terms == TextTerms(6, "机 iphone15pro iphone 15 pro 16 iphone/15 15/pro iphone/15/pro")
    assert query_words("iphone15pro") == [
        QueryWord("iphone 15 pro", ("iphone/15/pro",), is_exact=True),
        QueryWord("iphone15pro", ("iphone15pro",), is_exact=True),
    ]
    # Terms do not tell the order of these.
    assert query_words("a1b2")[0] == QueryWord("a 1 b 2", ("a/1", "1/b", "b/2"), is_exact=False)
    assert query_words("foo_bar")[0] == QueryWord("foo bar", ("foo", "bar"), is_exact=False)


def test_this_python_has_fts5() -> None:
    sqlite3.connect(":memory:").execute("create virtual table t using fts5 (x)")
