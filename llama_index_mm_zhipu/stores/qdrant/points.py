"""What a collection of Qdrant is made of: its vectors, and the payload of each point.

The payload is that of LlamaIndex's ``QdrantVectorStore``, which reads the same collection: the node as JSON, the
metadata, and the id of the document. One more object, under ``_mm_zhipu``, holds what filters, text search and settings
need.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from qdrant_client import models

from llama_index_mm_zhipu.stores.backend import unsupported
from llama_index_mm_zhipu.stores.filterable import NUMBER, NUMBER_ITEMS, TEXT, filterable_of
from llama_index_mm_zhipu.stores.qdrant.filters import DOCUMENT, OURS, storable_number
from llama_index_mm_zhipu.stores.qdrant.sparse import weights_of_tokens
from llama_index_mm_zhipu.stores.records import Record, StoredNode
from llama_index_mm_zhipu.vector_store.fulltext import TOKENS_VERSION, tokens_of
from llama_index_mm_zhipu.vector_store.vector_file import Vectors

WORDS = f"mm-zhipu-words-{TOKENS_VERSION}"
"""Name of the sparse vector that text search uses. Its tokens depend on the version."""

NODE_ID, ORDER, TEXT_OF_NODE, LENGTH = f"{OURS}.id", f"{OURS}.order", f"{OURS}.text", f"{OURS}.length"
IS_SEARCHABLE = f"{OURS}.searchable"
"""Path that says of each point of ours whether text search can find it."""

RECORDED, SETTINGS = f"{OURS}.recorded", f"{OURS}.settings"
"""Paths of the keys of settings, and of their values as JSON."""

STORED_NODE = ["_node_content", "_node_type", NODE_ID, ORDER, LENGTH]
"""Parts of the payload that ``stored_node`` reads."""

INDEXES = {
    IS_SEARCHABLE: models.PayloadSchemaType.BOOL,
    RECORDED: models.PayloadSchemaType.KEYWORD,
}
"""Payload indexes that every collection needs beside that of documents."""


@dataclass(frozen=True)
class Layout:
    """The vectors of a collection.

    Attributes:
        vector_name: Name of the dense vector; empty for the vector without a name.
        dimension: Its dimension.
        is_normalised: Whether Qdrant scales vectors to unit length (distance COSINE).
        has_words: Whether there is the sparse vector of text search.
    """

    vector_name: str
    dimension: int
    is_normalised: bool
    has_words: bool


def layout_of(parameters: models.CollectionParams, vector_name: str, store: str) -> Layout:
    """Return the vectors of a collection that exists.

    Args:
        parameters: Its configuration.
        vector_name: Name of the dense vector, as the user chose it.
        store: Name of the store, for the error.

    Raises:
        ValueError: The collection has no such vector, or one that cannot give inner products.
    """
    vectors = parameters.vectors or {}
    named = {"": vectors} if isinstance(vectors, models.VectorParams) else vectors
    name = "" if isinstance(vectors, models.VectorParams) else vector_name
    vector = named.get(name)
    if vector is None:
        there = ", ".join(map(repr, sorted(named))) or "none"
        advice = f"the collection has {there}; give QdrantVectorStore(dense_vector_name=…)"
        raise unsupported(store, f"search the vector {name!r}", advice)
    if vector.multivector_config is not None:
        raise unsupported(store, f"keep one vector a node in the multivector {name!r}", "use another collection")
    if vector.distance not in (models.Distance.DOT, models.Distance.COSINE):
        what = f"give inner products for the distance {vector.distance.value}"
        raise unsupported(store, what, "use a collection with distance Dot, or let add create one")
    is_normalised = vector.distance == models.Distance.COSINE
    return Layout(name, vector.size, is_normalised, WORDS in (parameters.sparse_vectors or {}))


def point_of(record: Record, layout: Layout) -> models.PointStruct:
    """Return the point of a record."""
    tokens = tokens_of(record.text)
    vector: dict[str, Any] = {layout.vector_name: record.vector.tolist()}
    if layout.has_words and tokens:
        weights = weights_of_tokens(tokens)
        vector[WORDS] = models.SparseVector(indices=weights.indices, values=weights.values)
    return models.PointStruct(id=record.key, vector=vector, payload=_payload_of(record, bool(tokens)))


def stored_node(point: models.Record, layout: Layout, store: str) -> StoredNode:
    """Return the node of a point; with its vector if the point has one.

    Raises:
        ValueError: The point is not one of ours.
    """
    payload, ours = point.payload or {}, _ours_of(point, store)
    return StoredNode(
        key=str(point.id),
        node_id=ours["id"],
        class_name=payload["_node_type"],
        content=payload["_node_content"],
        order=ours["order"],
        vector=None if point.vector is None else vector_of(point, layout),
    )


def order_of(point: models.Record, store: str) -> int:
    """Return the place of a point in the order of addition.

    Raises:
        ValueError: The point is not one of ours.
    """
    order: int = _ours_of(point, store)["order"]
    return order


def _ours_of(point: models.Record, store: str) -> dict[str, Any]:
    ours: dict[str, Any] | None = (point.payload or {}).get(OURS)
    if ours is None:
        raise foreign_point(store, point.id)
    return ours


def foreign_point(store: str, point_id: Any) -> ValueError:
    """Return the error of a point that was written by something else."""
    return ValueError(
        f"{store} holds points that ExternalVectorStore did not add, such as {point_id}; their metadata cannot be "
        "filtered and their words cannot be found: add these nodes again through ExternalVectorStore, to a new "
        "collection"
    )


def vector_of(point: models.Record, layout: Layout) -> Vectors:
    """Return the vector that was added, shape ``(dimension,)``."""
    vector = point.vector[layout.vector_name] if isinstance(point.vector, dict) else point.vector
    return np.asarray(vector, dtype=np.float32) * np.float32(length_of(point, layout))


def length_of(point: models.Record | models.ScoredPoint, layout: Layout) -> float:
    """Return by what a stored vector is multiplied to give the one that was added."""
    return float((point.payload or {})[OURS]["length"]) if layout.is_normalised else 1.0


def _payload_of(record: Record, is_searchable: bool) -> dict[str, Any]:
    filters = _with_storable_numbers(filterable_of(record.rows))
    ours: dict[str, Any] = {
        "id": record.node_id,
        "order": record.order,
        "searchable": is_searchable,
        "length": float(np.linalg.norm(record.vector.astype(np.float64))),
        "recorded": sorted(record.settings),
        "settings": {key: json.dumps(value) for key, value in record.settings.items()},
        "filters": filters,
        "lowered": _lowered(filters.get(TEXT, {})),
    }
    if is_searchable:
        ours["text"] = record.text
    return {
        **record.metadata,
        "_node_content": record.content,
        "_node_type": record.class_name,
        "document_id": record.ref_doc_id,
        DOCUMENT: record.ref_doc_id,
        "ref_doc_id": record.ref_doc_id,
        OURS: ours,
    }


def _with_storable_numbers(filters: dict[str, Any]) -> dict[str, Any]:
    numbers = {key: storable_number(value) for key, value in filters.get(NUMBER, {}).items()}
    items = {key: [storable_number(each) for each in values] for key, values in filters.get(NUMBER_ITEMS, {}).items()}
    return {**filters, NUMBER: numbers, NUMBER_ITEMS: items}


def _lowered(texts: Mapping[str, str]) -> dict[str, str]:
    """Return texts with capitals in lower case; of the others, which are most in Chinese, no copy is needed."""
    lowered = {key: text.lower() for key, text in texts.items()}
    return {key: text for key, text in lowered.items() if text != texts[key]}
