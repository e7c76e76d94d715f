"""Mode ``HYBRID``: rankings by vector and by text are fused by scores, or by reciprocal ranks with an ``alpha``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from llama_index.core.schema import ImageNode, TextNode
from llama_index.core.vector_stores.types import (
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.images import with_page_text
from llama_index_mm_zhipu.vector_store.contract import ScoredQueryResult
from llama_index_mm_zhipu.vector_store.fusion import BestText, fuse_ranks, fuse_scores

WEST, EAST, NORTH = [-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]


def hybrid(
    store: FaissMultiModalVectorStore, words: str, vector: Sequence[float], **options: object
) -> ScoredQueryResult:
    return store.query(
        VectorStoreQuery(
            query_embedding=list(vector),
            query_str=words,
            mode=VectorStoreQueryMode.HYBRID,
            **{"similarity_top_k": 3, **options},  # type: ignore[arg-type]
        )
    )


@pytest.fixture
def store() -> FaissMultiModalVectorStore:
    store = FaissMultiModalVectorStore()
    texts = {"tyres": "胎压过低会加快轮胎磨损", "oil": "每五千公里更换一次机油", "coolant": "冷却液不足时发动机会过热"}
    for name, text in texts.items():
        store.add([TextNode(id_=name, text=text, embedding=NORTH, metadata={"name": name})])
    store.add([TextNode(id_="photo", text="", embedding=EAST, metadata={"name": "photo"})])
    return store


def test_a_text_with_all_words_ranks_before_the_nearest_vector(store: FaissMultiModalVectorStore) -> None:
    result = hybrid(store, "胎压过低", EAST)
    assert result.ids is not None
    assert result.ids[:2] == ["tyres", "photo"]
    assert all(0 <= score <= 1 for score in result.similarities or [])


def test_a_long_question_needs_only_some_of_its_words_in_the_text(store: FaissMultiModalVectorStore) -> None:
    result = hybrid(store, "请问胎压过低会不会让轮胎坏得更快呢", EAST)
    assert result.ids is not None
    assert result.ids[0] == "tyres"


def test_the_nearest_vector_ranks_before_a_text_with_one_word_of_many(store: FaissMultiModalVectorStore) -> None:
    result = hybrid(store, "一架白色的飞机停在机场上轮胎", EAST)
    assert result.ids is not None
    assert result.ids[0] == "photo"


def test_without_a_hit_the_vector_ranks_alone(store: FaissMultiModalVectorStore) -> None:
    result = hybrid(store, "红苹果", EAST)
    assert result.ids is not None
    assert result.ids[0] == "photo"
    assert result.similarities is not None
    assert result.similarities[0] == 1.0


def test_of_equally_good_texts_the_vector_chooses_however_many_there_are() -> None:
    store = FaissMultiModalVectorStore()
    angles = np.linspace(0, np.pi / 2, 200)
    store.add(
        [
            TextNode(id_=str(number), text="红色的鞋", embedding=[float(np.cos(angle)), float(np.sin(angle))])
            for number, angle in enumerate(angles)
        ]
    )
    store.add([TextNode(id_="other", text="蓝色的帽子", embedding=EAST)])
    assert hybrid(store, "红色的鞋", EAST).ids == ["0", "1", "2"]
    assert hybrid(store, "红色的鞋", NORTH).ids == ["199", "198", "197"]


def test_each_result_has_its_cosine_and_its_share_of_the_words(store: FaissMultiModalVectorStore) -> None:
    result = hybrid(store, "胎压轮胎冷却", NORTH)
    shares = dict(zip(result.ids or [], result.words_found, strict=True))
    assert shares == {"tyres": pytest.approx(2 / 5), "coolant": pytest.approx(1 / 5), "oil": 0.0}
    assert list(result.inner_products) == pytest.approx([1.0, 1.0, 1.0])

    result = hybrid(store, "胎压", EAST, similarity_top_k=4, alpha=0.5)
    assert dict(zip(result.ids or [], result.inner_products, strict=True))["tyres"] == pytest.approx(0.0)
    assert dict(zip(result.ids or [], result.words_found, strict=True))["tyres"] == 1.0


def test_other_modes_give_the_parts_that_they_search_by(store: FaissMultiModalVectorStore) -> None:
    query = VectorStoreQuery(query_embedding=EAST, query_str="机油", similarity_top_k=1)
    assert (store.query(query).inner_products, store.query(query).words_found) == ([1.0], [None])
    query.mode = VectorStoreQueryMode.MMR
    assert (store.query(query).inner_products, store.query(query).words_found) == ([1.0], [None])
    query.mode = VectorStoreQueryMode.TEXT_SEARCH
    assert (store.query(query).inner_products, store.query(query).words_found) == ([None], [1.0])


def test_filters_hold_for_both_sides(store: FaissMultiModalVectorStore) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key="name", value="oil")])
    assert hybrid(store, "胎压过低", EAST, filters=filters).ids == ["oil"]


def test_page_texts_are_found(store: FaissMultiModalVectorStore) -> None:
    page = with_page_text(
        ImageNode(id_="page", text="第三页", image_path="3.png", embedding=WEST), "雨刮片每年更换", "ocr"
    )
    store.add([page])
    assert hybrid(store, "雨刮片", NORTH, similarity_top_k=1).ids == ["page"]
    assert hybrid(store, "第三页", NORTH, similarity_top_k=1).ids == ["page"]
    assert "page_text" not in store.metadata_keys()


def test_one_node_alone_is_found() -> None:
    store = FaissMultiModalVectorStore()
    store.add([TextNode(id_="only", text="机油", embedding=EAST)])
    assert hybrid(store, "胎压", WEST).ids == ["only"]
    assert hybrid(store, "机油", WEST).similarities == [1.0]


def test_an_empty_store_finds_nothing() -> None:
    assert hybrid(FaissMultiModalVectorStore(), "机油", EAST).ids == []


def test_alpha_fuses_by_reciprocal_ranks() -> None:
    store = FaissMultiModalVectorStore()
    for position, (name, text) in enumerate(
        {"plane": "一架飞机", "phone": "一部手机", "ship": "轮船", "cat": "猫"}.items()
    ):
        store.add([TextNode(id_=name, text=text, embedding=[1.0 - position / 10, position / 10])])
    result = hybrid(store, "猫", EAST, similarity_top_k=2, alpha=0.5)
    assert result.ids == ["cat", "plane"]
    assert result.similarities == pytest.approx([0.5 / 64 + 0.5 / 61, 0.5 / 61])
    assert hybrid(store, "猫", EAST, similarity_top_k=2, alpha=1.0).ids == ["plane", "phone"]
    assert hybrid(store, "猫", EAST, similarity_top_k=1, alpha=0.0).ids == ["cat"]


def test_reciprocal_ranks_are_weighted_and_summed() -> None:
    assert fuse_ranks([(1.0, [1, 2]), (0.5, [2, 3])]) == [
        (2, pytest.approx(1 / 62 + 0.5 / 61)),
        (1, pytest.approx(1 / 61)),
        (3, pytest.approx(0.5 / 62)),
    ]


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        (BestText(words=2, found=0, lead=1.0), 0.0),
        (BestText(words=2, found=2, lead=0.0), 0.5),
        (BestText(words=2, found=2, lead=1.0), 0.8),
        (BestText(words=12, found=1, lead=1.0), 0.27),
        (BestText(words=12, found=6, lead=1.0), 0.77),
    ],
)
def test_the_text_weighs_by_the_words_found_and_by_its_lead(text: BestText, weight: float) -> None:
    assert text.weight == pytest.approx(weight, abs=0.01)


def test_nodes_of_equal_score_are_ordered_by_similarity() -> None:
    assert [id_ for id_, _ in fuse_scores({1: 0.1, 2: 0.2, 3: 0.9}, 0.5, {}, 0.0)] == [3, 2, 1]
    assert fuse_scores({}, 0.0, {}, 0.0) == []
