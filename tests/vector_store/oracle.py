"""A slow and simple vector store in plain Python, whose answers the real store must give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

ORDER_OPERATORS = (FilterOperator.GT, FilterOperator.GTE, FilterOperator.LT, FilterOperator.LTE)
TEXT_OPERATORS = (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE)


def matches(metadata: Mapping[str, Any], filters: MetadataFilters | None) -> bool:
    """Return whether a node with this metadata meets filters of any depth; without filters, every node does."""
    if filters is None or not filters.filters:
        return True
    answers = [
        matches(metadata, part) if isinstance(part, MetadataFilters) else _matches_one(metadata, part)
        for part in filters.filters
    ]
    if filters.condition == FilterCondition.OR:
        return any(answers)
    if filters.condition == FilterCondition.NOT:
        return not any(answers)
    return all(answers)


def _matches_one(metadata: Mapping[str, Any], filter_: MetadataFilter) -> bool:
    alone = build_metadata_filter_fn(lambda _: metadata, MetadataFilters(filters=[filter_]))
    try:
        return alone("")
    except TypeError:
        # LlamaIndex fails to compare a number with text, or to search in a number. A store with mixed values must not.
        return False


def _check(filters: MetadataFilters | None) -> None:
    for part in filters.filters if filters else ():
        if isinstance(part, MetadataFilters):
            _check(part)
        elif part.operator in TEXT_OPERATORS and not isinstance(part.value, str):
            raise TypeError(f"{part.operator.name} needs a string")
        elif part.operator in ORDER_OPERATORS and isinstance(part.value, list):
            raise TypeError(f"{part.operator.name} needs a single value")


class Oracle:
    """Nodes by id, oldest first; a replaced node counts as new.

    Attributes:
        nodes: The nodes in the store.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, BaseNode] = {}

    def add(self, nodes: Sequence[BaseNode]) -> list[str]:
        """Add all nodes or none. They replace nodes with the same ids."""
        node_ids = [node.node_id for node in nodes]
        if len(set(node_ids)) < len(node_ids) or any(node.embedding is None for node in nodes):
            raise ValueError("an id is given twice, or a node has no embedding")
        for node in nodes:
            self.nodes.pop(node.node_id, None)
            self.nodes[node.node_id] = node
        return node_ids

    def delete(self, ref_doc_id: str) -> None:
        """Delete the nodes of a document."""
        self.nodes = {id_: node for id_, node in self.nodes.items() if (node.ref_doc_id or id_) != ref_doc_id}

    def delete_nodes(self, node_ids: Sequence[str] | None = None, filters: MetadataFilters | None = None) -> None:
        """Delete the nodes that ``get_nodes`` returns; raise ``ValueError`` if neither ids nor filters are given."""
        if node_ids is None and not (filters and filters.filters):
            raise ValueError("every node would be deleted")
        for node in self.get_nodes(node_ids, filters):
            del self.nodes[node.node_id]

    def clear(self) -> None:
        """Delete every node."""
        self.nodes = {}

    def get_nodes(
        self, node_ids: Sequence[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Return nodes in the order of ``node_ids``, or oldest first."""
        _check(filters)
        wanted = self.nodes if node_ids is None else dict.fromkeys(node_ids)
        found = [self.nodes[node_id] for node_id in wanted if node_id in self.nodes]
        return [node for node in found if matches(node.metadata, filters)]

    def query(self, query: VectorStoreQuery) -> VectorStoreQueryResult:
        """Rank nodes by inner product, older ones first among equals. Empty node ids are no restriction."""
        nodes = [
            node
            for node in self.get_nodes(filters=query.filters)
            if (not query.node_ids or node.node_id in query.node_ids)
            and (query.doc_ids is None or node.ref_doc_id in query.doc_ids)
        ]
        vectors = np.array([node.embedding for node in nodes], dtype=np.float32)
        scores = vectors @ np.array(query.query_embedding, dtype=np.float32) if nodes else np.empty(0)
        best = np.argsort(-scores, kind="stable")[: query.similarity_top_k]
        return VectorStoreQueryResult(
            nodes=[nodes[position] for position in best],
            similarities=[float(scores[position]) for position in best],
            ids=[nodes[position].node_id for position in best],
        )
