"""Filters have LlamaIndex's meaning, whatever their size, and SQL that grows in proportion to them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.core.vector_stores.utils import build_metadata_filter_fn
from oracle import Oracle
from test_differential import RICH, both_with, filters, ids_from_both

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store import conditions
from llama_index_mm_zhipu.vector_store import filters as compiling
from llama_index_mm_zhipu.vector_store.filters import compile_filters
from llama_index_mm_zhipu.vector_store.vector_file import Ids

METADATA: dict[str, dict[str, object]] = {
    "car": {"page": 1, "title": "小米汽车 SU7", "tags": ["车", "红"], "price": 21.59, "sold": True},
    "cat": {"page": 2, "title": "猫", "tags": ["动物"], "price": 0, "sold": False},
    "map": {"page": 10, "title": "", "tags": [], "note": None},
    "bare": {},
}

CASES: list[tuple[str, object, FilterOperator]] = [
    ("page", 2, FilterOperator.EQ),
    ("title", "猫", FilterOperator.EQ),
    ("sold", 1, FilterOperator.EQ),
    ("page", 2, FilterOperator.NE),
    ("page", 2, FilterOperator.GT),
    ("page", 2, FilterOperator.GTE),
    ("page", 2, FilterOperator.LT),
    ("price", 21.59, FilterOperator.LTE),
    ("title", "小", FilterOperator.GTE),
    ("page", [1, 10], FilterOperator.IN),
    ("title", ["猫", "狗"], FilterOperator.IN),
    ("page", [1, 10], FilterOperator.NIN),
    ("tags", "红", FilterOperator.CONTAINS),
    ("title", "汽车", FilterOperator.CONTAINS),
    ("tags", ["红", "动物"], FilterOperator.ANY),
    ("tags", ["红", "车"], FilterOperator.ALL),
    ("tags", ["红", "动物"], FilterOperator.ALL),
    ("title", "SU7", FilterOperator.TEXT_MATCH),
    ("title", "su7", FilterOperator.TEXT_MATCH),
    ("title", "su7", FilterOperator.TEXT_MATCH_INSENSITIVE),
    ("title", None, FilterOperator.IS_EMPTY),
    ("tags", None, FilterOperator.IS_EMPTY),
    ("note", None, FilterOperator.IS_EMPTY),
    ("title", "'; drop table nodes; --", FilterOperator.EQ),
    ("'; drop table nodes; --", "x", FilterOperator.NE),
]


@pytest.fixture
def filled() -> FaissMultiModalVectorStore:
    store = FaissMultiModalVectorStore()
    store.add([TextNode(id_=name, text=name, embedding=[1.0], metadata=data) for name, data in METADATA.items()])
    return store


def found(store: FaissMultiModalVectorStore, filters: MetadataFilters) -> list[str]:
    return [node.node_id for node in store.get_nodes(filters=filters)]


@pytest.mark.parametrize(("key", "value", "operator"), CASES)
def test_operators_select_the_same_nodes_as_llama_index(
    filled: FaissMultiModalVectorStore, key: str, value: object, operator: FilterOperator
) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])  # type: ignore[arg-type]
    matches = build_metadata_filter_fn(METADATA.__getitem__, filters)

    assert found(filled, filters) == [name for name in METADATA if matches(name)]


def test_every_operator_is_covered() -> None:
    assert {operator for _, _, operator in CASES} == set(FilterOperator)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (FilterCondition.AND, ["car"]),
        (FilterCondition.OR, ["car", "cat"]),
        (FilterCondition.NOT, ["map", "bare"]),
        (None, ["car"]),
    ],
)
def test_conditions_combine_filters(
    filled: FaissMultiModalVectorStore, condition: FilterCondition | None, expected: list[str]
) -> None:
    filters = MetadataFilters(
        filters=[
            MetadataFilter(key="page", value=3, operator=FilterOperator.LT),
            MetadataFilter(key="sold", value=1),
        ],
        condition=condition,
    )
    assert found(filled, filters) == expected


def test_conditions_can_be_nested(filled: FaissMultiModalVectorStore) -> None:
    cheap_or_late = MetadataFilters(
        filters=[
            MetadataFilter(key="price", value=1, operator=FilterOperator.LT),
            MetadataFilters(
                filters=[
                    MetadataFilter(key="page", value=5, operator=FilterOperator.GT),
                    MetadataFilters(filters=[MetadataFilter(key="sold", value=1)], condition=FilterCondition.NOT),
                ]
            ),
        ],
        condition=FilterCondition.OR,
    )
    assert found(filled, cheap_or_late) == ["cat", "map"]


def test_empty_filters_match_every_node(filled: FaissMultiModalVectorStore) -> None:
    assert found(filled, MetadataFilters(filters=[])) == list(METADATA)


@pytest.mark.parametrize(
    ("operator", "value", "error"), [(FilterOperator.TEXT_MATCH, 5, TypeError), (FilterOperator.IN, None, ValueError)]
)
def test_values_of_the_wrong_type_are_errors(
    filled: FaissMultiModalVectorStore, operator: FilterOperator, value: object, error: type[Exception]
) -> None:

    with pytest.raises(error, match="'title' needs a"):
        found(filled, MetadataFilters(filters=[MetadataFilter(key="title", value=value, operator=operator)]))  # type: ignore[arg-type]


def test_filters_read_neither_images_nor_vectors(filled: FaissMultiModalVectorStore) -> None:
    tables: set[str] = set()

    def note(action: int, table: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ and table:
            tables.add(table)
        return sqlite3.SQLITE_OK

    filters = MetadataFilters(filters=[MetadataFilter(key="page", value=2, operator=FilterOperator.NE)])
    with filled._database.reading() as reader:
        reader._connection.set_authorizer(note)
        reader.select_ids(compile_filters(filters))
        reader.select_matching([1, 2, 3], compile_filters(filters))
        reader._connection.set_authorizer(None)
    assert tables == {"nodes", "node_metadata", "metadata_values", "metadata_fields", "json_each"}


@pytest.mark.parametrize("common_first", [True, False])
def test_listing_begins_with_the_rarest_of_several_filters(common_first: bool) -> None:
    store = FaissMultiModalVectorStore()
    nodes = [TextNode(id_=str(i), text="x", embedding=[1.0], metadata={"all": 1, "own": i}) for i in range(5000)]
    store.add(nodes)
    parts = [MetadataFilter(key="all", value=1), MetadataFilter(key="own", value=7)]
    condition = compile_filters(MetadataFilters(filters=parts if common_first else parts[::-1]))
    with store._database.reading() as reader:
        # Listing by the common filter would take more steps than this.
        ids = reader.select_ids_within(condition, budget=2000)
    assert ids is not None
    assert ids.tolist() == [8]


# Filters of any size

MANY = 10_000
NODES = 12


def one(key: str, value: object, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilter:
    return MetadataFilter(key=key, value=value, operator=operator)  # type: ignore[arg-type]


def group(condition: FilterCondition, parts: Sequence[MetadataFilter | MetadataFilters]) -> MetadataFilters:
    return MetadataFilters(filters=list(parts), condition=condition)


def node_id(number: int) -> str:
    return f"n{number}\0" if number % 2 else f"n{number}"


@pytest.mark.parametrize("operator", [FilterOperator.EQ, FilterOperator.NE, FilterOperator.IS_EMPTY, None])
def test_ids_of_no_node_meet_no_condition(filled: FaissMultiModalVectorStore, operator: FilterOperator | None) -> None:
    filters = [MetadataFilter(key="page", value=2, operator=operator)] if operator else []
    condition = compile_filters(MetadataFilters(filters=filters))
    assert isinstance(condition, conditions.Condition)
    with filled._database.reading() as reader:
        assert reader.select_matching([0, 1, 2, 3, 4, 99], condition) == set(reader.select_ids(condition).tolist())


@pytest.fixture
def store() -> FaissMultiModalVectorStore:
    """A store with ten nodes whose numbers are below 10,000, and two whose numbers are not."""
    store = FaissMultiModalVectorStore()
    store.add(
        [
            TextNode(
                id_=node_id(i),
                text="飞机",
                embedding=[1.0, float(-i)],
                metadata={
                    "page": i * 1000,
                    "price": i * 1000 + 0.5,
                    "tags": [f"标签{i * 1000}", "所有"],
                    "title": f"第{i * 1000}页",
                    f"key {i}": i,
                },
            )
            for i in range(NODES)
        ]
    )
    return store


AND, OR, NOT = FilterCondition.AND, FilterCondition.OR, FilterCondition.NOT
FIRST_TEN, LAST_TWO = list(range(10)), [10, 11]

LARGE: dict[str, tuple[MetadataFilters, list[int]]] = {
    "any, in lists": (group(AND, [one("tags", [f"标签{i}" for i in range(MANY)], FilterOperator.ANY)]), FIRST_TEN),
    "any, in texts": (group(AND, [one("title", [f"第{i}页" for i in range(MANY)], FilterOperator.ANY)]), FIRST_TEN),
    "all": (group(AND, [one("title", ["第", *[str(i) for i in range(MANY)]], FilterOperator.ALL)]), []),
    "in": (group(AND, [one("page", list(range(MANY)), FilterOperator.IN)]), FIRST_TEN),
    "in, fractions": (group(AND, [one("price", [i + 0.5 for i in range(MANY)], FilterOperator.IN)]), FIRST_TEN),
    "nin, fractions": (group(AND, [one("price", [i + 0.5 for i in range(MANY)], FilterOperator.NIN)]), LAST_TWO),
    "or": (group(OR, [one("page", i) for i in range(MANY)]), FIRST_TEN),
    "or, many keys": (group(OR, [one(f"key {i}", 3) for i in range(MANY)]), [3]),
    "or, of most nodes": (group(OR, [one("page", i, FilterOperator.GTE) for i in range(1, MANY)]), list(range(1, 12))),
    "or, of negations": (group(OR, [one("page", i % 2, FilterOperator.NE) for i in range(MANY)]), list(range(12))),
    "or, of groups": (
        group(OR, [group(AND, [one("page", i), one("price", i + 0.5)]) for i in range(MANY)]),
        FIRST_TEN,
    ),
    "and": (group(AND, [one("page", -i, FilterOperator.GTE) for i in range(1000)]), list(range(12))),
    "and, of negations": (group(AND, [one("page", i, FilterOperator.NE) for i in range(MANY)]), LAST_TWO),
    "and, of groups": (group(AND, [group(OR, [one("page", i), one("title", "第3000页")]) for i in range(MANY)]), [3]),
    "not": (group(NOT, [one("page", i) for i in range(MANY)]), LAST_TWO),
    "not, of not": (group(NOT, [group(NOT, [one("page", i) for i in range(MANY)])]), FIRST_TEN),
}


def found_by_get(store: FaissMultiModalVectorStore, filters: MetadataFilters) -> list[str]:
    return [node.node_id for node in store.get_nodes(filters=filters)]


def found_by_vector(store: FaissMultiModalVectorStore, filters: MetadataFilters) -> list[str]:
    query = VectorStoreQuery(query_embedding=[1.0, 1.0], similarity_top_k=NODES, filters=filters)
    return store.query(query).ids or []


def found_by_words(store: FaissMultiModalVectorStore, filters: MetadataFilters) -> list[str]:
    mode = VectorStoreQueryMode.TEXT_SEARCH
    query = VectorStoreQuery(query_str="飞机", similarity_top_k=NODES, filters=filters, mode=mode)
    return store.query(query).ids or []


def found_by_deletion(store: FaissMultiModalVectorStore, filters: MetadataFilters) -> list[str]:
    before = found_by_get(store, MetadataFilters(filters=[]))
    store.delete_nodes(filters=filters)
    after = found_by_get(store, MetadataFilters(filters=[]))
    return [node_id for node_id in before if node_id not in after]


@pytest.mark.parametrize("call", [found_by_get, found_by_vector, found_by_words, found_by_deletion])
@pytest.mark.parametrize(("filters", "expected"), LARGE.values(), ids=LARGE.keys())
def test_filters_of_any_size_find_their_nodes(
    store: FaissMultiModalVectorStore,
    call: Callable[[FaissMultiModalVectorStore, MetadataFilters], list[str]],
    filters: MetadataFilters,
    expected: list[int],
) -> None:
    assert call(store, filters) == [node_id(i) for i in expected]


def test_lists_of_ids_of_any_size_find_their_nodes(store: FaissMultiModalVectorStore) -> None:
    ids = [node_id(i) for i in reversed(range(4 * MANY))]
    by_vector = VectorStoreQuery(query_embedding=[1.0, 1.0], similarity_top_k=NODES, node_ids=ids)

    assert [node.node_id for node in store.get_nodes(ids)] == ids[-NODES:]
    assert store.get_vectors(ids)[0] == store.query(by_vector).ids == ids[-NODES:][::-1]
    store.delete_nodes(ids)
    assert store.count() == 0


@pytest.mark.parametrize(
    "filters_of",
    [
        lambda n: group(AND, [one("page", i, FilterOperator.NE) for i in range(n)]),
        lambda n: group(OR, [one(f"key {i}", i) for i in range(n)]),
        lambda n: group(AND, [one("page", -i, FilterOperator.GTE) for i in range(n)]),
        lambda n: group(AND, [one("title", [str(i) for i in range(n)], FilterOperator.ANY)]),
        lambda n: group(AND, [one("price", [i + 0.25 for i in range(n)], FilterOperator.IN)]),
    ],
)
@pytest.mark.parametrize("few", [30, 500])
def test_sql_grows_in_proportion_to_the_filters(
    store: FaissMultiModalVectorStore, filters_of: Callable[[int], MetadataFilters], few: int
) -> None:
    lengths = []
    for parts in (few, 4 * few):
        statements: list[str] = []
        with store._database.reading() as reader:
            reader._connection.set_trace_callback(statements.append)
        found_by_get(store, filters_of(parts))
        with store._database.reading() as reader:
            reader._connection.set_trace_callback(None)
        lengths.append(sum(map(len, statements)))
    # Quadratic growth would make it 16 times as long.
    assert lengths[1] < 8 * lengths[0]


# Nesting


def nested(levels: int, conditions: Sequence[FilterCondition]) -> MetadataFilters:
    filters = group(AND, [one("page", 3000)])
    for level in range(1, levels):
        filters = group(conditions[level % len(conditions)], [one("page", level * 1000), filters])
    return filters


@pytest.mark.parametrize("levels", [7, 8, 9, 20, 100])
@pytest.mark.parametrize("alternating", [(AND, OR), (NOT,), (OR, NOT, AND), (OR, AND, NOT, NOT)])
def test_deeply_nested_filters_find_what_the_oracle_finds(levels: int, alternating: Sequence[FilterCondition]) -> None:
    stores = both_with([{"page": i * 1000} for i in range(NODES)])
    found, expected = ids_from_both(stores, nested(levels, alternating))
    assert found == expected


def test_filters_nested_more_than_100_levels_deep_are_an_error(store: FaissMultiModalVectorStore) -> None:
    for levels in (101, 900, 5000):
        with pytest.raises(ValueError, match="nested more than 100 levels deep; write groups"):
            store.get_nodes(filters=nested(levels, (AND, OR)))


# Filters that are evaluated part by part


@pytest.fixture(scope="module")
def rich() -> tuple[FaissMultiModalVectorStore, Oracle]:
    return both_with(RICH)


@given(filters=filters, limits=st.sampled_from([(0, 0), (0, 10_000), (3, 20)]), max_tests=st.sampled_from([0, 1, 3]))
@settings(max_examples=400, derandomize=True, deadline=None)
def test_groups_find_what_the_oracle_finds(
    rich: tuple[FaissMultiModalVectorStore, Oracle], filters: MetadataFilters, limits: tuple[int, int], max_tests: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conditions, "MAX_TESTS", max_tests)
        patch.setattr(compiling, "_MAX_COLLECTED_IDS", limits[0])
        patch.setattr(compiling, "_STEPS_PER_TEST", limits[1])
        found, expected = ids_from_both(rich, filters)
    assert found == expected


def test_a_rare_condition_avoids_listing_the_common_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FaissMultiModalVectorStore()
    store.add([TextNode(id_=str(i), text="x", embedding=[1.0], metadata={"all": 1, "own": i}) for i in range(3000)])
    common = [one("all", -i, FilterOperator.GTE) for i in range(100)]
    condition = compile_filters(group(AND, [*common, one("own", 7)]))
    listed: list[conditions.Condition] = []
    with store._database.reading() as reader:
        select_ids = reader.select_ids

        def listing(condition: conditions.Condition) -> Ids:
            listed.append(condition)
            return select_ids(condition)

        monkeypatch.setattr(reader, "select_ids", listing)
        found = compiling.resolve(condition, reader)
    assert found.listings[0].parameters == ("[8]",)
    # The other conditions were tested on its node.
    assert [condition.listings[0].parameters for condition in listed] == [("own", "scalar", 7)]
