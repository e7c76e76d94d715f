"""Match an index with the files that it was read from: texts that it holds already, and nodes whose files are gone."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from llama_index.core.schema import BaseNode, Document, MetadataMode, NodeRelationship, RelatedNodeInfo
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from llama_index_mm_zhipu.readers.records import (
    CONTENT_HASH,
    FILE_NAME,
    FILE_PATH,
    SOURCE_LOCATION,
    SOURCE_ROOT,
    Source,
    is_missing,
    location_of_file,
)
from llama_index_mm_zhipu.vector_store.contract import IndexStore

RANDOM_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
"""Matches the random ids that LlamaIndex gives nodes and documents."""

_NEIGHBOURS = (NodeRelationship.PREVIOUS, NodeRelationship.NEXT)


def with_stored_vectors(store: IndexStore, nodes: Sequence[BaseNode], written: set[str]) -> list[BaseNode]:
    """Return text nodes; those that the store holds from the same file get their stored id and vector.

    The splitter gives the parts of a document new ids at each reading, so that indexing a folder again would double
    its texts. A moved file is recognised by its name and the part's text; the part is embedded again, because
    LlamaIndex embeds the path with it. Nodes with a given id keep it, as do nodes without the metadata ``file_path``
    of LlamaIndex's readers.

    Args:
        store: The store of texts.
        nodes: Text nodes. They are not changed; those that came with a vector keep it.
        written: Ids of the nodes that this insertion has written, because equal parts of one file are different nodes.
            The ids of these nodes are added.
    """
    candidates = [
        node for node in nodes if node.embedding is None and FILE_PATH in node.metadata and has_random_ids(node)
    ]
    found = (
        _StoredTexts(store, written).find(candidates)
        if candidates and store.lists_nodes and not store.is_empty()
        else {}
    )
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
    """Return whether a node and its document have ids that LlamaIndex made up."""
    return all(RANDOM_ID.fullmatch(each) for each in (node.node_id, node.ref_doc_id or node.node_id))


def is_stored_alike(document: Document, stored: Sequence[BaseNode]) -> bool:
    """Return whether stored nodes were made of this very text document.

    Args:
        document: A text.
        stored: Nodes that came from a document with its id.
    """
    hashes = {node.source_node.hash if node.source_node is not None else None for node in stored}
    return hashes == {document.hash}


class _StoredTexts:
    """Finds the stored text of each node; each stored text is found once."""

    def __init__(self, store: IndexStore, taken: set[str]) -> None:
        self._store = store
        self._taken = set(taken)

    def find(self, nodes: Sequence[BaseNode]) -> dict[str, BaseNode]:
        """Return the stored text of each node that has one, by the node's id."""
        found = self._matched(nodes, FILE_PATH, lambda stored: True)
        others = [node for node in nodes if node.node_id not in found]
        return found | self._matched(others, FILE_NAME, _has_lost_its_file)

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
    """Return what identifies a part of a file at each reading: file, page and words."""
    return str(node.metadata.get(key)), str(node.metadata.get("page_label")), node.get_content(MetadataMode.NONE)


def _has_lost_its_file(stored: BaseNode) -> bool:
    try:
        return is_missing(location_of_file(str(stored.metadata.get(FILE_PATH))))
    except OSError:
        return False


def _embedded(node: BaseNode) -> str:
    return node.get_content(MetadataMode.EMBED)


def _renamed(node: BaseNode, new_ids: dict[str, str]) -> BaseNode:
    """Return a node with its stored id, and with the stored ids of its neighbours."""
    relationships = dict(node.relationships)
    for relation in _NEIGHBOURS:
        neighbour = relationships.get(relation)
        if isinstance(neighbour, RelatedNodeInfo) and neighbour.node_id in new_ids:
            relationships[relation] = neighbour.model_copy(update={"node_id": new_ids[neighbour.node_id]})
    node_id = new_ids.get(node.node_id, node.node_id)
    if node_id == node.node_id and relationships == node.relationships:
        return node
    return node.model_copy(update={"id_": node_id, "relationships": relationships})


def missing_ids(store: IndexStore, roots: Iterable[Path]) -> list[str]:
    """Return the ids of stored images that were read from certain folders and whose files no longer exist.

    Args:
        store: The store of images.
        roots: Absolute folders without links. Images of other folders stay, even of folders below these, as do
            images without a source (``bytes``, ``PIL.Image``, nodes that no reader made).

    Raises:
        OSError: A folder does not exist or cannot be listed, such as a network share that is not mounted.
    """
    folders = _listed(roots)
    locations = store.metadata_texts(SOURCE_LOCATION)
    missing = [
        node_id
        for node_id, root in store.metadata_texts(SOURCE_ROOT).items()
        if root in folders and node_id in locations and is_missing(locations[node_id], root)
    ]
    return [*missing, *_missing_of_earlier_version(store, tuple(folders), locations)]


def missing_text_ids(
    store: IndexStore, roots: Iterable[Path], files: Collection[str], written: Collection[str]
) -> list[str]:
    """Return the ids of stored texts whose files no longer exist, and of old parts of changed files.

    Args:
        store: The store of texts.
        roots: Folders. Texts of files in other folders stay, even of folders below these, as do texts without the
            metadata ``file_path``.
        files: Files that were read again, as the texts' metadata name them.
        written: Ids of the texts of these files. Other texts of the files are old, unless they have a given id.

    Raises:
        OSError: As ``missing_ids``.
    """
    folders = _listed(roots)
    stored = store.metadata_texts(FILE_PATH)
    gone = {file for file in set(stored.values()) if _is_gone_from(folders, location_of_file(file))}
    old = [node_id for node_id, file in stored.items() if file in files and node_id not in written]
    return [
        *(node_id for node_id, file in stored.items() if file in gone),
        *(node.node_id for node in (store.get_nodes(node_ids=old) if old else []) if has_random_ids(node)),
    ]


def _listed(roots: Iterable[Path]) -> dict[str, Path]:
    """Return the folders among the roots by their location.

    Raises:
        OSError: A folder does not exist or cannot be listed.
    """
    folders = {Source.of(root).location: root for root in roots if not root.is_file()}
    for folder in folders.values():
        with os.scandir(folder):
            # The folder can be listed.
            pass
    return folders


def _is_gone_from(folders: Collection[str], file: str) -> bool:
    folder = file.rpartition("/")[0]
    return folder in folders and is_missing(file, folder)


def _missing_of_earlier_version(store: IndexStore, folders: tuple[str, ...], locations: Mapping[str, str]) -> list[str]:
    """Return the missing images of stores of earlier versions, whose readers recorded hashes but no sources.

    Their own folder must exist, because it is not known whether a folder above it was their source.
    """
    hashed = store.metadata_texts(CONTENT_HASH)
    paths = {
        node_id: path for node_id, path in store.image_paths().items() if node_id in hashed and node_id not in locations
    }
    prefixes = tuple(f"{folder}/" for folder in folders)
    return [
        node_id
        for node_id, path in paths.items()
        if location_of_file(path).startswith(prefixes) and Path(path).parent.is_dir() and is_missing(path)
    ]
