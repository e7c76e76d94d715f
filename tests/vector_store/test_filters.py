"""Every filter operator means what LlamaIndex means by it."""

from __future__ import annotations

import sqlite3

import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store.filters import compile_filters

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
def test_operators_agree_with_llama_index(
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
def test_conditions(filled: FaissMultiModalVectorStore, condition: FilterCondition | None, expected: list[str]) -> None:
    filters = MetadataFilters(
        filters=[
            MetadataFilter(key="page", value=3, operator=FilterOperator.LT),
            MetadataFilter(key="sold", value=1),
        ],
        condition=condition,
    )
    assert found(filled, filters) == expected


def test_conditions_nest(filled: FaissMultiModalVectorStore) -> None:
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


def test_no_filters_match_all(filled: FaissMultiModalVectorStore) -> None:
    assert found(filled, MetadataFilters(filters=[])) == list(METADATA)


@pytest.mark.parametrize(
    ("operator", "value", "error"), [(FilterOperator.TEXT_MATCH, 5, TypeError), (FilterOperator.IN, None, ValueError)]
)
def test_filters_that_make_no_sense_are_refused(
    filled: FaissMultiModalVectorStore, operator: FilterOperator, value: object, error: type[Exception]
) -> None:

    with pytest.raises(error, match="'title' needs a"):
        found(filled, MetadataFilters(filters=[MetadataFilter(key="title", value=value, operator=operator)]))  # type: ignore[arg-type]


def test_listing_by_metadata_reads_neither_images_nor_vectors(filled: FaissMultiModalVectorStore) -> None:
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
    assert tables == {"nodes", "metadata", "json_each"}


@pytest.mark.parametrize("common_first", [True, False])
def test_the_rarest_of_several_filters_begins_the_search(common_first: bool) -> None:
    store = FaissMultiModalVectorStore()
    nodes = [TextNode(id_=str(i), text="x", embedding=[1.0], metadata={"all": 1, "own": i}) for i in range(5000)]
    store.add(nodes)
    parts = [MetadataFilter(key="all", value=1), MetadataFilter(key="own", value=7)]
    condition = compile_filters(MetadataFilters(filters=parts if common_first else parts[::-1]))
    with store._database.reading() as reader:
        # Listing the common one alone would take more steps than this.
        ids = reader.select_ids_within(condition, budget=2000)
    assert ids is not None
    assert ids.tolist() == [8]
