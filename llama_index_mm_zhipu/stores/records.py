"""Nodes as other stores keep them: one record a node, with everything that queries, filters and reading back need."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from llama_index.core.schema import BaseNode

from llama_index_mm_zhipu.images import searchable_text_of
from llama_index_mm_zhipu.vector_store.metadata_values import MetadataRow, metadata_rows
from llama_index_mm_zhipu.vector_store.nodes import NewNodes, NodeRow, node_from_row
from llama_index_mm_zhipu.vector_store.vector_file import Vectors

_IDS = uuid.UUID("6f0a5e0e-6d6d-4a5f-9c3e-7a686970755f")
"""Namespace of the UUIDs that stand for node ids. Stores hold them: it cannot be changed."""


@dataclass(frozen=True)
class Record:
    """A node as a store keeps it.

    Attributes:
        key: Id of the node in the store, see ``StoreBackend.key_of``.
        node_id: LlamaIndex's id.
        ref_doc_id: Id of the source document; the node's own id if it has none.
        class_name: LlamaIndex's name of the node's class.
        content: The node as JSON, with its inline image, without its vector.
        text: What full text search looks at; empty for a node without text.
        metadata: The metadata as it is read back from JSON.
        rows: The metadata as filters see it.
        vector: Shape ``(dimension,)``.
        settings: The settings of the store when the node was written, such as the embedding model. Stores without a
            place for settings keep them beside each node.
        order: Grows with each node that is added; nodes are listed in this order.
    """

    key: str
    node_id: str
    ref_doc_id: str
    class_name: str
    content: str
    text: str
    metadata: Mapping[str, Any]
    rows: tuple[MetadataRow, ...]
    vector: Vectors
    settings: Mapping[str, Any]
    order: int


@dataclass(frozen=True)
class StoredNode:
    """A node as a store returns it.

    Attributes:
        key: Id of the node in the store.
        node_id: LlamaIndex's id.
        class_name: LlamaIndex's name of the node's class.
        content: As in ``Record``.
        order: As in ``Record``.
        vector: Shape ``(dimension,)``; None if it was not asked for.
    """

    key: str
    node_id: str
    class_name: str
    content: str
    order: int = 0
    vector: Vectors | None = None

    def node(self) -> BaseNode:
        """Return the node; with its vector if that was asked for."""
        node = node_from_row(NodeRow(self.node_id, None, self.class_name, self.content, None), None)
        if self.vector is not None:
            node.embedding = self.vector.tolist()
        return node


def uuid_of(node_id: str) -> str:
    """Return the UUID that stands for a node id in stores that take no other ids; a UUID stands for itself."""
    try:
        own = str(uuid.UUID(node_id))
    except ValueError:
        own = ""
    return own if own == node_id else str(uuid.uuid5(_IDS, node_id))


def records_of(
    nodes: Sequence[BaseNode], key_of: Callable[[str], str], dimension: int | None, settings: Mapping[str, Any]
) -> list[Record]:
    """Return the records of nodes with embeddings.

    Args:
        nodes: The nodes, at least one.
        key_of: Returns the id in the store of a node id.
        dimension: Dimension of the store's vectors; None for a store that has none.
        settings: The store's settings.

    Raises:
        ValueError: As ``NewNodes``.
    """
    new = NewNodes(nodes, dimension)
    first = time.time_ns()
    return [
        Record(
            key=key_of(node.node_id),
            node_id=node.node_id,
            ref_doc_id=node.ref_doc_id or node.node_id,
            class_name=class_name,
            content=content,
            text=searchable_text_of(node),
            metadata=metadata,
            rows=tuple(metadata_rows(metadata)),
            vector=vector,
            settings=settings,
            order=order,
        )
        for order, (node, class_name, content, metadata), vector in zip(
            count(first), new.whole(), new.vectors, strict=False
        )
    ]
