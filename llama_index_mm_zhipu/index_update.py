"""What images mean for an index that may hold them already: which are new, changed, moved, or the same as before."""

from __future__ import annotations

import logging
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llama_index.core.schema import BaseNode, ImageNode, MetadataMode
from llama_index.core.utils import iter_batch
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from llama_index_mm_zhipu.images.names import one_line
from llama_index_mm_zhipu.picture_nodes import caption_of
from llama_index_mm_zhipu.readers.picture_record import CONTENT_HASH, SOURCE_LOCATION, name_in_source
from llama_index_mm_zhipu.readers.source import RECORD_SEPARATOR, path_in
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore

logger = logging.getLogger(__name__)

_LOOKED_UP_AT_A_TIME = 1_000

# LlamaIndex's readers name the file of a document so.
_FILE_PATH = "file_path"


@dataclass
class ImageUpdate:
    """What is to be done for images.

    Attributes:
        to_embed: Images that are new or whose content or caption changed, by the ids that they have in the store.
        with_vectors: Images that came with a vector, or whose stored vector still holds: only their metadata changed,
            or their place.
        kept: How many images need not be embedded again.
    """

    to_embed: list[ImageNode] = field(default_factory=list)
    with_vectors: list[ImageNode] = field(default_factory=list)
    kept: int = 0


def plan_update(store: FaissMultiModalVectorStore, nodes: Sequence[ImageNode]) -> ImageUpdate:
    """Compare images with those of a store.

    Nodes of readers say where their image comes from. Such a node takes the id of the stored image from the same place,
    else of one with the same content whose place is gone: a folder was moved or renamed. It never replaces an image
    from another place: where its id is taken, it gets another. Other nodes replace what has their id, with a warning if
    that is of another file.

    Args:
        store: The store of images.
        nodes: Images to be indexed; they stay as they are.

    Returns:
        What is to be embedded, written, and left alone.
    """
    planner = _Planner(store)
    for batch in iter_batch(nodes, _LOOKED_UP_AT_A_TIME):
        planner.add(list(batch))
    planner.warn()
    return planner.update


def stored_ids(store: FaissMultiModalVectorStore, nodes: Sequence[ImageNode]) -> list[str]:
    """Return the ids that images have in a store, or would get: readers may name them otherwise."""
    matcher = _Matcher(store)
    found = matcher.find(nodes)
    return [
        matched.node_id if matched is not None else node.node_id for node, matched in zip(nodes, found, strict=True)
    ]


def with_stored_vectors(store: FaissMultiModalVectorStore, nodes: Sequence[BaseNode]) -> list[BaseNode]:
    """Return text nodes, those that a store holds from the same file with the id and the vector that they have there.

    The splitter gives the parts of a document new ids each time: without this, indexing a folder again would double its
    texts.

    Args:
        store: The store of texts.
        nodes: Text nodes; they stay as they are. Those without the metadata ``file_path``, as LlamaIndex's readers give
            it, are returned as they are.
    """
    files = sorted({str(node.metadata[_FILE_PATH]) for node in nodes if _FILE_PATH in node.metadata})
    if not files or store.count() == 0:
        return list(nodes)
    is_one = MetadataFilter(key=_FILE_PATH, value=files, operator=FilterOperator.IN)
    stored: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for node in store.get_nodes(filters=MetadataFilters(filters=[is_one])):
        stored[_text_key(node)].append(node.node_id)
    found = [stored[_text_key(node)].pop(0) if stored.get(_text_key(node)) else None for node in nodes]
    vectors = dict(zip(*store.get_vectors([node_id for node_id in found if node_id]), strict=True))
    return [
        node.model_copy(update={"id_": node_id, "embedding": vectors[node_id].tolist()}) if node_id in vectors else node
        for node, node_id in zip(nodes, found, strict=True)
    ]


def _text_key(node: BaseNode) -> tuple[object, ...]:
    """Return what is the same for one part of one file at each reading: its file and what is embedded of it."""
    return str(node.metadata.get(_FILE_PATH)), node.metadata.get("page_label"), node.get_content(MetadataMode.EMBED)


def location_of(node: ImageNode) -> str | None:
    """Return where a reader found an image; None for nodes that no reader made, and in stores of earlier versions."""
    location = node.metadata.get(SOURCE_LOCATION)
    return str(location) if location is not None else None


def is_gone(location: str) -> bool:
    """Whether neither an image's file nor a file that holds it is there any more.

    Raises:
        OSError: That cannot be said, as a folder on the way cannot be looked into.
    """
    container, is_record, _ = location.rpartition(RECORD_SEPARATOR)
    if is_record:
        return _is_missing(Path(path_in(container)))
    place = Path(path_in(location))
    for path in (place, *place.parents):
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        # What leads through a file is inside of it: an id in a jsonl, a page of a PDF.
        return stat.S_ISDIR(mode)
    return True


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    return False


def missing_ids(store: FaissMultiModalVectorStore, roots: Iterable[Path]) -> list[str]:
    """Return the ids of stored images from certain folders whose files are gone.

    Args:
        store: The store of images.
        roots: Folders, absolute and without links. Images of other folders, and those without a source (``bytes``,
            ``PIL.Image``, nodes that no reader made), are not looked at.

    Raises:
        OSError: A folder is not there or cannot be listed, such as a network share that is not mounted.
    """
    folders = [root for root in roots if not root.is_file()]
    for folder in folders:
        with os.scandir(folder):
            # It can be listed.
            pass
    prefixes = tuple(f"{folder.as_posix().rstrip('/')}/" for folder in folders)
    locations = {**_locations_of_earlier_version(store), **store.metadata_texts(SOURCE_LOCATION)}
    return [node_id for node_id, location in locations.items() if location.startswith(prefixes) and is_gone(location)]


def _locations_of_earlier_version(store: FaissMultiModalVectorStore) -> dict[str, str]:
    """Return the files of images that readers of earlier versions found, which recorded no location."""
    without_location = MetadataFilters(
        filters=[
            MetadataFilter(key=SOURCE_LOCATION, value=None, operator=FilterOperator.IS_EMPTY),
            MetadataFilter(key=CONTENT_HASH, value="", operator=FilterOperator.GT),
        ]
    )
    nodes = store.get_nodes(filters=without_location)
    return {node.node_id: node.image_path for node in nodes if isinstance(node, ImageNode) and node.image_path}


class _Matcher:
    """Finds the stored images that are those of nodes."""

    def __init__(self, store: FaissMultiModalVectorStore) -> None:
        self._store = store
        self._is_empty = store.count() == 0
        self._adopted: set[str] = set()
        self.by_id: dict[str, ImageNode] = {}

    def find(self, nodes: Sequence[ImageNode]) -> list[ImageNode | None]:
        """Return the stored image of each node, or None."""
        if self._is_empty:
            return [None] * len(nodes)
        names = {name for node in nodes for name in (node.node_id, name_in_source(node)) if name}
        self.by_id = {node.node_id: node for node in self._images(node_ids=sorted(names))}
        self._by_location = {location_of(node): node for node in self._with_metadata(SOURCE_LOCATION, nodes)}
        self._by_content: dict[str, list[ImageNode]] = defaultdict(list)
        for stored in self._with_metadata(CONTENT_HASH, nodes):
            self._by_content[stored.metadata[CONTENT_HASH]].append(stored)
        return [self._match(node) for node in nodes]

    def _match(self, node: ImageNode) -> ImageNode | None:
        location = location_of(node)
        if location is None:
            return self.by_id.get(node.node_id)
        found = self._by_location.get(location) or self._of_earlier_version(node) or self._moved(node, location)
        if found is not None:
            self._adopted.add(found.node_id)
        return found

    def _of_earlier_version(self, node: ImageNode) -> ImageNode | None:
        """Return the image that an earlier version stored under its id within the source, without a location."""
        for name in (name_in_source(node), node.node_id):
            stored = self.by_id.get(name or "")
            if stored is None or location_of(stored) is not None or stored.node_id in self._adopted:
                continue
            if stored.image_path == node.image_path if stored.image_path else _is_same_content(node, stored):
                return stored
        return None

    def _moved(self, node: ImageNode, location: str) -> ImageNode | None:
        """Return an image of the same content whose place is gone, one of the same name first."""
        name = Path(location).name
        candidates = self._by_content.get(node.metadata.get(CONTENT_HASH, ""), [])
        for stored in sorted(candidates, key=lambda stored: Path(location_of(stored) or stored.node_id).name != name):
            place = location_of(stored) or stored.image_path
            if place and stored.node_id not in self._adopted and _is_surely_gone(place):
                return stored
        return None

    def _with_metadata(self, key: str, nodes: Sequence[ImageNode]) -> Iterator[ImageNode]:
        values = sorted({node.metadata[key] for node in nodes if key in node.metadata})
        if values:
            is_one = MetadataFilter(key=key, value=values, operator=FilterOperator.IN)
            yield from self._images(filters=MetadataFilters(filters=[is_one]))

    def _images(self, **selected: object) -> Iterator[ImageNode]:
        nodes = self._store.get_nodes(**selected)  # type: ignore[arg-type]
        return (node for node in nodes if isinstance(node, ImageNode))


class _Planner:
    """Plans an update, batch after batch."""

    def __init__(self, store: FaissMultiModalVectorStore) -> None:
        self.update = ImageUpdate()
        self._store = store
        self._matcher = _Matcher(store)
        self._planned: dict[str, str | None] = {}
        self._replaced: list[str] = []
        self._renamed: list[str] = []

    def add(self, nodes: list[ImageNode]) -> None:
        """Plan for a batch."""
        found = self._matcher.find(nodes)
        reusable = [
            stored.node_id
            for node, stored in zip(nodes, found, strict=True)
            if stored is not None and _is_embedded_alike(node, stored)
        ]
        vectors = dict(zip(*self._store.get_vectors(reusable), strict=True)) if reusable else {}
        for node, stored in zip(nodes, found, strict=True):
            named = self._named(node, stored)
            if named is None:
                continue
            vector = vectors.get(stored.node_id) if stored is not None else None
            if named.embedding is not None:
                self.update.with_vectors.append(named)
            elif stored is None or vector is None:
                self.update.to_embed.append(named)
            else:
                self.update.kept += 1
                if not _is_stored_alike(named, stored):
                    self.update.with_vectors.append(named.model_copy(update={"embedding": vector.tolist()}))

    def warn(self) -> None:
        """Say which ids belonged to images of other files."""
        if self._replaced:
            logger.warning(
                "%d images replaced images of other files that had their ids, such as %s; give them ids of their own, "
                "or an id_prefix to their reader",
                len(self._replaced),
                self._replaced[0],
            )
        if self._renamed:
            logger.warning(
                "%d images got other ids, as images of other files have theirs, such as %s; an id_prefix of their "
                "reader tells them apart",
                len(self._renamed),
                self._renamed[0],
            )

    def _named(self, node: ImageNode, stored: ImageNode | None) -> ImageNode | None:
        """Return a node by its id in the store; None for an image that was given before in the same call."""
        location = location_of(node)
        if location is None:
            if stored is not None and (place := _replaced_place(node, stored)):
                self._replaced.append(f"{one_line(node.node_id)} of {one_line(place)}")
            self._planned[node.node_id] = None
            return node
        wanted = stored.node_id if stored is not None else node.node_id
        if self._planned.get(wanted, "") == location:
            return None
        node_id = wanted if stored is not None else self._free_id(wanted)
        if stored is None and node_id != wanted:
            self._renamed.append(f"{one_line(node_id)} for {one_line(location)}")
        self._planned[node_id] = location
        return node if node_id == node.node_id else node.model_copy(update={"id_": node_id})

    def _free_id(self, wanted: str) -> str:
        number, node_id = 1, wanted
        # Whose id is wanted was looked up with the whole batch.
        while node_id in self._planned or node_id in self._matcher.by_id or (number > 1 and self._is_stored(node_id)):
            number += 1
            node_id = f"{wanted}~{number}"
        return node_id

    def _is_stored(self, node_id: str) -> bool:
        return bool(self._store.get_nodes(node_ids=[node_id]))


def _is_same_content(node: ImageNode, stored: ImageNode) -> bool:
    content = node.metadata.get(CONTENT_HASH)
    return content is not None and content == stored.metadata.get(CONTENT_HASH)


def _is_embedded_alike(node: ImageNode, stored: ImageNode) -> bool:
    """Whether two nodes have one vector: content and caption are all that goes into it."""
    return _is_same_content(node, stored) and caption_of(node) == caption_of(stored)


def _is_stored_alike(node: ImageNode, stored: ImageNode) -> bool:
    left_out = {"embedding"}
    return node.model_dump(exclude=left_out) == stored.model_dump(exclude=left_out)


def _is_surely_gone(location: str) -> bool:
    try:
        return is_gone(location)
    except OSError:
        return False


def _replaced_place(node: ImageNode, stored: ImageNode) -> str | None:
    """Return the file or URL of a stored image that another file's is about to replace; None if it is the same."""
    places = [location_of(each) or each.image_path or each.image_url for each in (node, stored)]
    return places[1] if all(places) and places[0] != places[1] else None
