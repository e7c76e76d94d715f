"""Compact JSON of nodes: without values that nearly all nodes share, and without what their rows hold in columns.

Half of a node's JSON is LlamaIndex's defaults, the node's id, and the relationship to its source. They are left out
when a node is written, and put back when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Any

from llama_index.core.schema import BaseNode, NodeRelationship, RelatedNodeInfo

_SOURCE = "1"
"""Value of ``NodeRelationship.SOURCE``."""

_OF_EVERY_CLASS: dict[str, Any] = {
    "metadata": {},
    "excluded_embed_metadata_keys": [],
    "excluded_llm_metadata_keys": [],
    "metadata_template": "{key}: {value}",
    "metadata_separator": "\n",
    "text_template": "{metadata_str}\n\n{content}",
}
_OF_TEXTS: dict[str, Any] = {
    **_OF_EVERY_CLASS,
    "text": "",
    "mimetype": "text/plain",
    "start_char_idx": None,
    "end_char_idx": None,
}
_OF_IMAGES = {**_OF_TEXTS, "image_path": None, "image_url": None, "image_mimetype": None, "text_embedding": None}
_OF_RESOURCES = {
    **_OF_EVERY_CLASS,
    "text_resource": None,
    "image_resource": None,
    "audio_resource": None,
    "video_resource": None,
}

_OMITTED: dict[str, dict[str, Any]] = {
    "TextNode": _OF_TEXTS,
    "ImageNode": _OF_IMAGES,
    "IndexNode": _OF_TEXTS,
    "Node": _OF_RESOURCES,
    "Document": _OF_RESOURCES,
    "ImageDocument": _OF_RESOURCES,
}
"""The values that are left out, by class and field.

These are the defaults of llama-index-core 0.14, but they belong to the format of the file: a missing field stands for
the value here, whatever the defaults of the installed version. Never change an entry; a field without one is written.
"""


def compact_json(node: BaseNode, class_name: str, exclude: Set[str]) -> str:
    """Return a node as compact JSON.

    Args:
        node: The node.
        class_name: LlamaIndex's name of the class that it is restored as.
        exclude: Further fields to leave out.

    Raises:
        ValueError: The node cannot be written as JSON, or an id that is left out or a metadata key has a
            lone surrogate.
    """
    # Pydantic writes others for a lone surrogate in a key, and raises no error.
    for text in (node.node_id, node.ref_doc_id or "", *node.metadata):
        str(text).encode()
    omitted = {name for name, value in _OMITTED[class_name].items() if getattr(node, name) == value}
    omitted.update(exclude, ("id_",))
    if _follows_from_source(node):
        omitted.add("relationships")
    content = node.model_dump_json(exclude=omitted)
    # LlamaIndex adds the class to all JSON. A text cannot end like this, because it would escape the quotation marks.
    own_class = f',"class_name":"{node.class_name()}"}}'
    return f"{content.removesuffix(own_class)}}}" if content.endswith(own_class) else content


def compact_json_of(content: str, class_name: str, ref_doc_id: str | None) -> str:
    """Return the compact JSON of a node.

    Args:
        content: The node's whole JSON, as earlier versions of this package stored it.
        class_name: LlamaIndex's name of the node's class.
        ref_doc_id: Id of the source document, if any.
    """
    omitted = {**_OMITTED[class_name], "relationships": _relationships_to(ref_doc_id, class_name="RelatedNodeInfo")}
    fields = {
        name: value
        for name, value in json.loads(content).items()
        if name not in ("id_", "class_name") and not (name in omitted and value == omitted[name])
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def fields_of(content: str, class_name: str, node_id: str, ref_doc_id: str | None) -> dict[str, Any]:
    """Return the fields of a node.

    Args:
        content: The node's JSON, compact or whole.
        class_name: LlamaIndex's name of the node's class.
        node_id: LlamaIndex's id.
        ref_doc_id: Id of the source document, if any.
    """
    stored: dict[str, Any] = json.loads(content)
    return {
        "id_": node_id,
        "relationships": _relationships_to(ref_doc_id),
        **_OMITTED[class_name],
        **stored,
    }


def _follows_from_source(node: BaseNode) -> bool:
    """Return whether the relationships of a node are none but its source, of which only the id is known."""
    relationships = node.relationships
    if len(relationships) != 1:
        return not relationships and node.ref_doc_id is None
    source = relationships.get(NodeRelationship.SOURCE)
    return (
        type(source) is RelatedNodeInfo
        and source.node_id == node.ref_doc_id
        and source.node_type is None
        and not source.metadata
        and source.hash is None
    )


def _relationships_to(ref_doc_id: str | None, **more: Any) -> dict[str, Any]:
    if ref_doc_id is None:
        return {}
    source = {"node_id": ref_doc_id, "node_type": None, "metadata": {}, "hash": None, **more}
    return {_SOURCE: source}
