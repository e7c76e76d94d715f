"""Filters that compare numbers with text, which match nothing without a word, are errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import ImageNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store.filters import require_matchable

NODES: list[dict[str, Any]] = [
    {"price": "199", "stock": 3, "new": True, "tags": ["红", "裙"], "sizes": [36, 38], "mixed": "x", "none": None},
    {"price": "89", "stock": 4.5, "new": False, "tags": [], "sizes": [], "mixed": 5},
]


@pytest.fixture(scope="module")
def store() -> FaissMultiModalVectorStore:
    """Two nodes with metadata of each kind."""
    store = FaissMultiModalVectorStore()
    store.add(
        [
            ImageNode(id_=str(number), image_path="a.jpg", embedding=[1.0, 0.0], metadata=metadata)
            for number, metadata in enumerate(NODES)
        ]
    )
    return store


def check(store: FaissMultiModalVectorStore, key: str, operator: str, value: Any) -> None:
    one = MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=FilterOperator(operator))])
    require_matchable(MetadataFilters(filters=[one]), [store])


@pytest.mark.parametrize("operator", ["==", "!=", ">", ">=", "<", "<="])
@pytest.mark.parametrize("number", [100, 99.5, 0])
def test_a_number_is_not_compared_with_text(store: FaissMultiModalVectorStore, operator: str, number: float) -> None:
    with pytest.raises(ValueError, match="compares numbers with text") as caught:
        check(store, "price", operator, number)
    assert str(caught.value) == (
        f"the filter 'price' {operator} {number!r} compares numbers with text: all values of 'price' are text, such as "
        f"'199'; compare with text, such as '{number}', or index numbers: a CSV column becomes numbers if every value "
        "in it is a plain number"
    )


@pytest.mark.parametrize("operator", ["in", "nin"])
def test_nor_are_numbers_in_lists(store: FaissMultiModalVectorStore, operator: str) -> None:
    with pytest.raises(ValueError, match=r"'price' n?in \[89, 199\] compares numbers with text"):
        check(store, "price", operator, [89, 199])
    with pytest.raises(ValueError, match=r"'stock' n?in \['3'\] compares text with numbers"):
        check(store, "stock", operator, ["3"])


@pytest.mark.parametrize("operator", ["==", "!=", ">", ">=", "<", "<=", "text_match", "text_match_insensitive"])
def test_text_is_not_compared_with_numbers(store: FaissMultiModalVectorStore, operator: str) -> None:
    with pytest.raises(ValueError, match=r"all values of 'stock' are numbers, such as 3; compare with a number"):
        check(store, "stock", operator, "3")
    with pytest.raises(ValueError, match=r"all values of 'new' are numbers, such as 0"):
        check(store, "new", operator, "true")


@pytest.mark.parametrize(
    ("key", "operator", "value"),
    [
        ("tags", "contains", 3),
        ("sizes", "contains", "36"),
        ("sizes", "any", ["36", "38"]),
        ("tags", "all", [1, 2]),
        ("sizes", "==", ["36", "38"]),
        ("price", "contains", 1),
    ],
)
def test_items_of_lists_are_compared_alike(
    store: FaissMultiModalVectorStore, key: str, operator: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=f"^the filter '{key}' {operator} .* compares "):
        check(store, key, operator, value)


@pytest.mark.parametrize(
    ("key", "operator", "value"),
    [
        ("price", ">=", "100"),
        ("price", "in", ["89"]),
        ("price", "contains", "9"),
        ("price", "text_match", "9"),
        ("stock", ">=", 4),
        ("stock", "==", 3.0),
        ("new", "==", 1),
        ("tags", "contains", "红"),
        ("sizes", "any", [36]),
        ("mixed", "==", "y"),
        ("mixed", "==", 7),
        ("price", "is_empty", None),
        ("unheard", "is_empty", None),
        ("price", "==", None),
        ("price", "in", []),
        ("tags", "==", 5),
    ],
)
def test_what_may_match_passes(store: FaissMultiModalVectorStore, key: str, operator: str, value: Any) -> None:
    check(store, key, operator, value)


def test_kinds_of_all_stores_count(store: FaissMultiModalVectorStore) -> None:
    other = FaissMultiModalVectorStore()
    other.add([ImageNode(image_path="a.jpg", embedding=[1.0, 0.0], metadata={"price": 5})])
    filters = MetadataFilters(filters=[MetadataFilter(key="price", value=5)])
    require_matchable(filters, [store, other])
    with pytest.raises(ValueError, match="compares numbers with text"):
        require_matchable(filters, [store])
    require_matchable(filters, [])
    require_matchable(None, [store])


def test_every_door_of_a_retriever_looks_at_its_filters(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path]
) -> None:
    nodes = [ImageNode(image_path=str(photo), metadata={"price": "89"}) for photo in photos[:2]]
    at_least = MetadataFilters(filters=[MetadataFilter(key="price", value=100, operator=FilterOperator.GTE)])
    retriever = build_index(nodes, tiny_embedding).as_retriever(filters=at_least)
    for retrieve in (retriever.retrieve, retriever.text_to_image_retrieve, retriever.text_retrieve):
        with pytest.raises(ValueError, match="compares numbers with text"):
            retrieve("帽子")
    with pytest.raises(ValueError, match="compares numbers with text"):
        retriever.image_to_image_retrieve(photos[0])
