"""Texts of files that an index holds already: indexing a folder again must not double them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from llama_index.core.schema import BaseNode, MetadataMode, NodeRelationship, RelatedNodeInfo
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore

RANDOM_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
"""Ids that LlamaIndex gives nodes and documents that have none."""

# LlamaIndex's readers name the file of a document so.
_FILE_PATH = "file_path"
_NEIGHBOURS = (NodeRelationship.PREVIOUS, NodeRelationship.NEXT)


def with_stored_vectors(
    store: FaissMultiModalVectorStore, nodes: Sequence[BaseNode], written: set[str]
) -> list[BaseNode]:
    """Return text nodes, those that a store holds from the same file with the id and the vector that they have there.

    The splitter gives the parts of a document new ids at each reading. Nodes and documents that were given an id keep
    it, and are not looked at, nor are nodes without the metadata ``file_path``, as LlamaIndex's readers give it.

    Args:
        store: The store of texts.
        nodes: Text nodes; they stay as they are, and those that came with a vector keep it.
        written: Ids of nodes that the same call has written: equal parts of one file are different nodes. The ids of
            these nodes are added.
    """
    candidates = [
        node for node in nodes if node.embedding is None and _FILE_PATH in node.metadata and _has_random_ids(node)
    ]
    new_ids: dict[str, str] = {}
    if candidates and store.count():
        stored = _stored_ids(store, candidates, written)
        for node in candidates:
            if ids := stored.get(_key_of(node)):
                new_ids[node.node_id] = ids.pop(0)
    vectors = dict(zip(*store.get_vectors(list(new_ids.values())), strict=True)) if new_ids else {}
    renamed = [_renamed(node, new_ids) for node in nodes]
    written.update(node.node_id for node in renamed)
    return [
        node.model_copy(update={"embedding": vectors[node.node_id].tolist()}) if node.node_id in vectors else node
        for node in renamed
    ]


def _stored_ids(
    store: FaissMultiModalVectorStore, nodes: Sequence[BaseNode], written: set[str]
) -> dict[tuple[str, ...], list[str]]:
    files = sorted({str(node.metadata[_FILE_PATH]) for node in nodes})
    is_one = MetadataFilter(key=_FILE_PATH, value=files, operator=FilterOperator.IN)
    ids = defaultdict(list)
    for node in store.get_nodes(filters=MetadataFilters(filters=[is_one])):
        if node.node_id not in written and _has_random_ids(node):
            ids[_key_of(node)].append(node.node_id)
    return ids


def _has_random_ids(node: BaseNode) -> bool:
    return all(RANDOM_ID.fullmatch(each) for each in (node.node_id, node.ref_doc_id or node.node_id))


def _key_of(node: BaseNode) -> tuple[str, ...]:
    """Return what is the same for one part of one file at each reading: its file, page, and what is embedded of it."""
    page = node.metadata.get("page_label")
    return str(node.metadata.get(_FILE_PATH)), str(page), node.get_content(MetadataMode.EMBED)


def _renamed(node: BaseNode, new_ids: dict[str, str]) -> BaseNode:
    """Return a node by its id in the store, with its neighbours by theirs."""
    relationships = dict(node.relationships)
    for relation in _NEIGHBOURS:
        neighbour = relationships.get(relation)
        if isinstance(neighbour, RelatedNodeInfo) and neighbour.node_id in new_ids:
            relationships[relation] = neighbour.model_copy(update={"node_id": new_ids[neighbour.node_id]})
    node_id = new_ids.get(node.node_id, node.node_id)
    if node_id == node.node_id and relationships == node.relationships:
        return node
    return node.model_copy(update={"id_": node_id, "relationships": relationships})
