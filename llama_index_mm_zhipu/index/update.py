"""Compare images with those that an index holds: which are new, changed, moved, or unchanged."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from llama_index.core.schema import ImageNode, NodeRelationship, RelatedNodeInfo
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from llama_index_mm_zhipu.images import caption_of, page_text_of, with_page_text
from llama_index_mm_zhipu.images.nodes import PAGE_TEXT_LINES, PAGE_TEXT_SOURCE
from llama_index_mm_zhipu.readers.records import (
    CONTENT_HASH,
    SOURCE_LOCATION,
    SOURCE_ROOT,
    is_missing,
    location_of,
    location_of_file,
    name_in_source,
)
from llama_index_mm_zhipu.text import counted, one_line
from llama_index_mm_zhipu.vector_store.contract import IndexStore

logger = logging.getLogger(__name__)


@dataclass
class ImageUpdate:
    """How a batch of images changes the store.

    Attributes:
        to_embed: Images that are new, or whose content or caption changed, with the ids that they have in the store.
        with_vectors: Images that came with a vector, or whose stored vector is still right because only their metadata
            or location changed.
        kept: How many images are not embedded again.
    """

    to_embed: list[ImageNode] = field(default_factory=list)
    with_vectors: list[ImageNode] = field(default_factory=list)
    kept: int = 0


class ImageUpdater:
    """Compares images with those of a store, batch after batch.

    Readers record the source of an image in its node. Such a node takes the id of the stored image from the same
    location, or otherwise of a moved image with the same content. It never replaces an image from another location: if
    its id is taken, it gets another one. Nodes with a given id keep it and replace the image with this id, with a
    warning if that is from another file.

    Args:
        store: The store of images.
    """

    def __init__(self, store: IndexStore) -> None:
        self._store = store
        self._matcher = ImageMatcher(store)
        self._ids_by_location: dict[str, str] = {}
        self._ids_in_store: dict[str, str] = {}
        self._planned: set[str] = set()
        self._replaced: list[str] = []
        self._renamed: list[str] = []
        self._uncaptioned: list[str] = []

    def plan(self, nodes: Sequence[ImageNode]) -> ImageUpdate:
        """Return how a batch changes the store; the last node counts if an image is given twice.

        Args:
            nodes: Image nodes. They are not changed.

        Raises:
            ValueError: Two different images of this batch have the same given id.
        """
        entries: dict[str, tuple[ImageNode, ImageNode | None]] = {}
        for node, stored in zip(nodes, self._matcher.find(nodes), strict=True):
            named = _with_page_text_of(stored, self._named(node, stored))
            earlier = entries.pop(named.node_id, None)
            if earlier is not None and not _is_same_image(earlier[0], named):
                raise ValueError(f"node {one_line(named.node_id)} is given twice, with different images")
            entries[named.node_id] = (_with_root_of(earlier[0], named) if earlier is not None else named, stored)
            if named.node_id != node.node_id:
                self._ids_in_store[node.node_id] = named.node_id
        return self._update_of([(self._related(node), stored) for node, stored in entries.values()])

    def warn(self) -> None:
        """Log how many images replaced those of other files, got other ids, or lost their caption."""
        if self._replaced:
            logger.warning(
                "%s replaced images of other files that had their ids, such as %s; give them ids of their own, "
                "or an id_prefix to their reader",
                counted(len(self._replaced), "image"),
                self._replaced[0],
            )
        if self._renamed:
            logger.warning(
                "%s got other ids, as images of other files have theirs, such as %s; an id_prefix of their "
                "reader tells them apart",
                counted(len(self._renamed), "image"),
                self._renamed[0],
            )
        if self._uncaptioned:
            logger.warning(
                "%s had captions in the index and came without, such as %s; read them with their captions, or these "
                "are gone",
                counted(len(self._uncaptioned), "image"),
                self._uncaptioned[0],
            )

    def _update_of(self, entries: Sequence[tuple[ImageNode, ImageNode | None]]) -> ImageUpdate:
        update = ImageUpdate()
        reusable = [
            stored.node_id for node, stored in entries if stored is not None and _is_embedded_alike(node, stored)
        ]
        vectors = dict(zip(*self._store.get_vectors(reusable), strict=True)) if reusable else {}
        for node, stored in entries:
            vector = vectors.get(stored.node_id) if stored is not None else None
            if node.embedding is not None:
                update.with_vectors.append(node)
            elif stored is None or vector is None:
                update.to_embed.append(node)
            else:
                update.kept += 1
                if not _is_stored_alike(node, stored):
                    update.with_vectors.append(node.model_copy(update={"embedding": vector.tolist()}))
            if stored is not None and caption_of(stored) and not caption_of(node):
                self._uncaptioned.append(one_line(node.node_id))
        return update

    def _named(self, node: ImageNode, stored: ImageNode | None) -> ImageNode:
        """Return a node with its id in the store; an image from the same location keeps its recorded source."""
        location = location_of(node)
        if location is None or not has_reader_id(node):
            if stored is not None and (location_before := _replaced_location(node, stored)):
                self._replaced.append(f"{one_line(node.node_id)} of {one_line(location_before)}")
            self._planned.add(node.node_id)
            return node
        node_id = self._ids_by_location.get(location) or (stored.node_id if stored is not None else None)
        if node_id is None:
            node_id = self._free_id(node.node_id)
            if node_id != node.node_id:
                self._renamed.append(f"{one_line(node_id)} for {one_line(location)}")
        self._ids_by_location[location] = node_id
        self._planned.add(node_id)
        if stored is not None:
            node = _with_root_of(stored, node)
        return node if node_id == node.node_id else node.model_copy(update={"id_": node_id})

    def _related(self, node: ImageNode) -> ImageNode:
        """Return a node with the ids that its parent and its children have in the store."""
        if not self._ids_in_store:
            return node
        relationships = dict(node.relationships)
        for relation in (NodeRelationship.PARENT, NodeRelationship.CHILD):
            related = relationships.get(relation)
            if isinstance(related, RelatedNodeInfo):
                relationships[relation] = self._as_in_store(related)
            elif related is not None:
                relationships[relation] = [*map(self._as_in_store, related)]
        return node.model_copy(update={"relationships": relationships})

    def _as_in_store(self, related: RelatedNodeInfo) -> RelatedNodeInfo:
        return related.model_copy(update={"node_id": self._ids_in_store.get(related.node_id, related.node_id)})

    def _free_id(self, wanted: str) -> str:
        number, node_id = 1, wanted
        # The wanted id was looked up together with the whole batch.
        while (
            node_id in self._planned
            or node_id in self._matcher.by_id
            or (
                number > 1
                and self._store.lists_nodes
                and self._store.get_nodes(node_ids=[node_id], include_images=False)
            )
        ):
            number += 1
            node_id = f"{wanted}~{number}"
        return node_id


class ImageMatcher:
    """Finds the stored image of each node, batch after batch; each stored image is found once.

    Nothing is found in a store that cannot list its nodes.

    Args:
        store: The store of images.
    """

    def __init__(self, store: IndexStore) -> None:
        self._store = store
        self._has_nodes_to_match = store.lists_nodes and not store.is_empty()
        self._adopted: set[str] = set()
        self._is_missing: dict[str, bool] = {}
        self.by_id: dict[str, ImageNode] = {}

    def find(self, nodes: Sequence[ImageNode]) -> list[ImageNode | None]:
        """Return the stored image of each node, or None."""
        if not self._has_nodes_to_match:
            return [None] * len(nodes)
        names = {name for node in nodes for name in (node.node_id, name_in_source(node)) if name}
        self.by_id = {node.node_id: node for node in self._images(node_ids=sorted(names))}
        self._by_name: dict[tuple[str | None, str | None], list[ImageNode]] = defaultdict(list)
        self._by_content: dict[str | None, list[ImageNode]] = defaultdict(list)
        self._renamed: dict[str | None, list[ImageNode]] = {}
        for stored in self._with_metadata(CONTENT_HASH, {_hash_of(node) for node in nodes}):
            self._by_content[_hash_of(stored)].append(stored)
            self._by_name[_hash_of(stored), _name_of_stored(stored)].append(stored)
        by_location: dict[str, ImageNode] = {}
        for stored in self._with_metadata(SOURCE_LOCATION, {location_of(node) for node in nodes}):
            location = str(location_of(stored))
            # The reader's node goes before a copy with a given id.
            if location not in by_location or has_reader_id(stored):
                by_location[location] = stored
        found = [self._at_location(node, by_location) for node in nodes]
        # First come images that did not move. Moved ones are searched for among the others, by the stronger sign first.
        for search in (self._moved_with_source, self._renamed_in_source):
            found = [stored or search(node) for node, stored in zip(nodes, found, strict=True)]
        return found

    def _at_location(self, node: ImageNode, by_location: dict[str, ImageNode]) -> ImageNode | None:
        location = location_of(node)
        if location is None or not has_reader_id(node):
            return self._adopt(self.by_id.get(node.node_id))
        return self._adopt(by_location.get(location) or self._of_earlier_version(node))

    def _of_earlier_version(self, node: ImageNode) -> ImageNode | None:
        """Return the image that an earlier version stored without a location, under its id within the source."""
        for name in (name_in_source(node), node.node_id):
            stored = self.by_id.get(name or "")
            if stored is None or location_of(stored) is not None or stored.node_id in self._adopted:
                continue
            if stored.image_path and node.image_path:
                if location_of_file(stored.image_path) == location_of_file(node.image_path):
                    return stored
            elif not stored.image_path and _hash_of(node) is not None and _hash_of(node) == _hash_of(stored):
                return stored
        return None

    def _moved_with_source(self, node: ImageNode) -> ImageNode | None:
        """Return an image of the same content and name whose file is gone: its whole source was moved or renamed."""
        if not has_reader_id(node):
            return None
        for stored in self._by_name.get((_hash_of(node), name_in_source(node)), []):
            if self._may_be(node, stored) and self._is_surely_missing(stored):
                return self._adopt(stored)
        return None

    def _renamed_in_source(self, node: ImageNode) -> ImageNode | None:
        """Return an image of the same content whose file is gone from an existing source: it was renamed or moved.

        A missing source whose images have other names may just not be mounted.
        """
        content = _hash_of(node)
        if not has_reader_id(node) or content not in self._by_content:
            return None
        if content not in self._renamed:
            # Computed once per content: thousands of images may be the same placeholder.
            self._renamed[content] = [
                stored
                for stored in self._by_content[content]
                if self._has_source(stored) and self._is_surely_missing(stored)
            ]
        for stored in self._renamed[content]:
            if self._may_be(node, stored):
                self._renamed[content].remove(stored)
                return self._adopt(stored)
        return None

    def _may_be(self, node: ImageNode, stored: ImageNode) -> bool:
        """Return whether a stored image is still free, and would keep its caption with this node."""
        return stored.node_id not in self._adopted and bool(caption_of(node) or not caption_of(stored))

    def _adopt(self, stored: ImageNode | None) -> ImageNode | None:
        if stored is not None:
            self._adopted.add(stored.node_id)
        return stored

    def _has_source(self, stored: ImageNode) -> bool:
        root = stored.metadata.get(SOURCE_ROOT) or str(PurePosixPath(stored.image_path or "/").parent)
        return not self._is_missing_at(root, root)

    def _is_surely_missing(self, stored: ImageNode) -> bool:
        location = location_of(stored) or stored.image_path
        return bool(location) and self._is_missing_at(str(location), stored.metadata.get(SOURCE_ROOT))

    def _is_missing_at(self, location: str, root: str | None) -> bool:
        if location not in self._is_missing:
            try:
                self._is_missing[location] = is_missing(location, root)
            except OSError:
                self._is_missing[location] = False
        return self._is_missing[location]

    def _with_metadata(self, key: str, values: set[str | None]) -> Iterator[ImageNode]:
        wanted = sorted(value for value in values if value is not None)
        if wanted:
            is_one = MetadataFilter(key=key, value=wanted, operator=FilterOperator.IN)
            yield from self._images(filters=MetadataFilters(filters=[is_one]))

    def _images(self, **selected: object) -> Iterator[ImageNode]:
        nodes = self._store.get_nodes(**selected, include_images=False)  # type: ignore[arg-type]
        return (node for node in nodes if isinstance(node, ImageNode))


def has_reader_id(node: ImageNode) -> bool:
    """Return whether a node has the id of its reader, or one that the index made of it; False for a given id."""
    name = name_in_source(node)
    if name is None:
        return False
    node_id, tilde, number = node.node_id.rpartition("~")
    plain = node_id if tilde and number.isdigit() else node.node_id
    return any(each == name or each.endswith(f"/{name}") for each in (plain, node.node_id))


def _with_root_of(earlier: ImageNode, node: ImageNode) -> ImageNode:
    """Return a node from the same location with the earlier source: a folder stays the source if one below is read."""
    root = earlier.metadata.get(SOURCE_ROOT)
    if not root or location_of(earlier) != location_of(node) or root == node.metadata.get(SOURCE_ROOT):
        return node
    return node.model_copy(update={"metadata": {**node.metadata, SOURCE_ROOT: root}})


def _name_of_stored(stored: ImageNode) -> str | None:
    """Return the id of a stored image within its source; stores of earlier versions have only its id."""
    return name_in_source(stored) or stored.node_id


def _hash_of(node: ImageNode) -> str | None:
    value = node.metadata.get(CONTENT_HASH)
    return value if isinstance(value, str) else None


def _is_same_image(first: ImageNode, second: ImageNode) -> bool:
    """Return whether two nodes with the same id are the same image: of the same location or the same content."""
    if location_of(first) is not None and location_of(first) == location_of(second):
        return True
    return _hash_of(first) is not None and _hash_of(first) == _hash_of(second)


def _is_embedded_alike(node: ImageNode, stored: ImageNode) -> bool:
    """Return whether two nodes have the same vector: content and caption determine it."""
    same_content = _hash_of(node) is not None and _hash_of(node) == _hash_of(stored)
    return same_content and caption_of(node) == caption_of(stored)


def _with_page_text_of(stored: ImageNode | None, node: ImageNode) -> ImageNode:
    """Return a node with the page text of the same stored image if it comes without: OCR need not read it again."""
    if stored is None or page_text_of(node) or _hash_of(node) is None or _hash_of(node) != _hash_of(stored):
        return node
    text = page_text_of(stored)
    lines = stored.metadata.get(PAGE_TEXT_LINES)
    return with_page_text(node, text, stored.metadata[PAGE_TEXT_SOURCE], lines) if text else node


def _is_stored_alike(node: ImageNode, stored: ImageNode) -> bool:
    # The images are the same, because their hashes are; stored nodes were read without them.
    left_out = {"embedding", "image"}
    return node.node_id == stored.node_id and node.model_dump(exclude=left_out) == stored.model_dump(exclude=left_out)


def _replaced_location(node: ImageNode, stored: ImageNode) -> str | None:
    """Return the file or URL of a stored image that a node of another file would replace; None if it is the same."""
    if node.image_path and stored.image_path:
        return None if location_of_file(node.image_path) == location_of_file(stored.image_path) else stored.image_path
    locations = [location_of(each) or each.image_url for each in (node, stored)]
    return locations[1] if all(locations) and locations[0] != locations[1] else None
