"""Vectors for LlamaIndex nodes: a picture and its caption to one vector, a text to another."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import BaseNode, MetadataMode, TextNode

from llama_index_mm_zhipu.images import ImageError, encode_image, has_image, image_source, load_image, read_bytes


def caption_of(node: BaseNode) -> str:
    """Return the text of a picture node, without its metadata; empty where there is none."""
    resource = getattr(node, "text_resource", None)
    text = getattr(node, "text", None) or getattr(resource, "text", None) or ""
    return str(text).strip()


def embed_nodes(
    model: MultiModalEmbedding,
    nodes: Sequence[BaseNode],
    *,
    caption_weight: float,
    show_progress: bool = False,
) -> list[Embedding]:
    """Embed pictures as pictures and texts as texts, in the order given.

    Args:
        model: Embeds both pictures and texts.
        nodes: Picture nodes (``ImageNode``, ``ImageDocument``, ``Node`` with a picture) and text nodes.
        caption_weight: Share of the caption in a captioned picture's vector; see ``embed_image_nodes``.
        show_progress: Show a progress bar.

    Raises:
        TypeError: A node is neither a picture nor a text.
        ImageError: A picture cannot be read.
    """
    pictures = [node for node in nodes if has_image(node)]
    texts = [node for node in nodes if not has_image(node)]
    for node in texts:
        if not isinstance(node, TextNode) and not caption_of(node):
            raise TypeError(
                f"node {node.node_id} ({type(node).__name__}) holds neither a picture nor a text; "
                "ChineseClipEmbedding embeds only these, filter it out before"
            )
    vectors = {
        **_by_id(pictures, embed_image_nodes(model, pictures, caption_weight, show_progress)),
        **_by_id(texts, embed_text_nodes(model, texts, show_progress)),
    }
    return [vectors[node.node_id] for node in nodes]


def embed_image_nodes(
    model: MultiModalEmbedding, nodes: Sequence[BaseNode], caption_weight: float, show_progress: bool = False
) -> list[Embedding]:
    """Embed pictures, a captioned one as ``(1 - caption_weight) * picture + caption_weight * caption``.

    The mean is not brought back to unit length: its score is the weighted mean of the two cosines.

    Raises:
        ImageError: A picture cannot be read; the message names its node.
    """
    if not nodes:
        return []
    try:
        pictures = [_image_argument(node) for node in nodes]
        vectors = np.asarray(model.get_image_embedding_batch(pictures, show_progress=show_progress))
    except ImageError:
        _raise_for_first_unreadable(nodes)
        raise
    captioned = [row for row, node in enumerate(nodes) if caption_of(node)]
    if caption_weight and captioned:
        captions = np.asarray(model.get_text_embedding_batch([caption_of(nodes[row]) for row in captioned]))
        vectors[captioned] = (1 - caption_weight) * vectors[captioned] + caption_weight * captions
    embeddings: list[Embedding] = vectors.tolist()
    return embeddings


def embed_text_nodes(model: BaseEmbedding, nodes: Sequence[BaseNode], show_progress: bool = False) -> list[Embedding]:
    """Embed texts with the metadata that LlamaIndex shows to embedding models."""
    texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
    return model.get_text_embedding_batch(texts, show_progress=show_progress) if texts else []


def _raise_for_first_unreadable(nodes: Sequence[BaseNode]) -> None:
    for node in nodes:
        try:
            load_image(node)
        except ImageError as error:
            raise ImageError(f"node {node.node_id}: {error}") from None


def _by_id(nodes: Sequence[BaseNode], vectors: Sequence[Embedding]) -> dict[str, Embedding]:
    return {node.node_id: vector for node, vector in zip(nodes, vectors, strict=True)}


def _image_argument(node: BaseNode) -> str | BytesIO:
    """Give a picture in one of the two forms that every ``MultiModalEmbedding`` takes."""
    source = image_source(node)
    if isinstance(source, Path):
        return str(source)
    return BytesIO(encode_image(source, "PNG") if not isinstance(source, (bytes, str)) else read_bytes(source))
