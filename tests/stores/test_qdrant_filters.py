"""Filters of Qdrant find what the same filters find in plain Python."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.vector_stores.qdrant import QdrantVectorStore
from oracle import matches
from qdrant_client import QdrantClient, models

from llama_index_mm_zhipu.stores import ExternalVectorStore
from llama_index_mm_zhipu.stores.qdrant.filters import MAX_DEPTH, compile_predicate, storable_number
from llama_index_mm_zhipu.vector_store.predicates import AnyOf, IdIs, Not, ScalarIs, TextHas

VALUES = [0, 1, True, 2, 2.0, 2.5, -0.0, "", "2", "红", "SU7 红", "su7", None, [], [2, "红"], ["SU7", None], {"红": 1}]
ASKED = [0, 1, 2, 2.0, 2.5, "", "2", "红", "SU7 红", None, [], ["SU7"], [2, 1]]
KEYS = ["页", "a.b", "", "id", 'q"']
NUMBERS_ONLY = (FilterOperator.GT, FilterOperator.GTE, FilterOperator.LT, FilterOperator.LTE)
TEXTS_ONLY = (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE)
LISTS_ONLY = (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL)


@pytest.fixture
def store() -> Iterator[ExternalVectorStore]:
    client = QdrantClient(":memory:")
    yield ExternalVectorStore(QdrantVectorStore("nodes", client=client))
    client.close()


def of(key: str, value: Any, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


def ids(store: ExternalVectorStore, filters: MetadataFilters) -> list[str]:
    return [node.node_id for node in store.get_nodes(filters=filters)]


def random_filters(rng: random.Random, depth: int) -> MetadataFilters:
    parts = [
        random_filters(rng, depth - 1) if depth and rng.random() < 0.4 else random_filter(rng)
        for _ in range(rng.randint(1, 3))
    ]
    return MetadataFilters(filters=parts, condition=rng.choice(list(FilterCondition)))


def random_filter(rng: random.Random) -> MetadataFilter:
    operator, value = rng.choice(list(FilterOperator)), rng.choice(ASKED)
    if operator in NUMBERS_ONLY:
        value = rng.choice([0, 1, 2, 2.5])
    elif operator in TEXTS_ONLY:
        value = rng.choice(["", "红", "SU", "su", "%"])
    elif operator in LISTS_ONLY:
        value = rng.choices(rng.choice([["", "2", "红", "SU7 红", "SU7"], [0, 1, 2, 2.5]]), k=2)
    elif operator == FilterOperator.CONTAINS and isinstance(value, list):
        value = "红"
    return MetadataFilter(key=rng.choice(KEYS), value=value, operator=operator)


def test_random_filters_find_the_same_nodes_as_plain_python(store: ExternalVectorStore) -> None:
    rng = random.Random(0)
    metadata = {f"n{i}": {key: rng.choice(VALUES) for key in KEYS if rng.random() < 0.8} for i in range(60)}
    store.add([TextNode(id_=node_id, embedding=[1.0], metadata=metadata[node_id]) for node_id in metadata])
    for _ in range(120):
        filters = random_filters(rng, depth=2)
        assert ids(store, filters) == [each for each in metadata if matches(metadata[each], filters)], filters


def test_equal_numbers_are_equal_whatever_their_type(store: ExternalVectorStore) -> None:
    numbers = {"one": 1, "true": True, "fraction": 1.0, "big": 2**60, "huge": 2**70, "beyond": 10**400}
    store.add([TextNode(id_=node_id, embedding=[1.0], metadata={"n": number}) for node_id, number in numbers.items()])
    for value in (1, 1.0):
        assert ids(store, of("n", value)) == ["one", "true", "fraction"]
        assert ids(store, of("n", [value, 7], FilterOperator.IN)) == ["one", "true", "fraction"]
    assert ids(store, of("n", 2.0**60)) == ["big"]
    assert ids(store, of("n", 2**70)) == ["huge"]
    assert ids(store, of("n", 10**400)) == ["beyond"]
    assert ids(store, of("n", 2**65, FilterOperator.GT)) == ["huge", "beyond"]


def test_stored_numbers_are_numbers_of_json() -> None:
    assert [storable_number(each) for each in (2.0, -0.0, 2.5, 2**60, float(2**70))] == [2, 0, 2.5, 2**60, 2.0**70]
    assert storable_number(float("inf")) == -storable_number(float("-inf")) == 1.7976931348623157e308
    assert isinstance(storable_number(2.0), int)


def test_a_filter_takes_ten_thousand_values(store: ExternalVectorStore) -> None:
    store.add([TextNode(id_=f"n{i}", embedding=[1.0], metadata={"page": i, "title": f"t{i}"}) for i in range(20)])
    many = range(18, 10_018)
    assert ids(store, of("page", list(many), FilterOperator.IN)) == ["n18", "n19"]
    assert ids(store, of("title", [f"t{i}" for i in many], FilterOperator.NIN)) == [f"n{i}" for i in range(18)]
    assert [node.node_id for node in store.get_nodes([f"n{i}" for i in many], of("page", 19))] == ["n19"]


def test_parts_of_texts_are_found_with_and_without_case(store: ExternalVectorStore) -> None:
    texts = ["小米 SU7", "小米 su7", "STRASSE", "straße", "İstanbul", "%_"]
    store.add([TextNode(id_=text, embedding=[1.0], metadata={"title": text}) for text in texts])
    for part in ("SU7", "米 s", "ß", "strasse", "i", "%", "_", "\\", ""):
        for operator in TEXTS_ONLY:
            filters = of("title", part, operator)
            assert ids(store, filters) == [text for text in texts if matches({"title": text}, filters)]


def test_the_order_of_texts_is_refused_by_name(store: ExternalVectorStore) -> None:
    with pytest.raises(ValueError, match=r'Qdrant collection "nodes" in memory cannot filter by order of texts .*day'):
        store.get_nodes(filters=of("day", "2026-11-30", FilterOperator.GTE))


def test_deeply_nested_filters_are_refused_by_name(store: ExternalVectorStore) -> None:
    filters = of("page", 1)
    for _ in range(MAX_DEPTH):
        filters = MetadataFilters(filters=[filters])
    with pytest.raises(ValueError, match="cannot filter by groups that are nested more than 50 levels deep"):
        store.get_nodes(filters=filters)


def test_nothing_is_never_everything() -> None:
    for nothing in (IdIs(()), ScalarIs("page", ()), AnyOf(()), TextHas("title", ())):
        never = models.HasIdCondition(has_id=[])
        assert compile_predicate(nothing, "store") == models.Filter(must=[never])
        assert compile_predicate(Not(nothing), "store") == models.Filter(must_not=[never])
