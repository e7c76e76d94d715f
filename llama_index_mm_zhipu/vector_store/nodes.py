"""LlamaIndex nodes to rows of the database, and back as they were."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

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

from llama_index_mm_zhipu.vector_store.database import MetadataRow, NewNode, NodeRow
from llama_index_mm_zhipu.vector_store.fulltext import tokens_of

_CLASSES: dict[str, type[BaseNode]] = {
    class_.class_name(): class_ for class_ in (Node, TextNode, ImageNode, IndexNode, Document, ImageDocument)
}


def new_nodes(nodes: Sequence[BaseNode], dimension: int | None) -> list[NewNode]:
    """Check nodes and turn them into what the database writes.

    Args:
        nodes: Nodes with embeddings.
        dimension: What the store's vectors have, or None for an empty store.

    Raises:
        ValueError: A node has no embedding, one of the wrong dimension or with NaN, or an id stands twice.
    """
    seen: set[str] = set()
    new = []
    for node in nodes:
        if node.node_id in seen:
            raise ValueError(f"node {node.node_id} is given twice in one call; nothing was added")
        seen.add(node.node_id)
        vector = _vector(node, dimension)
        dimension = len(vector)
        new.append(_new_node(node, vector))
    return new


def node_from_row(row: NodeRow, picture: bytes | None) -> BaseNode:
    """Build the node that a row was made from."""
    fields: dict[str, Any] = json.loads(row.content)
    if picture is not None:
        fields["image"] = base64.b64encode(picture).decode("ascii")
    return _CLASSES[row.class_name].from_dict(fields)


def _vector(node: BaseNode, dimension: int | None) -> npt.NDArray[np.float32]:
    if node.embedding is None:
        raise ValueError(f"node {node.node_id} has no embedding; embed it first, nothing was added")
    vector = np.asarray(node.embedding, dtype=np.float32)
    if vector.ndim != 1 or (dimension is not None and len(vector) != dimension):
        raise ValueError(
            f"node {node.node_id} has a vector of dimension {vector.size}, the store's have {dimension}; "
            "use the model that the store was filled with, nothing was added"
        )
    if not np.isfinite(vector).all():
        raise ValueError(f"the vector of node {node.node_id} holds NaN or infinity; nothing was added")
    return vector


def _new_node(node: BaseNode, vector: npt.NDArray[np.float32]) -> NewNode:
    picture = _inline_picture(node)
    left_out = {"embedding"} if picture is None else {"embedding", "image"}
    row = NodeRow(
        node_id=node.node_id,
        ref_doc_id=node.ref_doc_id,
        class_name=_class_name(node),
        content=node.model_dump_json(exclude=left_out),
        picture=hashlib.sha256(picture).hexdigest() if picture is not None else None,
    )
    return NewNode(row, vector, list(_metadata_rows(node.metadata)), picture, tokens_of(node.get_content()))


def _class_name(node: BaseNode) -> str:
    """Name the class to restore a node as: the nearest of LlamaIndex's own for somebody's subclass."""
    for class_ in type(node).__mro__:
        for name, known in _CLASSES.items():
            if class_ is known:
                return name
    raise TypeError(f"cannot store a {type(node).__name__}: it is none of LlamaIndex's nodes")


def _inline_picture(node: BaseNode) -> bytes | None:
    """Return the bytes of a base64 picture, if these give back the very same text."""
    if not isinstance(node, ImageNode) or not node.image:
        return None
    try:
        data = base64.b64decode(node.image, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode("ascii") == node.image else None


def _metadata_rows(metadata: dict[str, Any]) -> Iterator[MetadataRow]:
    for key, value in metadata.items():
        if isinstance(value, (list, tuple)):
            yield MetadataRow(key, "json", json.dumps(list(value), ensure_ascii=False, default=str))
            yield from (MetadataRow(key, "item", _scalar(item)) for item in value if item is not None)
        elif isinstance(value, dict):
            yield MetadataRow(key, "json", json.dumps(value, ensure_ascii=False, default=str))
        elif value is not None:
            yield MetadataRow(key, "scalar", _scalar(value))


def _scalar(value: Any) -> str | int | float:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        # SQLite's integers have 64 bits; larger ones compare as floats.
        return value if -(2**63) <= value < 2**63 else float(value)
    if isinstance(value, float):
        return value if not math.isnan(value) else "nan"
    return str(value)
