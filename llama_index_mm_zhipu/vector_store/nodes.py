"""Conversion of LlamaIndex nodes to rows of the database and back.

A node is stored as compact JSON (module ``compact``), without its vector and its inline image, which are stored
elsewhere. Filters see metadata as it is read back from this JSON, so that a date, for example, compares as text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    Node,
    TextNode,
)
from pydantic_core import PydanticSerializationError, to_json

from llama_index_mm_zhipu.images import as_image_node, searchable_text_of
from llama_index_mm_zhipu.text import one_line, replace_lone_surrogates
from llama_index_mm_zhipu.vector_store.compact import compact_json, fields_of
from llama_index_mm_zhipu.vector_store.fulltext import TextTerms, terms_of_texts
from llama_index_mm_zhipu.vector_store.metadata_values import MetadataColumn, metadata_rows

MAX_NESTING = 100
"""Levels of lists and mappings in a metadata value."""

_CLASSES: dict[str, type[BaseNode]] = {
    class_.class_name(): class_ for class_ in (Node, TextNode, ImageNode, IndexNode, Document, ImageDocument)
}
_STORED_SEPARATELY = {"embedding", "image"}
_JSON_SCALARS = frozenset({str, int, bool, type(None)})


class NodeRow(NamedTuple):
    """A row of the table of nodes.

    Attributes:
        node_id: LlamaIndex's id.
        ref_doc_id: Id of the source document, if any.
        class_name: LlamaIndex's name of the node's class.
        content: The node as JSON, compact or whole, without its vector, and without its image if ``image`` is set.
        image: SHA-256 of the bytes of an inline image.
    """

    node_id: str
    ref_doc_id: str | None
    class_name: str
    content: str
    image: str | None


class StorableNode(NamedTuple):
    """A node that can be stored.

    Attributes:
        node: The given node, or a changed copy.
        content: The node as compact JSON, without vector and inline image.
    """

    node: BaseNode
    content: str


class WholeNode(NamedTuple):
    """A node in one piece, for stores without separate tables.

    Attributes:
        node: The node.
        class_name: As in ``NodeRow``.
        content: The node as JSON, with its inline image, without its vector.
        metadata: The metadata as it is read back from JSON.
    """

    node: BaseNode
    class_name: str
    content: str
    metadata: dict[str, Any]


class NewRows(Protocol):
    """What is written of new nodes: most of it as one item for each of them, in the same order.

    Attributes:
        node_ids: Ids of the nodes, all different.
        ref_doc_ids: Ids of their source documents, if any.
        vectors: Shape ``(n, dimension)``.
    """

    node_ids: list[str]
    ref_doc_ids: list[str | None]
    vectors: npt.NDArray[np.float32]

    def rows(self) -> Iterable[NodeRow]:
        """Return the row of each node, with compact JSON; ids are unique."""

    def images(self) -> Iterable[tuple[str, bytes]]:
        """Return hash and bytes of each inline image, of any number."""

    def metadata(self) -> Iterable[MetadataColumn]:
        """Return the metadata of all nodes; several columns may have the same key and kind."""

    def text_terms(self) -> Iterable[TextTerms | None]:
        """Return the full-text terms of each node; None for a node without text."""


class _NotStorableError(ValueError):
    """The message continues a sentence that begins with a metadata key."""


class NewNodes:
    """Nodes that were checked and can be inserted.

    Args:
        nodes: Nodes with embeddings, at least one.
        dimension: Dimension of the store's vectors; None for an empty store.

    Attributes:
        node_ids: LlamaIndex's ids, in order.
        ref_doc_ids: Ids of the source documents, if any.
        vectors: Shape ``(n, dimension)``.

    Raises:
        ValueError: A node has no embedding, or one of the wrong dimension or with NaN; an id is given twice; or
            metadata cannot be stored as JSON.
    """

    def __init__(self, nodes: Sequence[BaseNode], dimension: int | None) -> None:
        self._nodes: list[BaseNode] = []
        self._contents: list[str] = []
        # Two lists: a list of tuples would keep Python's garbage collector busy.
        for each in nodes:
            node, content = storable_node(each)
            self._nodes.append(node)
            self._contents.append(content)
        nodes = self._nodes
        self.node_ids = [node.node_id for node in nodes]
        require_unique(self.node_ids)
        self.ref_doc_ids = [node.ref_doc_id for node in nodes]
        self.vectors = _vectors(nodes, dimension)
        self._images = {node.node_id: data for node in nodes if (data := _inline_image(node)) is not None}
        self._hashes = {node_id: hashlib.sha256(data).hexdigest() for node_id, data in self._images.items()}

    def __len__(self) -> int:
        return len(self.node_ids)

    def rows(self) -> Iterator[NodeRow]:
        """Yield the row of each node, with compact JSON."""
        for node, content in zip(self._nodes, self._contents, strict=True):
            image = self._hashes.get(node.node_id)
            if image is None and getattr(node, "image", None):
                # An image that is not plain base64 stays in the JSON as it is.
                content = compact_json(node, _class_name(node), {"embedding"})
            yield NodeRow(node.node_id, node.ref_doc_id, _class_name(node), content, image)

    def whole_rows(self) -> Iterator[NodeRow]:
        """Yield the row of each node, with whole JSON."""
        for node in self._nodes:
            image = self._hashes.get(node.node_id)
            exclude = {"embedding"} if image is None else _STORED_SEPARATELY
            yield NodeRow(
                node.node_id, node.ref_doc_id, _class_name(node), node.model_dump_json(exclude=exclude), image
            )

    def whole(self) -> Iterator[WholeNode]:
        """Yield each node in one piece."""
        for node, content in zip(self._nodes, self._contents, strict=True):
            whole = node.model_dump_json(exclude={"embedding"})
            yield WholeNode(node, _class_name(node), whole, _metadata_as_read(node, content))

    def images(self) -> Iterator[tuple[str, bytes]]:
        """Yield hash and bytes of each inline image."""
        for node_id, data in self._images.items():
            yield self._hashes[node_id], data

    def metadata(self) -> Iterable[MetadataColumn]:
        """Return the metadata of all nodes, a column for each key and kind."""
        columns: dict[tuple[str, str], MetadataColumn] = {}
        for position, (node, content) in enumerate(zip(self._nodes, self._contents, strict=True)):
            for key, kind, value in metadata_rows(_metadata_as_read(node, content)):
                column = columns.get((key, kind))
                if column is None:
                    column = columns[key, kind] = MetadataColumn(key, kind, [], [])
                column.positions.append(position)
                column.values.append(value)
        return columns.values()

    def text_terms(self) -> Iterator[TextTerms | None]:
        """Yield what full text stores of each node; None for a node without text."""
        return terms_of_texts(map(searchable_text_of, self._nodes))


def node_from_row(row: NodeRow, image: bytes | None) -> BaseNode:
    """Return the node of a row.

    Args:
        row: Row of the table of nodes.
        image: Bytes of the inline image; None if there is none, or if it is in the JSON.
    """
    fields = fields_of(row.content, row.class_name, row.node_id, row.ref_doc_id)
    if image is not None:
        fields["image"] = base64.b64encode(image).decode("ascii")
    return _CLASSES[row.class_name].from_dict(fields)


# Values that can be stored


def storable_node(node: BaseNode) -> StorableNode:
    """Return a node that can be stored; the given node is not changed.

    A node with the bytes of an image as its resource, such as ``ImageDocument``, becomes an ``ImageNode``: LlamaIndex
    leaves these bytes out of a node's JSON.

    Values of numpy, such as those of pandas' rows, become Python's. Lone surrogates in texts, ids and metadata become
    U+FFFD.

    Raises:
        ValueError: A metadata value cannot be stored as JSON: NaN, infinity, bytes, an object of another class, or
            lists and mappings that are nested too deeply.
    """
    resource = getattr(node, "image_resource", None)
    if resource is not None and resource.data:
        node = as_image_node(node)
    metadata = _storable_metadata(node)
    if metadata is not node.metadata:
        node = node.model_copy(update={"metadata": metadata})
    try:
        return StorableNode(node, compact_json(node, _class_name(node), _STORED_SEPARATELY))
    except (PydanticSerializationError, ValueError) as error:
        return _without_lone_surrogates(node, error)


def are_plain(values: Iterable[Any]) -> bool:
    """Return whether JSON changes none of the values: there are no dates, enums, lists or mappings, and no NaN."""
    # This runs for every node, and a generator takes twice as long.
    for value in values:
        if type(value) not in _JSON_SCALARS and not (type(value) is float and math.isfinite(value)):
            return False
    return True


def _storable_metadata(node: BaseNode) -> dict[str, Any]:
    """Return the metadata of a node with storable values: the same object if nothing has to be changed."""
    metadata = node.metadata
    if are_plain(metadata.values()):
        return metadata
    storable: dict[str, Any] = {}
    for key, value in metadata.items():
        try:
            storable[key] = _storable_value(value, 0)
        except _NotStorableError as error:
            raise _not_storable(node, key, str(error)) from None
    return metadata if _are_same_objects(storable.values(), metadata.values()) else storable


def _storable_value(value: Any, level: int) -> Any:
    if type(value) in _JSON_SCALARS:
        return value
    if level > MAX_NESTING:
        raise _NotStorableError(f"is nested more than {MAX_NESTING} levels deep; flatten it")
    if isinstance(value, np.generic | np.ndarray):
        # tolist() also converts arrays of dimension 0, and dates to Python's.
        return _storable_value(value.tolist(), level)
    if isinstance(value, float) and not math.isfinite(value):
        raise _NotStorableError(f"is {value}, which JSON does not know; leave it out, or give None")
    if isinstance(value, bytes | bytearray | memoryview):
        raise _NotStorableError("holds bytes; give text, and images as the node's image")
    if isinstance(value, dict):
        changed = {_storable_value(key, level): _storable_value(item, level + 1) for key, item in value.items()}
        same = _are_same_objects(changed.keys(), value.keys()) and _are_same_objects(changed.values(), value.values())
        return value if same else changed
    if isinstance(value, list | tuple | set | frozenset):
        items = [_storable_value(item, level + 1) for item in value]
        return value if _are_same_objects(items, value) else items
    return value


def _are_same_objects(some: Any, others: Any) -> bool:
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))


def _without_lone_surrogates(node: BaseNode, error: Exception) -> StorableNode:
    """Return a node that could not be written as JSON with U+FFFD for lone surrogates.

    Args:
        node: The node.
        error: The error of writing it.

    Raises:
        ValueError: Lone surrogates were not the reason.
    """
    for key, value in node.metadata.items():
        try:
            to_json(_replace_lone_surrogates(value))
        except (PydanticSerializationError, ValueError):
            reason = f"is a {type(value).__name__}, which JSON does not know; give text"
            raise _not_storable(node, key, reason) from None
    fields = _replace_lone_surrogates(node.model_dump(exclude=_STORED_SEPARATELY))
    separate = {name: getattr(node, name, None) for name in _STORED_SEPARATELY}
    changed = type(node).model_validate({**fields, **separate})
    try:
        return StorableNode(changed, compact_json(changed, _class_name(changed), _STORED_SEPARATELY))
    except (PydanticSerializationError, ValueError):
        raise ValueError(f"node {one_line(node.node_id)} cannot be stored: {one_line(str(error))}") from None


def _replace_lone_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return replace_lone_surrogates(value)
    if isinstance(value, dict):
        return {_replace_lone_surrogates(key): _replace_lone_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return type(value)(map(_replace_lone_surrogates, value))
    return value


def _not_storable(node: BaseNode, key: str, reason: str) -> ValueError:
    return ValueError(f"node {one_line(node.node_id)} cannot be stored: its metadata {one_line(str(key))!r} {reason}")


# Checks and parts of a node


def require_unique(node_ids: Sequence[str]) -> None:
    """Check that no id is given twice.

    Raises:
        ValueError: One is; the message names it.
    """
    if len(set(node_ids)) == len(node_ids):
        return
    seen: set[str] = set()
    for node_id in node_ids:
        if node_id in seen:
            raise ValueError(f"node {node_id} is given twice in one call; nothing was added")
        seen.add(node_id)


def _vectors(nodes: Sequence[BaseNode], dimension: int | None) -> npt.NDArray[np.float32]:
    """Check the embeddings of nodes and return them as one array."""
    for node in nodes:
        if node.embedding is None:
            raise ValueError(f"node {node.node_id} has no embedding; embed it first, nothing was added")
        dimension = dimension or len(node.embedding)
        if len(node.embedding) != dimension:
            raise ValueError(
                f"node {node.node_id} has a vector of dimension {len(node.embedding)}, the store's have {dimension}; "
                "use the model that the store was filled with, nothing was added"
            )
    if not dimension:
        raise ValueError(f"node {nodes[0].node_id} has a vector of dimension 0; nothing was added")
    # struct packs lists of floats faster than numpy converts them.
    pack = struct.Struct(f"{dimension}d").pack
    packed = b"".join([pack(*cast("list[float]", node.embedding)) for node in nodes])
    with np.errstate(over="ignore"):
        vectors = np.frombuffer(packed, dtype=np.float64).reshape(len(nodes), dimension).astype(np.float32)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        wrong = nodes[int(np.argmin(finite))].node_id
        raise ValueError(f"the vector of node {wrong} holds NaN or infinity; nothing was added")
    return vectors


def _class_name(node: BaseNode) -> str:
    """Return the name of the class to restore a node as: for a user's subclass, its nearest base in LlamaIndex."""
    for class_ in type(node).__mro__:
        for name, known in _CLASSES.items():
            if class_ is known:
                return name
    raise TypeError(f"cannot store a {type(node).__name__}, which is not one of LlamaIndex's nodes")


def _inline_image(node: BaseNode) -> bytes | None:
    """Return the bytes of a base64 image; None if encoding them again would give another text."""
    if not isinstance(node, ImageNode) or not node.image:
        return None
    try:
        data = base64.b64decode(node.image, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode("ascii") == node.image else None


def _metadata_as_read(node: BaseNode, content: str) -> dict[str, Any]:
    """Return the metadata that a node has when it is read back: dates and enums, for example, become text."""
    if are_plain(node.metadata.values()):
        return node.metadata
    metadata: dict[str, Any] = json.loads(content)["metadata"]
    return metadata
