"""LlamaIndex nodes that hold an image: their captions and page texts, and image nodes from documents and from images.

An image has a caption, a page text, both, or neither. A caption describes the image, and is averaged into its vector
where all images have one. A page text is what is written in the image; full text search finds it, and no vector
contains it. The text of a node is the caption; for a node without a caption it is the page text. The metadata
``page_text_source`` marks nodes with a page text, and with a caption beside it the page text is in the metadata
``page_text``. Use the functions of this module, which hide these forms.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from llama_index.core.schema import BaseNode, ImageNode, MediaResource, NodeRelationship

from llama_index_mm_zhipu.images.errors import describe
from llama_index_mm_zhipu.images.loading import read_bytes
from llama_index_mm_zhipu.images.sources import ImageSource, resolve_source

NodeT = TypeVar("NodeT", bound=BaseNode)

PAGE_TEXT = "page_text"
"""Metadata key of the page text of an image that also has a caption."""

PAGE_TEXT_SOURCE = "page_text_source"
"""Metadata key of where the page text of an image comes from, such as ``"text_layer"`` or ``"ocr"``."""

PAGE_TEXT_LINES = "page_text_lines"
"""Metadata key of the lines that OCR found, see ``with_page_text``."""


def caption_of(node: BaseNode) -> str:
    """Return the caption of an image node; empty if it has none."""
    return "" if _has_page_text_as_text(node) else _text_of(node)


def page_text_of(node: BaseNode) -> str:
    """Return what is written in an image, from a text layer or from OCR; empty if that is not known or nothing."""
    if PAGE_TEXT_SOURCE not in node.metadata:
        return ""
    return str(node.metadata[PAGE_TEXT]).strip() if PAGE_TEXT in node.metadata else _text_of(node)


def searchable_text_of(node: BaseNode) -> str:
    """Return what full text search looks at: caption and page text of an image, or the text of a text node."""
    text = node.get_content()
    has_both = PAGE_TEXT_SOURCE in node.metadata and PAGE_TEXT in node.metadata
    return f"{text}\n{node.metadata[PAGE_TEXT]}" if has_both else text


def with_caption(node: NodeT, caption: str) -> NodeT:
    """Return a copy of an image node with a caption, which keeps its page text; the given node is not changed."""
    return _with_texts(node, caption, page_text_of(node), node.metadata.get(PAGE_TEXT_SOURCE))


def with_page_text(node: NodeT, page_text: str, source: str, lines: Sequence[Mapping[str, Any]] | None = None) -> NodeT:
    """Return a copy of an image node with a page text, which keeps its caption; the given node is not changed.

    Args:
        node: The image node.
        page_text: What is written in the image; empty removes the page text that the node had.
        source: Where the text comes from, such as ``"text_layer"`` or ``"ocr"``.
        lines: Lines with ``text``, ``box`` (left, top, right, bottom as fractions of the image) and ``score`` (0 to 1).
            They become metadata that neither LLM nor embedding model sees.
    """
    node = _with_texts(_without(node, PAGE_TEXT_LINES), caption_of(node), page_text.strip(), source)
    return with_hidden_metadata(node, {PAGE_TEXT_LINES: [dict(line) for line in lines]}) if lines else node


def with_hidden_metadata(node: NodeT, hidden: Mapping[str, Any]) -> NodeT:
    """Return a copy of a node with further metadata, which neither LLM nor embedding model sees."""
    return node.model_copy(
        update={
            "metadata": {**node.metadata, **hidden},
            "excluded_llm_metadata_keys": list(dict.fromkeys([*node.excluded_llm_metadata_keys, *hidden])),
            "excluded_embed_metadata_keys": list(dict.fromkeys([*node.excluded_embed_metadata_keys, *hidden])),
        }
    )


def without_hidden_metadata(node: NodeT, key: str) -> NodeT:
    """Return a copy of a node as it was before ``with_hidden_metadata``; the node itself if it lacks the key."""
    if key not in node.metadata:
        return node
    return _without(node, key).model_copy(
        update={
            "excluded_llm_metadata_keys": [each for each in node.excluded_llm_metadata_keys if each != key],
            "excluded_embed_metadata_keys": [each for each in node.excluded_embed_metadata_keys if each != key],
        }
    )


def as_image_node(node: BaseNode) -> ImageNode:
    """Return an ``ImageNode`` for a node with an image resource, such as an ``ImageDocument``.

    LlamaIndex's query engines only treat nodes of this class as images.
    """
    if isinstance(node, ImageNode):
        return node
    resource = node.image_resource  # type: ignore[attr-defined]
    source = {} if node.source_node else {NodeRelationship.SOURCE: node.as_related_node_info()}
    return ImageNode(
        id_=node.node_id,
        text=_text_of(node),
        image=resource.data.decode("ascii") if resource.data else None,
        image_path=str(resource.path) if resource.path else None,
        image_url=str(resource.url) if resource.url else None,
        image_mimetype=resource.mimetype,
        embedding=node.embedding,
        metadata=node.metadata,
        excluded_embed_metadata_keys=node.excluded_embed_metadata_keys,
        excluded_llm_metadata_keys=node.excluded_llm_metadata_keys,
        relationships={**node.relationships, **source},
    )


def node_of_image(image: ImageSource) -> ImageNode:
    """Return a node for an image in any form; its id is the file name, the URL or a description of the image.

    Raises:
        ImageError: The source is not an image, or it cannot be read.
    """
    source = resolve_source(image)
    if isinstance(source, Path):
        return ImageNode(id_=source.name, image_path=str(source))
    if isinstance(source, str):
        return ImageNode(id_=describe(source), image_url=source)
    return ImageNode(id_=describe(source), image=b64encode(read_bytes(source)).decode("ascii"))


def _text_of(node: BaseNode) -> str:
    """Return the text of a node of any class without metadata; empty if there is none."""
    resource = getattr(node, "text_resource", None)
    text = getattr(node, "text", None) or getattr(resource, "text", None) or ""
    return str(text).strip()


def _has_page_text_as_text(node: BaseNode) -> bool:
    return PAGE_TEXT_SOURCE in node.metadata and PAGE_TEXT not in node.metadata


def _with_texts(node: NodeT, caption: str, page_text: str, source: str | None) -> NodeT:
    """Return a copy of a node with a caption and a page text; either may be empty."""
    hidden: dict[str, Any] = {}
    if page_text:
        hidden[PAGE_TEXT_SOURCE] = source
        if caption:
            hidden[PAGE_TEXT] = page_text
    text = caption or page_text
    content = {"text": text} if isinstance(node, ImageNode) else {"text_resource": MediaResource(text=text)}
    node = _without(node, PAGE_TEXT_SOURCE, PAGE_TEXT).model_copy(update=content)
    return with_hidden_metadata(node, hidden) if hidden else node


def _without(node: NodeT, *keys: str) -> NodeT:
    """Return a copy of a node without some metadata."""
    return node.model_copy(update={"metadata": {key: node.metadata[key] for key in node.metadata if key not in keys}})
