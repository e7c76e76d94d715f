"""Calls of a store, sync or async, and nodes that tests put into stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from llama_index.core.schema import (
    BaseNode,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import (
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.types import VectorStoreQueryMode

OpenStore: TypeAlias = Callable[..., Any]
"""Opens a collection by name, always the same one for the same name, with vectors of a dimension (2 by default)."""

MODES = (
    VectorStoreQueryMode.DEFAULT,
    VectorStoreQueryMode.TEXT_SEARCH,
    VectorStoreQueryMode.SPARSE,
    VectorStoreQueryMode.HYBRID,
    VectorStoreQueryMode.MMR,
)


class Calls:
    """The methods of a store, sync or async.

    Args:
        store: The store.
        use_async: Whether to call the async methods.
    """

    def __init__(self, store: Any, use_async: bool) -> None:
        self.store = store
        self.use_async = use_async

    async def add(self, nodes: Sequence[BaseNode]) -> list[str]:
        return await self.store.async_add(nodes) if self.use_async else self.store.add(nodes)

    async def query(self, query: VectorStoreQuery, **options: object) -> VectorStoreQueryResult:
        return await self.store.aquery(query, **options) if self.use_async else self.store.query(query, **options)

    async def get_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        if self.use_async:
            return await self.store.aget_nodes(node_ids, filters)
        return self.store.get_nodes(node_ids, filters)

    async def delete(self, ref_doc_id: str) -> None:
        if self.use_async:
            await self.store.adelete(ref_doc_id)
        else:
            self.store.delete(ref_doc_id)

    async def delete_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> None:
        if self.use_async:
            await self.store.adelete_nodes(node_ids, filters)
        else:
            self.store.delete_nodes(node_ids, filters)

    async def clear(self) -> None:
        if self.use_async:
            await self.store.aclear()
        else:
            self.store.clear()

    async def ids(self, filters: MetadataFilters | None = None) -> list[str]:
        if not self.store.lists_nodes:
            assert filters is None
            return sorted(await self.found(ask(k=100)))
        return [node.node_id for node in await self.get_nodes(filters=filters)]

    async def found(self, query: VectorStoreQuery) -> list[str]:
        return list((await self.query(query)).ids or [])


def node(node_id: str, x: float = 1.0, ref_doc: str | None = None, text: str = "", **metadata: object) -> TextNode:
    relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=ref_doc)} if ref_doc else {}
    return TextNode(id_=node_id, text=text, embedding=[x, 1.0], metadata=metadata, relationships=relationships)


def ask(k: int = 10, **rest: Any) -> VectorStoreQuery:
    return VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=k, **rest)


THREE = [
    node("a", 3, "first", "白色的飞机", page=1, colour="红"),
    node("b", 2, "second", "飞机场", page=2, colour="蓝"),
    node("c", 1, "second", "猫", page=3),
]

ODD_IDS = [
    " ",
    "a'b",
    'a"b',
    "a\\b",
    "图片/一.jpg",
    "n\0",
    "\N{GRINNING FACE}",
    "x' or '1'='1",
    "%",
    "1",
    "a" * 3000,
]
