"""Nodes as columns: arrays of vectors, texts and metadata that are written without making a node of each row."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_index.core.schema import ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from pydantic_core import to_json

from llama_index_mm_zhipu.images.nodes import PAGE_TEXT_SOURCE
from llama_index_mm_zhipu.vector_store.fulltext import TextTerms, terms_of
from llama_index_mm_zhipu.vector_store.nodes import (
    MetadataRow,
    NewNodes,
    NodeRow,
    has_plain_values,
    metadata_rows,
    require_unique,
)


class NewColumns:
    """Nodes that are given as columns, were checked, and can be inserted; a ``NewRows``.

    Args:
        vectors: Shape ``(n, dimension)``.
        node_ids: Ids of the nodes; None for new ones.
        texts: Texts of the nodes; None for nodes without text.
        image_paths: Paths of images, which make the nodes image nodes; None for text nodes.
        ref_doc_ids: Ids of the documents that the nodes come from; None for nodes without a source.
        metadata: Columns of values by metadata key; None stands for no value.
        dimension: Dimension of the store's vectors; None for an empty store.

    Attributes:
        node_ids: Ids of the nodes.
        vectors: Shape ``(n, dimension)``.

    Raises:
        ValueError: A column has another length than ``vectors``, an id is given twice, a vector has another dimension
            or holds NaN, or a value cannot be stored as JSON.
    """

    def __init__(
        self,
        vectors: npt.ArrayLike,
        *,
        node_ids: Sequence[str] | None,
        texts: Sequence[str] | None,
        image_paths: Sequence[str] | None,
        ref_doc_ids: Sequence[str] | None,
        metadata: Mapping[str, Sequence[Any]],
        dimension: int | None,
    ) -> None:
        self.vectors = _checked(vectors, dimension)
        count = len(self.vectors)
        for name, column in (
            ("node_ids", node_ids),
            ("texts", texts),
            ("image_paths", image_paths),
            ("ref_doc_ids", ref_doc_ids),
            *((f"metadata[{key!r}]", values) for key, values in metadata.items()),
        ):
            if column is not None and len(column) != count:
                raise ValueError(f"{name} has {len(column):,} values for {count:,} vectors; nothing was added")
        self.node_ids = _new_ids(count) if node_ids is None else _values(node_ids)
        require_unique(self.node_ids)
        self._texts = _values(texts) if texts is not None else [""] * count
        self._image_paths = _values(image_paths) if image_paths is not None else None
        self._ref_doc_ids = _values(ref_doc_ids) if ref_doc_ids is not None else [None] * count
        self._metadata = _rows_of_metadata(metadata, count)
        self._as_nodes = self._nodes_of_other_rows()
        for row, nodes in self._as_nodes.items():
            (self.node_ids[row],) = nodes.node_ids

    def rows(self) -> Iterator[NodeRow]:
        """Yield the row of each node."""
        class_name = TextNode.class_name() if self._image_paths is None else ImageNode.class_name()
        for row, (node_id, ref_doc_id, text, metadata) in enumerate(
            zip(self.node_ids, self._ref_doc_ids, self._texts, self._metadata, strict=True)
        ):
            if row in self._as_nodes:
                yield from self._as_nodes[row].rows()
                continue
            fields = {"metadata": metadata, "text": text}
            if self._image_paths is not None:
                fields["image_path"] = self._image_paths[row]
            yield NodeRow(node_id, ref_doc_id, class_name, to_json(fields).decode(), None)

    def images(self) -> Iterable[tuple[str, bytes]]:
        """Return nothing: images are paths."""
        return ()

    def metadata(self) -> Iterator[Iterable[MetadataRow]]:
        """Yield the metadata rows of each node."""
        for row, metadata in enumerate(self._metadata):
            if row in self._as_nodes:
                yield from self._as_nodes[row].metadata()
            else:
                yield metadata_rows(metadata)

    def text_terms(self) -> Iterator[TextTerms | None]:
        """Yield the full-text terms of each node; None for a node without text."""
        for row, text in enumerate(self._texts):
            if row in self._as_nodes:
                yield from self._as_nodes[row].text_terms()
            else:
                yield terms_of(text)

    def _nodes_of_other_rows(self) -> dict[int, NewNodes]:
        """Return the rows that need the checks and conversions of nodes, such as those with dates or lists."""
        return {
            row: NewNodes([self._node(row)], self.vectors.shape[1])
            for row, metadata in enumerate(self._metadata)
            if not (has_plain_values(metadata) and PAGE_TEXT_SOURCE not in metadata and self._is_utf_8(row))
        }

    def _is_utf_8(self, row: int) -> bool:
        """Return whether ids, texts and metadata of a row are texts that can be stored as they are."""
        metadata = self._metadata[row]
        texts = [self.node_ids[row], self._texts[row], *metadata, *(v for v in metadata.values() if type(v) is str)]
        if self._image_paths is not None:
            texts.append(self._image_paths[row])
        if self._ref_doc_ids[row] is not None:
            texts.append(self._ref_doc_ids[row])
        return _is_utf_8(texts)

    def _node(self, row: int) -> TextNode:
        ref_doc_id = self._ref_doc_ids[row]
        fields: dict[str, Any] = {
            "id_": self.node_ids[row],
            "text": self._texts[row],
            "metadata": self._metadata[row],
            "embedding": self.vectors[row].tolist(),
            "relationships": {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=ref_doc_id)} if ref_doc_id else {},
        }
        if self._image_paths is None:
            return TextNode(**fields)
        return ImageNode(**fields, image_path=self._image_paths[row])


def _checked(given: npt.ArrayLike, dimension: int | None) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(given, dtype=np.float32)
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise ValueError(f"vectors must have the shape (n, dimension), got {vectors.shape}; nothing was added")
    if vectors.shape[1] != (dimension or vectors.shape[1]):
        raise ValueError(
            f"the vectors have dimension {vectors.shape[1]}, the store's have {dimension}; "
            "use the model that the store was filled with, nothing was added"
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise ValueError(f"the vector in row {int(np.argmin(finite))} holds NaN or infinity; nothing was added")
    return vectors


def _values(column: Sequence[Any]) -> list[Any]:
    """Return a column as a list of Python's values, also that of an array of numpy or a series of pandas."""
    if isinstance(column, str):
        raise TypeError(f"a column must be a sequence of values, not the text {column!r:.40}")
    return column.tolist() if hasattr(column, "tolist") else list(column)


def _new_ids(count: int) -> list[str]:
    random = os.urandom(16 * count)
    return [str(uuid.UUID(bytes=random[start : start + 16], version=4)) for start in range(0, len(random), 16)]


def _rows_of_metadata(metadata: Mapping[str, Sequence[Any]], count: int) -> list[dict[str, Any]]:
    keys, columns = list(metadata), [_values(column) for column in metadata.values()]
    if not columns:
        return [{}] * count
    return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]


def _is_utf_8(texts: Iterable[Any]) -> bool:
    """Return whether these are texts without lone surrogates."""
    try:
        "".join(texts).encode()
    except (TypeError, UnicodeEncodeError):
        return False
    return True
