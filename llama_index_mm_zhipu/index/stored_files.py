"""Texts of files that an index holds already: indexing a folder again must not double them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from llama_index.core.schema import BaseNode, MetadataMode, NodeRelationship, RelatedNodeInfo
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from llama_index_mm_zhipu.readers.records import is_missing, resolved
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore

RANDOM_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
"""Ids that LlamaIndex gives nodes and documents that have none."""

FILE_PATH = "file_path"
"""Metadata key under which LlamaIndex's readers name the file of a document."""

_FILE_NAME = "file_name"
_NEIGHBOURS = (NodeRelationship.PREVIOUS, NodeRelationship.NEXT)


def with_stored_vectors(
    store: FaissMultiModalVectorStore, nodes: Sequence[BaseNode], written: set[str]
) -> list[BaseNode]:
    """Return text nodes, those that a store holds from the same file with the id and the vector that they have there.

    The splitter gives the parts of a document new ids at each reading. A file that was moved is recognised by its name
    and by the part's text; the part is embedded again, as LlamaIndex embeds the path with it. Nodes and documents that
    were given an id keep it, and are not looked at, nor are nodes without the metadata ``file_path``, as LlamaIndex's
    readers give it.

    Args:
        store: The store of texts.
        nodes: Text nodes; they stay as they are, and those that came with a vector keep it.
        written: Ids of nodes that the same call has written: equal parts of one file are different nodes. The ids of
            these nodes are added.
    """
    candidates = [
        node for node in nodes if node.embedding is None and FILE_PATH in node.metadata and has_random_ids(node)
    ]
    found = _StoredTexts(store, written).find(candidates) if candidates and store.count() else {}
    new_ids = {node_id: stored.node_id for node_id, stored in found.items()}
    same = [
        found[node.node_id].node_id
        for node in candidates
        if node.node_id in found and _embedded(node) == _embedded(found[node.node_id])
    ]
    vectors = dict(zip(*store.get_vectors(same), strict=True)) if same else {}
    renamed = [_renamed(node, new_ids) for node in nodes]
    written.update(node.node_id for node in renamed)
    return [
        node.model_copy(update={"embedding": vectors[node.node_id].tolist()}) if node.node_id in vectors else node
        for node in renamed
    ]


def has_random_ids(node: BaseNode) -> bool:
    """Whether nobody gave a node, or its document, an id."""
    return all(RANDOM_ID.fullmatch(each) for each in (node.node_id, node.ref_doc_id or node.node_id))


class _StoredTexts:
    """Finds the stored texts that are those of nodes; each is found once."""

    def __init__(self, store: FaissMultiModalVectorStore, taken: set[str]) -> None:
        self._store = store
        self._taken = set(taken)

    def find(self, nodes: Sequence[BaseNode]) -> dict[str, BaseNode]:
        """Return the stored text of each node that has one, by the node's id."""
        found = self._matched(nodes, FILE_PATH, lambda stored: True)
        others = [node for node in nodes if node.node_id not in found]
        return found | self._matched(others, _FILE_NAME, _has_lost_its_file)

    def _matched(
        self, nodes: Sequence[BaseNode], key: str, condition: Callable[[BaseNode], bool]
    ) -> dict[str, BaseNode]:
        """Match texts with the same value of a metadata key, the same page, and the same words."""
        values = sorted({str(node.metadata[key]) for node in nodes if node.metadata.get(key)})
        candidates = defaultdict(list)
        for stored in self._with_metadata(key, values):
            if stored.node_id not in self._taken and has_random_ids(stored) and condition(stored):
                candidates[_part_of(stored, key)].append(stored)
        found = {}
        for node in nodes:
            if same := candidates.get(_part_of(node, key)):
                found[node.node_id] = same.pop(0)
                self._taken.add(found[node.node_id].node_id)
        return found

    def _with_metadata(self, key: str, values: list[str]) -> Iterator[BaseNode]:
        if values:
            is_one = MetadataFilter(key=key, value=values, operator=FilterOperator.IN)
            yield from self._store.get_nodes(filters=MetadataFilters(filters=[is_one]))


def _part_of(node: BaseNode, key: str) -> tuple[str, str, str]:
    """Return what is the same for one part of one file at each reading: its file, page and words."""
    return str(node.metadata.get(key)), str(node.metadata.get("page_label")), node.get_content(MetadataMode.NONE)


def _has_lost_its_file(stored: BaseNode) -> bool:
    try:
        return is_missing(resolved(str(stored.metadata.get(FILE_PATH))))
    except OSError:
        return False


def _embedded(node: BaseNode) -> str:
    return node.get_content(MetadataMode.EMBED)


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
