"""Metadata is filtered as it is read back; values that JSON does not know are converted or are an error."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.schema import BaseNode, ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, build_index
from llama_index_mm_zhipu.vector_store.nodes import MAX_NESTING, storable_node

SURROGATE = "\ud83d"
MakeNode = Callable[..., TextNode]


class Color(enum.Enum):
    RED = "red"


class Shade(str, enum.Enum):
    DARK = "dark"


class Level(enum.IntEnum):
    HIGH = 3


def where(key: str, operator: str, value: Any) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=FilterOperator(operator))])


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.timedelta(hours=3), "PT3H"),
        (Color.RED, "red"),
        (Shade.DARK, "dark"),
        (Level.HIGH, 3),
        (Decimal("1.50"), "1.50"),
        (np.datetime64("2026-01-02T03:04:05", "us"), "2026-01-02T03:04:05"),
        (np.int64(5), 5),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("红"), "红"),
    ],
)
def test_a_filter_finds_a_value_as_it_is_read_back(
    store: FaissMultiModalVectorStore, make_node: MakeNode, value: Any, read: Any
) -> None:
    store.add([make_node("a", value=value)])
    (back,) = (node.metadata["value"] for node in store.get_nodes())
    assert (back, type(back)) == (read, type(read))
    # LlamaIndex's filters do not accept booleans.
    asked = int(back) if isinstance(back, bool) else back
    for operator in ("==", ">=", "<=", "in"):
        assert store.get_nodes(filters=where("value", operator, [asked] if operator == "in" else asked))
    for operator in ("!=", ">", "<", "nin"):
        assert not store.get_nodes(filters=where("value", operator, [asked] if operator == "nin" else asked))


@pytest.mark.parametrize(
    "value", [{"red", "green"}, ("red", Color.RED), [np.str_("red")], np.array(["red", "x"]), {"red": np.int8(1)}]
)
def test_filters_find_items_of_values_that_become_lists(
    store: FaissMultiModalVectorStore, make_node: MakeNode, value: Any
) -> None:
    store.add([make_node("a", value=value)])
    assert store.get_nodes(filters=where("value", "contains", "red"))
    assert store.get_nodes(filters=where("value", "any", ["red"]))
    assert not store.get_nodes(filters=where("value", "contains", "blue"))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "is nan, which JSON does not know; leave it out, or give None"),
        (np.float32("nan"), "is nan, which JSON"),
        ([1.0, {"deep": float("-inf")}], "is -inf, which JSON"),
        (b"bytes", "holds bytes; give text"),
        ({"a": bytearray(b"x")}, "holds bytes; give text"),
        (object(), "is a object, which JSON does not know; give text"),
        ([lambda: 1], "is a list, which JSON does not know; give text"),
        (nested(MAX_NESTING + 2), "is nested more than 100 levels deep; flatten it"),
    ],
)
def test_a_value_that_json_does_not_know_is_an_error_and_nothing_is_added(
    store: FaissMultiModalVectorStore, make_node: MakeNode, value: Any, reason: str
) -> None:
    store.add([make_node("a")])
    with pytest.raises(ValueError, match=r"^node b cannot be stored: its metadata 'value' ") as caught:
        store.add([make_node("a", value=1), make_node("b", value=value)])
    assert reason in str(caught.value)
    assert [node.metadata for node in store.get_nodes()] == [{}]


def test_a_value_that_contains_itself_is_an_error(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="nested more than"):
        store.add([make_node("a", value=circle)])


def test_values_nested_up_to_the_limit_are_stored(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    store.add([make_node("a", value=nested(MAX_NESTING))])
    assert store.get_nodes()[0].metadata["value"] == nested(MAX_NESTING)


def test_lone_surrogates_are_replaced_everywhere(store: FaissMultiModalVectorStore) -> None:
    node = TextNode(
        id_=f"a{SURROGATE}",
        text=f"红{SURROGATE}苹果",
        embedding=[1.0, 0.0],
        metadata={f"k{SURROGATE}": f"v{SURROGATE}", "list": [f"x{SURROGATE}"], "whole": "😀"},
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"d{SURROGATE}", metadata={"t": SURROGATE})},
    )
    before = node.model_dump()
    assert store.add([node]) == ["a�"]
    assert node.model_dump() == before
    (back,) = store.get_nodes()
    assert (back.node_id, back.get_content(), back.ref_doc_id) == ("a�", "红�苹果", "d�")
    assert back.metadata == {"k�": "v�", "list": ["x�"], "whole": "😀"}
    words = VectorStoreQuery(query_str="苹果", similarity_top_k=1, mode=VectorStoreQueryMode.TEXT_SEARCH)
    assert store.query(words).ids == ["a�"]
    for ids in ([f"a{SURROGATE}"], ["a�"]):
        assert [found.node_id for found in store.get_nodes(ids)] == ["a�"]
        assert store.get_vectors(ids)[0] == ["a�"]
        assert store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=1, node_ids=ids)).ids == ["a�"]
    assert store.get_nodes_of_document(f"d{SURROGATE}") == [back]
    store.delete(f"d{SURROGATE}")
    assert store.count() == 0


@pytest.mark.parametrize("class_", [TextNode, ImageNode])
def test_a_node_that_can_be_stored_is_not_copied(class_: type[BaseNode]) -> None:
    node = class_(text="红", metadata={"n": 1, "x": 0.5, "none": None, "list": [1, {"a": (1, 2)}], "day": Color.RED})
    assert storable_node(node).node is node


def test_an_index_checks_metadata_before_it_embeds_and_skips_on_request(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(first: Any) -> list[ImageNode]:
        values = [first, np.int64(2), np.float64(3)]
        return [
            ImageNode(id_=f"n{value}", image_path=str(photo), metadata={"price": value})
            for photo, value in zip(photos, values, strict=False)
        ]

    index = build_index(rows(b"1"), tiny_embedding, on_error="skip")
    assert {node.node_id: node.metadata["price"] for node in index.image_store.get_nodes()} == {"n2": 2, "n3.0": 3.0}
    assert list(index.skipped) == ["nb'1'"]

    embedded: list[object] = []
    monkeypatch.setattr(
        "llama_index_mm_zhipu.index.write.stream_image_nodes", lambda *given: embedded.append(given) or iter(())
    )
    with pytest.raises(ValueError, match="its metadata 'price' holds bytes"):
        build_index(rows(b"1"), tiny_embedding)
    assert not embedded
