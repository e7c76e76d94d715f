"""Nodes that are added as columns are the same as those that are added one by one."""

from __future__ import annotations

import datetime
import math
from typing import Any

import numpy as np
import pytest
from llama_index.core.schema import ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from llama_index_mm_zhipu import FaissMultiModalVectorStore

VECTORS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
IDS = [f"n{i}" for i in range(6)]
TEXTS = ["白色的飞机", "飞机场", "", "iPhone15", "cat\ud800", "🎉 ①"]
METADATA: dict[str, Any] = {
    "page": [1, 2, None, 4, 5, 6],
    "price": [0.5, 1, 2.25, True, None, 10**20],
    "day": [datetime.date(2026, 11, 30), "today", None, 1, 2, 3],
    "tags": [["红", "蓝"], [], None, ["蓝"], [1], ["x"]],
    "标题": ["甲", "乙", "丙", "丁", "\ud800", "己"],
}


def added_as_nodes(store: FaissMultiModalVectorStore, **more: list[str]) -> FaissMultiModalVectorStore:
    """Return the store with the nodes of the columns, each of which is made as a node."""
    nodes: list[TextNode] = []
    for row, node_id in enumerate(IDS):
        fields: dict[str, Any] = {
            "id_": node_id,
            "text": TEXTS[row],
            "embedding": VECTORS[row].tolist(),
            "metadata": {key: values[row] for key, values in METADATA.items()},
        }
        if "ref_doc_ids" in more:
            fields["relationships"] = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=more["ref_doc_ids"][row])}
        image_paths = more.get("image_paths")
        nodes.append(TextNode(**fields) if image_paths is None else ImageNode(**fields, image_path=image_paths[row]))
    store.add(nodes)
    return store


def content(store: FaissMultiModalVectorStore) -> list[dict[str, Any]]:
    return [node.to_dict() for node in store.get_nodes(include_embeddings=True)]


@pytest.mark.parametrize(
    "more", [{}, {"ref_doc_ids": ["d1", "d1", "d2", "d2", "d3", "d3"]}, {"image_paths": [f"{i}.jpg" for i in range(6)]}]
)
def test_columns_store_what_nodes_store(store: FaissMultiModalVectorStore, more: dict[str, list[str]]) -> None:
    assert store.add_columns(VECTORS, node_ids=IDS, texts=TEXTS, metadata=METADATA, **more) == IDS  # type: ignore[arg-type]
    other = added_as_nodes(FaissMultiModalVectorStore(), **more)
    assert content(store) == content(other)
    assert store.metadata_keys() == other.metadata_keys()
    assert sorted(store.document_ids()) == sorted(other.document_ids())
    for key, operator, value in (
        ("page", FilterOperator.GTE, 4),
        ("tags", FilterOperator.CONTAINS, "蓝"),
        ("day", FilterOperator.EQ, "2026-11-30"),
        ("price", FilterOperator.IN, [1, 0.5]),
        ("标题", FilterOperator.IS_EMPTY, None),
    ):
        where = MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])
        assert [n.node_id for n in store.get_nodes(filters=where)] == [
            n.node_id for n in other.get_nodes(filters=where)
        ]
    for words in ("飞机", "iphone 15", "🎉", "cat"):
        query = VectorStoreQuery(query_str=words, similarity_top_k=6, mode=VectorStoreQueryMode.TEXT_SEARCH)
        assert store.query(query).ids == other.query(query).ids
        assert store.query(query).similarities == other.query(query).similarities


@pytest.mark.parametrize("other", [[], [datetime.date(2026, 11, 30), "\ud800"]])
def test_characters_that_json_escapes_stay_as_they_are(store: FaissMultiModalVectorStore, other: list[Any]) -> None:
    texts = [",", '"', '",', '","', '\\",', "\n ", ",\n ", "\u2028\0%s", "%(x)s", "]", "", "a"]
    values = [*texts[: len(texts) - len(other)], *other]
    store.add_columns(np.ones((len(texts), 4)), texts=texts, metadata={'%s",\n ': values, "n": list(range(len(texts)))})
    expected = [*values[: len(texts) - len(other)], *["2026-11-30", "\ufffd"][: len(other)]]
    assert [node.get_content() for node in store.get_nodes()] == texts
    assert [node.metadata['%s",\n '] for node in store.get_nodes()] == expected


def test_rows_replace_stored_nodes_with_their_ids(store: FaissMultiModalVectorStore) -> None:
    store.add_columns(VECTORS, node_ids=IDS)
    store.add_columns(VECTORS[:2] * 2, node_ids=["n5", "new"], texts=["甲", "乙"])
    assert store.count() == 7
    assert store.get_nodes(["n5"])[0].get_content() == "甲"
    assert store.get_vectors(["n5"])[1].tolist() == (VECTORS[:1] * 2).tolist()


def test_lone_surrogates_are_replaced_in_ids_and_keys_as_they_are_of_nodes(store: FaissMultiModalVectorStore) -> None:
    columns: dict[str, Any] = {
        "node_ids": ["a\ud800", "b"],
        "ref_doc_ids": ["d", "d\ud800"],
        "image_paths": ["x", "y\ud800"],
    }
    assert store.add_columns(VECTORS[:2], metadata={"k\ud800": [1, 2]}, **columns) == ["a\ufffd", "b"]
    assert store.add_columns(VECTORS[:2], metadata={"k\ud800": [1, 2]}, **columns) == ["a\ufffd", "b"]
    assert [node.node_id for node in store.get_nodes()] == ["a\ufffd", "b"]
    assert (store.metadata_keys(), sorted(store.document_ids())) == (["k\ufffd"], ["d", "d\ufffd"])
    assert store.image_paths() == {"a\ufffd": "x", "b": "y\ufffd"}
    store.clear()
    store.add_columns(VECTORS[:2], metadata={"k\ud800": [1, 2]})
    assert store.metadata_keys() == ["k\ufffd"]


def test_an_id_that_is_no_text_is_refused(store: FaissMultiModalVectorStore) -> None:
    with pytest.raises(ValueError, match="id_"):
        store.add_columns(VECTORS[:2], node_ids=["a", 7])  # type: ignore[list-item]
    assert store.is_empty()


def test_ids_are_made_and_arrays_are_taken(store: FaissMultiModalVectorStore) -> None:
    ids = store.add_columns(VECTORS, metadata={"page": np.arange(6), "price": np.linspace(0, 1, 6)})
    assert len(set(ids)) == 6
    assert [node.metadata["page"] for node in store.get_nodes(ids)] == list(range(6))
    assert store.add_columns(np.empty((0, 4))) == []


def test_settings_are_recorded_with_the_rows(store: FaissMultiModalVectorStore) -> None:
    store.add_columns(VECTORS, settings={"caption_weight": 0.5})
    assert store.get_setting("caption_weight") == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": ["一"]}, "texts has 1 values for 6 vectors; nothing was added"),
        ({"metadata": {"页": [1, 2]}}, r"metadata\['页'\] has 2 values for 6 vectors"),
        ({"node_ids": ["a"] * 6}, "node a is given twice in one call"),
        ({"vectors": VECTORS[:, :3]}, "the vectors have dimension 3, the store's have 4"),
        ({"vectors": VECTORS[0]}, r"vectors must have the shape \(n, dimension\), got \(4,\)"),
        ({"vectors": VECTORS * [[1], [1], [math.nan], [1], [1], [1]]}, "the vector in row 2 holds NaN or infinity"),
        ({"metadata": {"x": [1, 2, math.nan, 4, 5, 6]}, "node_ids": IDS}, "n2 cannot be stored: its metadata 'x'"),
        (
            {"metadata": {"x": [b"bytes"] * 6}, "node_ids": IDS},
            "n0 cannot be stored: its metadata 'x' holds bytes",
        ),
    ],
)
def test_columns_that_cannot_be_stored_are_refused(
    store: FaissMultiModalVectorStore, arguments: dict[str, Any], message: str
) -> None:
    store.add_columns(VECTORS[:2], node_ids=["kept 1", "kept 2"])
    with pytest.raises(ValueError, match=message):
        store.add_columns(**{"vectors": VECTORS, **arguments})
    assert store.count() == 2


def test_a_text_is_no_column(store: FaissMultiModalVectorStore) -> None:
    with pytest.raises(TypeError, match="a column must be a sequence of values, not the text '飞机火车轮船'"):
        store.add_columns(VECTORS, texts="飞机火车轮船")
