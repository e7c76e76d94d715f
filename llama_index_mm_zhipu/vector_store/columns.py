"""Nodes as columns: arrays of vectors, texts and metadata that are written without making a node of each row."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from llama_index.core.schema import ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from pydantic_core import to_json

from llama_index_mm_zhipu.images.nodes import PAGE_TEXT_SOURCE
from llama_index_mm_zhipu.vector_store.fulltext import TextTerms, terms_of_texts
from llama_index_mm_zhipu.vector_store.metadata_values import MetadataColumn, scalar
from llama_index_mm_zhipu.vector_store.nodes import NewNodes, NodeRow, are_plain, require_unique

_ROWS_AT_ONCE = 1_000

T = TypeVar("T")


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
        ref_doc_ids: Ids of their source documents, if any.
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
        self.ref_doc_ids = _values(ref_doc_ids) if ref_doc_ids is not None else [None] * count
        self._texts = _values(texts) if texts is not None else [""] * count
        self._image_paths = _values(image_paths) if image_paths is not None else None
        self._metadata = {key: _values(column) for key, column in metadata.items()}
        self._other_rows = self._rows_that_need_nodes()
        self._others = NewNodes([self._node(row) for row in self._other_rows], self.vectors.shape[1])
        self._replace_other_rows()

    def rows(self) -> Iterator[NodeRow]:
        """Yield the row of each node."""
        class_name = TextNode.class_name() if self._image_paths is None else ImageNode.class_name()
        rows = map(NodeRow, self.node_ids, self.ref_doc_ids, repeat(class_name), self._contents(), repeat(None))
        return self._with_others(rows, self._others.rows())

    def images(self) -> Iterable[tuple[str, bytes]]:
        """Return nothing: images are paths."""
        return ()

    def metadata(self) -> Iterator[MetadataColumn]:
        """Yield the metadata of all nodes."""
        for key, column in self._metadata.items():
            positions = [row for row, value in enumerate(column) if value is not None]
            yield MetadataColumn(key, "scalar", positions, [scalar(value) for value in column if value is not None])
        rows = list(self._other_rows)
        for key, kind, positions, values in self._others.metadata():
            yield MetadataColumn(key, kind, [rows[position] for position in positions], values)

    def text_terms(self) -> Iterator[TextTerms | None]:
        """Yield the full-text terms of each node; None for a node without text."""
        return self._with_others(terms_of_texts(self._texts), self._others.text_terms())

    def _rows_that_need_nodes(self) -> dict[int, None]:
        """Return the rows that need the checks and conversions of nodes, such as those with dates or lists."""
        if PAGE_TEXT_SOURCE in self._metadata or not _is_utf_8(self._metadata):
            return dict.fromkeys(range(len(self.node_ids)))
        found: set[int] = set()
        for texts in (self.node_ids, self._texts, self._image_paths or []):
            found.update(_rows_without(_is_utf_8, texts))
        for values in (self.ref_doc_ids, *self._metadata.values()):
            found.update(_rows_without(_is_storable, values))
        return dict.fromkeys(sorted(found))

    def _replace_other_rows(self) -> None:
        """Take the ids of other rows from their nodes, and their texts and values out of the columns."""
        for row, node_id, ref_doc_id in zip(
            self._other_rows, self._others.node_ids, self._others.ref_doc_ids, strict=True
        ):
            self.node_ids[row], self.ref_doc_ids[row], self._texts[row] = node_id, ref_doc_id, ""
            if self._image_paths is not None:
                self._image_paths[row] = ""
            for column in self._metadata.values():
                column[row] = None
        if len(self._other_rows) == len(self.node_ids):
            # Perhaps because of a key that cannot be stored.
            self._metadata = {}

    def _with_others(self, own: Iterator[T], others: Iterator[T]) -> Iterator[T]:
        """Yield what belongs to each row, given that of all rows and that of other rows."""
        if not self._other_rows:
            return own
        return (next(others) if row in self._other_rows else each for row, each in enumerate(own))

    def _contents(self) -> Iterator[str]:
        """Yield the compact JSON of each row."""
        for start in range(0, len(self.node_ids), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            metadata = {key: _json_of(column[part]) for key, column in self._metadata.items()}
            fields = {"metadata": _objects(metadata) if metadata else repeat("{}"), "text": _json_of(self._texts[part])}
            if self._image_paths is not None:
                fields["image_path"] = _json_of(self._image_paths[part])
            yield from _objects(fields)

    def _node(self, row: int) -> TextNode:
        ref_doc_id = self.ref_doc_ids[row]
        fields: dict[str, Any] = {
            "id_": self.node_ids[row],
            "text": self._texts[row],
            "metadata": {key: column[row] for key, column in self._metadata.items()},
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


def _rows_without(test: Callable[[Iterable[Any]], bool], column: Sequence[Any]) -> list[int]:
    """Return the rows that do not pass a test that a whole column may pass at once."""
    return [] if test(column) else [row for row, value in enumerate(column) if not test([value])]


def _is_utf_8(texts: Iterable[Any]) -> bool:
    """Return whether these are texts without lone surrogates."""
    try:
        for _ in map(str.encode, texts):
            pass
    except (TypeError, UnicodeEncodeError):
        return False
    return True


def _is_storable(values: Iterable[Any]) -> bool:
    """Return whether JSON changes none of the values, and texts among them are without lone surrogates."""
    return are_plain(values) and _is_utf_8([value for value in values if type(value) is str])


def _json_of(values: list[Any]) -> list[str]:
    """Return the JSON of each value that is no list or mapping."""
    # Within a text, JSON escapes line breaks.
    return to_json(values, indent=1).decode().removeprefix("[\n ").removesuffix("\n]").split(",\n ")


def _objects(columns: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield JSON objects, given the JSON of their values by key."""
    keys = [to_json(key).decode().replace("%", "%%") for key in columns]
    template = f"{{{','.join(f'{key}:%s' for key in keys)}}}"
    return map(template.__mod__, zip(*columns.values(), strict=False))
