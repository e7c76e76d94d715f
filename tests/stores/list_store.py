"""A vector store that has what LlamaIndex asks of every store and no more, for tests of other stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn


class ListStore(BasePydanticVectorStore):
    """Keeps nodes in a list. ``add`` does not replace nodes, and scores are cosines, as those of many stores."""

    stores_text: bool = True
    _nodes: list[BaseNode] = PrivateAttr(default_factory=list)

    @property
    def client(self) -> Any:
        return None

    def add(self, nodes: Sequence[BaseNode], **add_kwargs: Any) -> list[str]:
        self._nodes.extend(nodes)
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        self._nodes = [node for node in self._nodes if node.ref_doc_id != ref_doc_id]

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        self._nodes = [node for node in self._nodes if node.node_id not in (node_ids or [])]

    def clear(self) -> None:
        self._nodes = []

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        return [node for node in self._nodes if node.node_id in (node_ids or [])]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        by_id = {node.node_id: node.metadata for node in self._nodes}
        meets = build_metadata_filter_fn(by_id.__getitem__, query.filters)
        asked = np.asarray(query.query_embedding)
        scores = {
            node.node_id: float(np.dot(asked, vector) / np.linalg.norm(asked) / np.linalg.norm(vector))
            for node in self._nodes
            if meets(node.node_id) and (vector := np.asarray(node.get_embedding())) is not None
        }
        ids = sorted(scores, key=lambda node_id: -scores[node_id])[: query.similarity_top_k]
        nodes = {node.node_id: node for node in self._nodes}
        return VectorStoreQueryResult([nodes[each] for each in ids], [scores[each] for each in ids], ids)


class StoreWithoutLookup(ListStore):
    """Can neither return nor delete single nodes."""

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        raise NotImplementedError

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        raise NotImplementedError


class StoreWithoutFilters(ListStore):
    """Ignores filters without a word."""

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        query.filters = None
        return super().query(query, **kwargs)
