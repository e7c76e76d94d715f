"""Vectors for LlamaIndex nodes: an image and its caption to one vector, a text to another."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import BaseNode, MetadataMode, TextNode
from llama_index.core.utils import iter_batch
from tqdm.auto import tqdm

from llama_index_mm_zhipu.embedding.chinese_clip.vectors import Vector
from llama_index_mm_zhipu.embedding.contract import unit, unit_embedding
from llama_index_mm_zhipu.images import (
    ImageError,
    caption_of,
    encode_image,
    has_image,
    load_image,
    read_bytes,
    resolve_source,
)
from llama_index_mm_zhipu.text import looks_binary, one_line
from llama_index_mm_zhipu.types import OnError

Outcome: TypeAlias = "Vector | ImageError"

# Captions are embedded together, ahead of their images: enough for batches of like lengths.
_CAPTIONS_AHEAD = 256
_LISTED_FAILURES = 20


def embed_nodes(
    model: MultiModalEmbedding,
    nodes: Sequence[BaseNode],
    *,
    caption_weight: float,
    on_error: OnError = "raise",
    show_progress: bool = False,
) -> tuple[list[Embedding | None], list[tuple[str, str]]]:
    """Embed images as images and texts as texts, in the order given.

    Args:
        model: Embeds both images and texts.
        nodes: Image nodes (``ImageNode``, ``ImageDocument``, ``Node`` with an image) and text nodes.
        caption_weight: Share of the caption in a captioned image's vector; see ``stream_image_nodes``.
        on_error: ``"raise"`` at the first image that cannot be read, or ``"skip"`` such images.
        show_progress: Show a progress bar.

    Returns:
        An embedding for each node, None for an image that was skipped; and node id and reason of each of these.

    Raises:
        TypeError: A node is neither an image nor a text.
        ImageError: An image cannot be read.
    """
    images = [row for row, node in enumerate(nodes) if has_image(node)]
    texts = [row for row, node in enumerate(nodes) if not has_image(node)]
    _require_content([nodes[row] for row in texts])
    _require_texts([nodes[row] for row in texts])
    embeddings: list[Embedding | None] = [None] * len(nodes)
    failures: list[tuple[str, str]] = []
    outcomes = stream_image_nodes(model, [nodes[row] for row in images], caption_weight)
    with closing(outcomes), image_bar(len(images), show_progress) as bar:
        for row, (node, outcome) in zip(images, outcomes, strict=True):
            if not isinstance(outcome, ImageError):
                embeddings[row] = outcome.tolist()
            elif on_error == "raise":
                raise failure_of(node, outcome)
            else:
                failures.append((one_line(node.node_id), str(outcome)))
            bar.update()
    for row, vector in zip(texts, embed_text_nodes(model, [nodes[row] for row in texts], show_progress), strict=True):
        embeddings[row] = vector
    return embeddings, failures


def stream_image_nodes(
    model: MultiModalEmbedding, nodes: Sequence[BaseNode], caption_weight: float
) -> Generator[tuple[BaseNode, Outcome], None, None]:
    """Embed image nodes batch after batch, in order.

    A captioned image becomes ``(1 - caption_weight) * image + caption_weight * caption``, both of unit length. The
    mean is not brought back to unit length: its score is the weighted mean of the two cosines.

    Args:
        model: Embeds images and texts.
        nodes: Image nodes.
        caption_weight: Share of the caption, 0 to 1.

    Yields:
        Each node in order with its vector, or with the ``ImageError`` that its image caused.
    """
    images = _stream_images(model, nodes)
    with closing(images):
        for batch in iter_batch(nodes, _CAPTIONS_AHEAD):
            captions = _caption_vectors(model, batch) if caption_weight else {}
            for row, node in enumerate(batch):
                image = next(images)
                if not isinstance(image, ImageError):
                    image = unit(image)
                if row in captions and not isinstance(image, ImageError):
                    image = (1 - caption_weight) * image + caption_weight * captions[row]
                yield node, image


def embed_text_nodes(model: BaseEmbedding, nodes: Sequence[BaseNode], show_progress: bool = False) -> list[Embedding]:
    """Embed texts, with the metadata that LlamaIndex shows to embedding models, as vectors of unit length.

    Raises:
        ValueError: A text is the bytes of a binary file; nothing is embedded.
    """
    _require_texts(nodes)
    texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
    embeddings = model.get_text_embedding_batch(texts, show_progress=show_progress) if texts else []
    return list(map(unit_embedding, embeddings))


def image_bar(total: int | None, show_progress: bool) -> tqdm[None]:
    """Return the progress bar of embedding images; None is for a number that is not known beforehand."""
    disable = not show_progress or total == 0
    return tqdm(total=total, desc="Embedding images", unit="image", disable=disable)


def failure_of(node: BaseNode, error: ImageError) -> ImageError:
    """Say of which node an image cannot be read."""
    return ImageError(f"node {one_line(node.node_id)}: {error}")


def list_failures(failures: Sequence[tuple[str, str]], total: int) -> str:
    """Say which images were skipped, and why: the first of them, and how many there are."""
    listed = [f"{name}: {reason}" for name, reason in failures[:_LISTED_FAILURES]]
    more = [f"and {len(failures) - len(listed)} more"] if len(failures) > len(listed) else []
    return f"skipped {len(failures)} of {total} images: " + "; ".join([*listed, *more])


def _require_content(texts: Sequence[BaseNode]) -> None:
    for node in texts:
        if not isinstance(node, TextNode) and not caption_of(node):
            raise TypeError(
                f"node {one_line(node.node_id)} ({type(node).__name__}) holds neither an image nor a text; "
                "ChineseClipEmbedding embeds only these, filter it out before"
            )


def _require_texts(nodes: Sequence[BaseNode]) -> None:
    for node in nodes:
        if looks_binary(node.get_content(metadata_mode=MetadataMode.NONE)):
            name = one_line(str(node.metadata.get("file_name") or node.node_id))
            raise ValueError(
                f"a text of {name} is the bytes of a binary file: give the documents of SimpleDirectoryReader to "
                "build_index as they are, which makes images of those of image files, or read images with read_folder"
            )


def _caption_vectors(model: MultiModalEmbedding, nodes: Sequence[BaseNode]) -> dict[int, Vector]:
    captioned = [row for row, node in enumerate(nodes) if caption_of(node)]
    if not captioned:
        return {}
    vectors = model.get_text_embedding_batch([caption_of(nodes[row]) for row in captioned])
    return dict(zip(captioned, unit(np.asarray(vectors, dtype=np.float32)), strict=True))


def _stream_images(model: MultiModalEmbedding, nodes: Sequence[BaseNode]) -> Generator[Outcome, None, None]:
    stream = getattr(model, "stream_image_embeddings", None)
    yield from stream(nodes) if stream else _of_other_model(model, nodes)


def _of_other_model(model: MultiModalEmbedding, nodes: Sequence[BaseNode]) -> Generator[Outcome, None, None]:
    """Embed with a model that raises errors of its own for a bad image: it gets only those that can be read."""
    for batch in iter_batch(nodes, model.embed_batch_size):
        arguments = [_argument_or_error(node) for node in batch]
        readable = [argument for argument in arguments if not isinstance(argument, ImageError)]
        vectors = iter(np.asarray(model.get_image_embedding_batch(readable), dtype=np.float32) if readable else ())
        yield from (argument if isinstance(argument, ImageError) else next(vectors) for argument in arguments)


def _argument_or_error(node: BaseNode) -> str | BytesIO | ImageError:
    """Give an image in one of the two forms that every ``MultiModalEmbedding`` takes."""
    try:
        load_image(node)
        source = resolve_source(node)
        if isinstance(source, Path):
            return str(source)
        return BytesIO(encode_image(source, "PNG") if not isinstance(source, (bytes, str)) else read_bytes(source))
    except ImageError as error:
        return error
