"""The layout of a store's SQLite file."""

from __future__ import annotations

from typing import NamedTuple

PAGE_SIZE = 16384
"""Bytes. A vector of 512 dimensions fills half of SQLite's default page, of which the other half would be lost."""


class Setting:
    """Keys of the table of settings that the store itself uses."""

    DIMENSION = "dimension"
    MODEL = "model"
    INDEX_KIND = "index_kind"
    SNAPSHOT = "snapshot"
    FULL_TEXT = "full_text"
    STORE_ID = "store_id"
    COPY = "copy"


class NodeRow(NamedTuple):
    """A node as it is kept.

    Attributes:
        node_id: LlamaIndex's id.
        ref_doc_id: Id of the document that it came from, if any.
        class_name: LlamaIndex's name of the node's class.
        content: The node as JSON, without its vector, and without its picture where ``picture`` is set.
        picture: SHA-256 of the picture's bytes, if it was given inline.
    """

    node_id: str
    ref_doc_id: str | None
    class_name: str
    content: str
    picture: str | None


class MetadataRow(NamedTuple):
    """A metadata value as filters see it.

    Attributes:
        key: Metadata key.
        kind: ``"scalar"``, ``"item"`` of a list, ``"none"`` (the item None), or ``"json"`` (a whole list or mapping).
        value: Text or number; booleans are 0 and 1, as they compare in Python.
    """

    key: str
    kind: str
    value: str | int | float
