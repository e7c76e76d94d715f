"""Embeddings of LlamaIndex nodes: one vector for an image and its caption, one for a text."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeAlias, overload

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import BaseNode, MetadataMode, TextNode
from llama_index.core.utils import iter_batch
from tqdm.auto import tqdm

from llama_index_mm_zhipu.arguments import in_range, require_choice
from llama_index_mm_zhipu.embedding.contract import (
    EmbedsImagesWithText,
    ImageArgument,
    Vector,
    caption_to_embed,
    default_caption_weight_of,
    fingerprint_of,
    for_long_texts,
    image_argument,
    stream_image_embeddings,
    unit,
    unit_embedding,
)
from llama_index_mm_zhipu.images import ImageError, caption_of, has_image
from llama_index_mm_zhipu.reporting import Skipped
from llama_index_mm_zhipu.text import looks_binary, one_line
from llama_index_mm_zhipu.types import OnError

logger = logging.getLogger(__name__)

Outcome: TypeAlias = "Vector | ImageError"
"""What embedding an image gives: its vector, or the error that reading it caused."""

# Captions are embedded ahead of their images: enough at a time for batches of texts of similar length.
_CAPTIONS_AHEAD = 256


@dataclass(frozen=True)
class EmbeddedNodes(Sequence[BaseNode]):
    """Nodes with their embeddings, ready to be inserted into an index, also on another machine.

    A sequence of ``nodes``; it can be pickled.

    Attributes:
        nodes: Copies of the given nodes, in order, with ``embedding`` set; skipped images are left out.
        caption_weight: Share of the captions in the vectors of images, 0 to 1; None if there are no images.
        fingerprint: The embedding model, as a store records it.
        skipped: The images that could not be read, by node id.

    Examples:
        >>> embedded = embed_nodes(nodes, embed_model, caption_weight=0)
        >>> [node.text for node in embedded][:3], embedded.skipped.count
        (['红苹果', '汽车', '猫'], 0)
    """

    nodes: list[BaseNode]
    caption_weight: float | None
    fingerprint: str
    skipped: Skipped

    def __len__(self) -> int:
        return len(self.nodes)

    @overload
    def __getitem__(self, index: int) -> BaseNode: ...

    @overload
    def __getitem__(self, index: slice) -> list[BaseNode]: ...

    def __getitem__(self, index: int | slice) -> BaseNode | list[BaseNode]:
        return self.nodes[index]


def as_nodes(given: object) -> Sequence[BaseNode]:
    """Return a list of nodes as it is.

    Raises:
        TypeError: It is not a list, or holds something that is not a node.
    """
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise TypeError(f"expected a list of nodes, not an object of type {type(given).__name__}")
    if strangers := [item for item in given if not isinstance(item, BaseNode)]:
        raise TypeError(
            f"expected nodes, and the list holds an object of type {type(strangers[0]).__name__}; read_nodes makes "
            "nodes of folders, images and documents"
        )
    return given


def embed_nodes(
    nodes: Sequence[BaseNode],
    embed_model: MultiModalEmbedding,
    *,
    caption_weight: float | None = None,
    on_error: OnError = "raise",
    show_progress: bool = False,
) -> EmbeddedNodes:
    """Embed images and texts as an index does, without an index.

    All vectors are held in memory, and an interruption loses them: embed large collections some thousand nodes at a
    time.

    Args:
        nodes: Image nodes (``ImageNode``, ``ImageDocument``, ``Node`` with an image) and text nodes. Documents are not
            split, and existing embeddings are replaced.
        embed_model: Embeds both images and texts; see ``llama_index_mm_zhipu.embedding.contract``.
        caption_weight: Share of the caption in a captioned image's vector, 0 to 1. None takes what suits the model,
            usually 0.5 (``embedding.contract.DEFAULT_CAPTION_WEIGHT``), if all images have captions that the model
            takes whole, and otherwise 0. All parts of a collection need the same. Longer captions, and page texts, are
            never in a vector.
        on_error: ``"raise"`` at the first image that cannot be read, or ``"skip"`` such images.
        show_progress: Show progress bars.

    Returns:
        The embedded nodes, the caption weight in use and the skipped images.

    Raises:
        TypeError: A node is neither an image nor a text.
        ValueError: A text is the content of a binary file, or an argument is out of range.
        ImageError: An image cannot be read.

    Examples:
        >>> embedded = embed_nodes(nodes, embed_model)
        >>> len(embedded), len(embedded[0].embedding), embedded.caption_weight
        (12, 256, 0.5)
        >>> build_index(embedded, embed_model).image_store.count()
        12
    """
    require_choice(on_error, "on_error", "raise", "skip")
    in_range(caption_weight, "caption_weight", 0, 1)
    images = [node for node in as_nodes(nodes) if has_image(node)]
    weight = choose_caption_weight(embed_model, images) if caption_weight is None else caption_weight
    embeddings, skipped = compute_embeddings(
        nodes,
        embed_model,
        text_embed_model=for_long_texts(embed_model),
        caption_weight=weight,
        on_error=on_error,
        show_progress=show_progress,
    )
    embedded = [
        node.model_copy(update={"embedding": embedding})
        for node, embedding in zip(nodes, embeddings, strict=True)
        if embedding is not None
    ]
    return EmbeddedNodes(embedded, weight if images else None, fingerprint_of(embed_model), skipped)


def compute_embeddings(
    nodes: Sequence[BaseNode],
    embed_model: MultiModalEmbedding,
    *,
    text_embed_model: BaseEmbedding,
    caption_weight: float,
    on_error: OnError,
    show_progress: bool,
) -> tuple[list[Embedding | None], Skipped]:
    """Return the embedding of each node, None for a skipped image, and the skipped images; a warning lists them.

    Args:
        nodes: Image nodes and text nodes.
        embed_model: Embeds images and captions.
        text_embed_model: Embeds text nodes.
        caption_weight: Share of the caption in a captioned image's vector, 0 to 1.
        on_error: ``"raise"`` at the first image that cannot be read, or ``"skip"`` such images.
        show_progress: Show progress bars.

    Raises:
        TypeError: A node is neither an image nor a text.
        ValueError: A text is the content of a binary file.
        ImageError: An image cannot be read.
    """
    images = [index for index, node in enumerate(nodes) if has_image(node)]
    texts = [index for index, node in enumerate(nodes) if not has_image(node)]
    _require_content([nodes[index] for index in texts])
    _require_texts([nodes[index] for index in texts])
    embeddings: list[Embedding | None] = [None] * len(nodes)
    skipped = Skipped()
    outcomes = stream_image_nodes(embed_model, [nodes[index] for index in images], caption_weight)
    with closing(outcomes), image_bar(len(images), show_progress) as bar:
        for index, (node, outcome) in zip(images, outcomes, strict=True):
            if not isinstance(outcome, ImageError):
                embeddings[index] = outcome.tolist()
            elif on_error == "raise":
                raise failure_of(node, outcome)
            else:
                skipped.add(node.node_id, str(outcome))
            bar.update()
    if skipped:
        logger.warning("%s", skipped.summary(len(images)))
    vectors = embed_text_nodes(text_embed_model, [nodes[index] for index in texts], show_progress)
    for index, vector in zip(texts, vectors, strict=True):
        embeddings[index] = vector
    return embeddings, skipped


def choose_caption_weight(embed_model: BaseEmbedding, images: Sequence[BaseNode]) -> float:
    """Return the share of captions in the vectors of a collection of images.

    Averaged into the vectors of only some images, captions would rank these images before all others.

    Args:
        embed_model: The model, which may recommend a share.
        images: All images of the collection.

    Returns:
        The model's recommendation if all images have captions that the model takes whole, otherwise 0.
    """
    return (
        default_caption_weight_of(embed_model) if all(caption_to_embed(embed_model, image) for image in images) else 0.0
    )


def stream_image_nodes(
    model: MultiModalEmbedding, nodes: Sequence[BaseNode], caption_weight: float
) -> Generator[tuple[BaseNode, Outcome], None, None]:
    """Embed image nodes batch after batch, in order.

    With a ``caption_weight`` above 0, an image with a caption that the model takes whole gets the vector that the model
    makes of both if it is one that ``EmbedsImagesWithText``, or else ``(1 - caption_weight) * image + caption_weight *
    caption``, both of unit length.
    The mean is not scaled to unit length: its score is the weighted mean of the two cosines.

    Args:
        model: Embeds images and texts.
        nodes: Image nodes.
        caption_weight: Share of the caption, 0 to 1.

    Yields:
        Each node with its vector, or with the ``ImageError`` that its image caused.
    """
    if caption_weight and isinstance(model, EmbedsImagesWithText) and model.joins_captions:
        yield from _stream_with_captions(model, model.get_image_with_text_embeddings, nodes)
        return
    images = stream_image_embeddings(model, nodes)
    with closing(images):
        for batch in iter_batch(nodes, _CAPTIONS_AHEAD):
            captions = _caption_vectors(model, batch) if caption_weight else {}
            for index, node in enumerate(batch):
                image = next(images)
                if isinstance(image, ImageError):
                    yield node, image
                elif index in captions:
                    yield node, (1 - caption_weight) * unit(image) + caption_weight * captions[index]
                else:
                    yield node, unit(image)


def embed_text_nodes(model: BaseEmbedding, nodes: Sequence[BaseNode], show_progress: bool = False) -> list[Embedding]:
    """Return embeddings of unit length of texts with the metadata that LlamaIndex shows to embedding models.

    Raises:
        ValueError: A text is the content of a binary file; nothing is embedded.
    """
    _require_texts(nodes)
    texts = list(map(text_to_embed, nodes))
    embeddings = model.get_text_embedding_batch(texts, show_progress=show_progress) if texts else []
    return list(map(unit_embedding, embeddings))


def text_to_embed(node: BaseNode) -> str:
    """Return the text of a node with the metadata that LlamaIndex shows to embedding models."""
    return node.get_content(metadata_mode=MetadataMode.EMBED)


def image_bar(total: int | None, show_progress: bool) -> tqdm[None]:
    """Return a progress bar for images; a total of None is not known beforehand."""
    disable = not show_progress or total == 0
    return tqdm(total=total, desc="Embedding images", unit="image", disable=disable)


def failure_of(node: BaseNode, error: ImageError) -> ImageError:
    """Return an error that names the node whose image cannot be read."""
    return ImageError(f"node {one_line(node.node_id)}: {error}")


def _stream_with_captions(
    model: MultiModalEmbedding,
    embed_pairs: Callable[[Sequence[ImageArgument], Sequence[str]], Sequence[Embedding]],
    nodes: Sequence[BaseNode],
) -> Generator[tuple[BaseNode, Outcome], None, None]:
    """Embed captioned images together with their captions, and images without caption alone."""
    for batch in iter_batch(nodes, model.embed_batch_size):
        images = [image_argument(node) for node in batch]
        readable = [(index, image) for index, image in enumerate(images) if not isinstance(image, ImageError)]
        captions = {index: caption for index, _ in readable if (caption := caption_to_embed(model, batch[index]))}
        captioned = [(index, image) for index, image in readable if index in captions]
        others = [(index, image) for index, image in readable if index not in captions]
        vectors: dict[int, Embedding] = {}
        if captioned:
            pairs = embed_pairs([image for _, image in captioned], list(captions.values()))
            vectors |= zip(captions, pairs, strict=True)
        if others:
            alone = model.get_image_embedding_batch([image for _, image in others])
            vectors |= zip((index for index, _ in others), alone, strict=True)
        for index, (node, image) in enumerate(zip(batch, images, strict=True)):
            yield node, image if isinstance(image, ImageError) else unit(np.asarray(vectors[index], dtype=np.float32))


def _caption_vectors(model: MultiModalEmbedding, nodes: Sequence[BaseNode]) -> dict[int, Vector]:
    """Return the vector of each caption by the index of its node."""
    captions = {index: caption for index, node in enumerate(nodes) if (caption := caption_to_embed(model, node))}
    if not captions:
        return {}
    vectors = model.get_text_embedding_batch(list(captions.values()))
    return dict(zip(captions, unit(np.asarray(vectors, dtype=np.float32)), strict=True))


def _require_content(texts: Sequence[BaseNode]) -> None:
    for node in texts:
        if not isinstance(node, TextNode) and not caption_of(node):
            raise TypeError(
                f"node {one_line(node.node_id)} ({type(node).__name__}) holds neither an image nor a text; "
                "only these can be embedded, filter it out before"
            )


def _require_texts(nodes: Sequence[BaseNode]) -> None:
    for node in nodes:
        if looks_binary(node.get_content(metadata_mode=MetadataMode.NONE)):
            name = one_line(str(node.metadata.get("file_name") or node.node_id))
            raise ValueError(
                f"a text of {name} is the bytes of a binary file: give the documents of SimpleDirectoryReader to "
                "build_index as they are, which indexes image files as images, or read images with read_folder"
            )
