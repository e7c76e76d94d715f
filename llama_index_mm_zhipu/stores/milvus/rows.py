"""Nodes as rows of a Milvus collection, which a plain ``MilvusVectorStore`` reads as well.

The text is in a field of its own, as LlamaIndex writes it. Everything else but the vector is in dynamic fields, which
Milvus stores as one JSON object of limited size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from llama_index.core.schema import Node

from llama_index_mm_zhipu.stores.backend import too_large, unsupported
from llama_index_mm_zhipu.stores.filterable import plain_key
from llama_index_mm_zhipu.stores.milvus.filters import ID, filter_fields
from llama_index_mm_zhipu.stores.records import Record, StoredNode
from llama_index_mm_zhipu.text import one_line

Row: TypeAlias = dict[str, Any]

MAX_DYNAMIC_BYTES = 65_536
"""Maximum size of the dynamic fields of a row as JSON in UTF-8. The server refuses more, Milvus Lite does not."""

CONTENT, TYPE, ORDER, LENGTH = "_node_content", "_node_type", "mm_order", "mm_length"
"""Dynamic fields. LlamaIndex names the first two. The last is the length of the vector, for ``COSINE``."""

_SHOWN_ID = 100


@dataclass(frozen=True)
class RowFormat:
    """The fields of a collection.

    Attributes:
        store: Name of the store in errors.
        vector: Name of the field with the vector.
        text: Name of the field with the text.
        document: Name of the field with the id of the document.
        max_bytes: Maximum size in UTF-8 of each field with text, by name.
    """

    store: str
    vector: str
    text: str
    document: str
    max_bytes: Mapping[str, int]

    @property
    def fields(self) -> list[str]:
        """The fields that ``stored_node`` needs."""
        return [ID, self.text, CONTENT, TYPE, ORDER]

    def row(self, record: Record) -> Row:
        """Return the row of a record.

        Raises:
            ValueError: The row is too large.
        """
        content = json.loads(record.content)
        text = _taken_text(record.class_name, content)
        dynamic = {
            CONTENT: _json_of(content),
            TYPE: record.class_name,
            # The server returns numbers of dynamic fields as floats, which are too short for this one.
            ORDER: str(record.order),
            LENGTH: float(np.linalg.norm(record.vector)),
            **{setting_field(key): _json_of(value) for key, value in record.settings.items()},
            **filter_fields(record.rows),
        }
        own = {ID: record.key, self.document: record.ref_doc_id, self.text: text}
        self._require_size(record.node_id, own, dynamic)
        return {**own, **dynamic, self.vector: record.vector}

    def stored_node(self, row: Row) -> StoredNode:
        """Return the node of a row; with its vector if the row has it.

        Raises:
            ValueError: ``row`` did not make the row.
        """
        order = int(self.own_value(row, ORDER))
        content, vector = row[CONTENT], row.get(self.vector)
        if row[TYPE] != Node.class_name():
            content = _json_of({"text": row[self.text], **json.loads(content)})
        vector = None if vector is None else np.asarray(vector, np.float32)
        return StoredNode(row[ID], row[ID], row[TYPE], content, order, vector)

    def own_value(self, row: Row, field: str) -> Any:
        """Return the value of a dynamic field that each row of ``row`` has.

        Raises:
            ValueError: ``row`` did not make the row.
        """
        if field not in row:
            what = f"find nodes that MilvusVectorStore itself added, such as {one_line(str(row.get(ID)))}"
            raise unsupported(self.store, what, "delete them, or build the index again in another collection")
        return row[field]

    def _require_size(self, node_id: str, own: Mapping[str, str], dynamic: Mapping[str, Any]) -> None:
        node = node_id if len(node_id) <= _SHOWN_ID else f"{node_id[:_SHOWN_ID]}…"
        size = len(_json_of(dynamic).encode())
        if size > MAX_DYNAMIC_BYTES:
            raise too_large(self.store, node, "", size, MAX_DYNAMIC_BYTES)
        for field, value in own.items():
            if (size := len(value.encode())) > self.max_bytes[field]:
                raise too_large(self.store, node, f" for its {field}", size, self.max_bytes[field])


def setting_field(key: str) -> str:
    """Return the name of the dynamic field that holds a setting as JSON."""
    return f"mm_setting_{plain_key(key)}"


def _taken_text(class_name: str, content: Row) -> str:
    """Return the text of a node, and take it out of the node's JSON if ``stored_node`` can put it back."""
    if class_name != Node.class_name():
        return content.pop("text") if isinstance(content.get("text"), str) else ""
    return (content.get("text_resource") or {}).get("text") or ""


def _json_of(value: Any) -> str:
    # pymilvus writes dynamic fields without spaces, and never longer than this.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
