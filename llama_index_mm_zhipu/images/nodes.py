"""LlamaIndex nodes that hold an image: their captions, and image nodes from documents and from images."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from llama_index.core.schema import BaseNode, ImageNode, MediaResource, NodeRelationship

from llama_index_mm_zhipu.images.errors import describe
from llama_index_mm_zhipu.images.loading import read_bytes
from llama_index_mm_zhipu.images.sources import ImageSource, resolve_source


def caption_of(node: BaseNode) -> str:
    """Return the caption of an image node, which is its text without metadata; empty if there is none."""
    resource = getattr(node, "text_resource", None)
    text = getattr(node, "text", None) or getattr(resource, "text", None) or ""
    return str(text).strip()


def with_caption(node: BaseNode, caption: str) -> BaseNode:
    """Return a copy of an image node with a caption; the given node is not changed."""
    if isinstance(node, ImageNode):
        return node.model_copy(update={"text": caption})
    return node.model_copy(update={"text_resource": MediaResource(text=caption)})


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
        text=caption_of(node),
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
