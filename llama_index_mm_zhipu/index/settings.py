"""What an index records about itself in its image store: embedding model, precision and caption weight."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core import Settings
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import BaseNode

from llama_index_mm_zhipu.embedding.contract import (
    caption_to_embed,
    default_caption_weight_of,
    fingerprint_of,
    precision_of,
    reference_of,
)
from llama_index_mm_zhipu.embedding.references import is_lost, model_of
from llama_index_mm_zhipu.images import caption_of, page_text_of
from llama_index_mm_zhipu.store_file import EMBED_MODEL
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore, ModelMismatchError
from llama_index_mm_zhipu.vector_store.contract import CAPTION_WEIGHT, PRECISION, TEXTS_APART, IndexStore

logger = logging.getLogger(__name__)


def multimodal_or_default(embed_model: object) -> MultiModalEmbedding:
    """Return the given model, or that of ``Settings``.

    Raises:
        TypeError: The model does not embed images, or there is none.
    """
    # Settings.embed_model would make one of OpenAI's if none was set.
    model = Settings._embed_model if embed_model is None else embed_model
    if isinstance(model, MultiModalEmbedding):
        return model
    wanted = "give embed_model=ChineseClipEmbedding(…), or set Settings.embed_model to it"
    if model is None:
        raise TypeError(f"no embedding model for images: {wanted}")
    given = repr(model) if isinstance(model, str) else type(model).__name__
    raise TypeError(f"embed_model is {given:.80}, which does not embed images: {wanted}")


def require_fingerprint(fingerprint: str, model: BaseEmbedding) -> None:
    """Check that vectors were made by the model of an index.

    Raises:
        ModelMismatchError: Another model made them.
    """
    own = fingerprint_of(model)
    if fingerprint != own:
        raise ModelMismatchError(
            f"the nodes were embedded with the model {fingerprint}, and the index has {own}; embed the nodes with the "
            "index's model"
        )


def warn_of_other_precision(store: IndexStore, model: BaseEmbedding) -> None:
    """Warn if a model computes in another precision than that of the first vectors, which is allowed."""
    precision = precision_of(model)
    recorded = store.get_setting(PRECISION)
    if precision and recorded and precision != recorded:
        logger.warning(
            "the first vectors of this index are in %s, the embedding model now computes in %s; mixing is allowed, and "
            "ChineseClipEmbedding.check_precision measures the difference",
            recorded,
            precision,
        )


def recorded_weight(store: IndexStore) -> float | None:
    """Return the share of captions in the vectors of a store; None before the first image."""
    recorded: float | None = store.get_setting(CAPTION_WEIGHT)
    return recorded


def settings_of_first_images(model: BaseEmbedding, weight: float) -> dict[str, Any]:
    """Return the settings to record together with the first images of a store.

    Args:
        model: Model of the images' vectors.
        weight: Share of captions in the vectors.
    """
    recorded = {CAPTION_WEIGHT: weight, PRECISION: precision_of(model), EMBED_MODEL: reference_of(model)}
    return {key: value for key, value in recorded.items() if value is not None}


def recorded_model(store: IndexStore) -> MultiModalEmbedding | None:
    """Make the model that a store of images recorded; None if it recorded none.

    Raises:
        CheckpointError: The weights cannot be found or loaded.
        FileNotFoundError: The weights were at a path that does not exist any more.
        ValueError: The model is of another class.
    """
    reference = store.get_setting(EMBED_MODEL)
    return None if reference is None else model_of(reference)


def record_lost_model(store: IndexStore, model: MultiModalEmbedding) -> None:
    """Record where the model of a filled store is now, if the store does not know or names a path that is gone."""
    recorded, present = store.get_setting(EMBED_MODEL), reference_of(model)
    if present is None or store.is_empty() or not (recorded is None or is_lost(recorded)):
        return
    if isinstance(store, FaissMultiModalVectorStore) and not store.is_read_only:
        store.set_setting(EMBED_MODEL, present)


def has_texts_apart(store: IndexStore) -> bool:
    """Return whether images of a store have texts that are not in their vectors, and that only full text finds."""
    return store.has_texts() and (recorded_weight(store) == 0 or bool(store.get_setting(TEXTS_APART)))


def settings_of_texts(store: IndexStore, images: Sequence[BaseNode], model: BaseEmbedding) -> dict[str, Any]:
    """Return the setting to record together with images that have texts apart from their vectors.

    Args:
        store: The store of images.
        images: The images to add.
        model: Embeds the images and their captions.
    """
    if store.get_setting(TEXTS_APART):
        return {}
    return {TEXTS_APART: True} if are_texts_apart(images, model) else {}


def are_texts_apart(images: Sequence[BaseNode], model: BaseEmbedding) -> bool:
    """Return whether any image has a page text, or a caption that the model would cut: no vector contains these."""
    return any(page_text_of(node) or caption_of(node) != caption_to_embed(model, node) for node in images)


def weight_for_images(
    store: IndexStore,
    images: Sequence[BaseNode],
    given: float | None,
    recorded: float | None,
    *,
    model: BaseEmbedding,
    is_stream: bool,
    warn: Callable[..., None],
) -> float:
    """Return the share of captions in the vectors of new images: the recorded one, or one for the first images.

    Args:
        store: The store of images.
        images: The images to add.
        given: The weight that the user gave. None takes what the model recommends if every image has a caption that
            the model takes whole, and needs a vector; otherwise 0.
        recorded: The weight of the images in the store; None before the first image.
        model: Embeds the images.
        is_stream: Whether more images follow, so that it is not known whether all have captions.
        warn: Logs a warning; takes a format and its arguments.
    """
    captioned = sum(bool(caption_to_embed(model, node)) for node in images)
    # Whether the caption is in a vector that a node came with is not known.
    with_vectors = sum(node.embedding is not None and bool(caption_of(node)) for node in images)
    if recorded is not None:
        _warn_of_other_captions(store, recorded, given, (len(images), captioned, with_vectors), is_stream, warn)
        return recorded
    weight = given
    if weight is None:
        all_captioned = not is_stream and captioned == len(images) and not with_vectors
        weight = default_caption_weight_of(model) if all_captioned else 0.0
        if not is_stream and not with_vectors:
            _warn_of_few_without_captions(images, captioned, model, warn)
    logger.info(
        "caption_weight %s: %d of %d images have captions; recorded in the store", weight, captioned, len(images)
    )
    return weight


def _warn_of_few_without_captions(
    images: Sequence[BaseNode], captioned: int, model: BaseEmbedding, warn: Callable[..., None]
) -> None:
    """Warn where a few images without captions keep the captions of most images out of the vectors."""
    if not len(images) / 2 < captioned < len(images):
        return
    without = next(node.node_id for node in images if not caption_to_embed(model, node))
    warn(
        "%d of %d images have no caption, or one that the model would cut, such as %s: therefore no vector contains a "
        "caption (caption_weight 0), and captions are found by full text; to have them in the vectors, give each image "
        "a short caption, or pass caption_weight=%s",
        len(images) - captioned,
        len(images),
        one_line(without),
        default_caption_weight_of(model),
    )


def _warn_of_other_captions(
    store: IndexStore,
    recorded: float,
    given: float | None,
    counts: tuple[int, int, int],
    is_stream: bool,
    warn: Callable[..., None],
) -> None:
    """Warn where new images will not rank beside those in the store.

    Args:
        store: The store of images.
        recorded: The weight of the images in the store.
        given: The weight that the user gave.
        counts: How many new images there are, how many of them have captions, and how many of these came with vectors.
        is_stream: Whether more images follow.
        warn: Logs a warning; takes a format and its arguments.
    """
    total, captioned, with_vectors = counts
    if given not in (None, recorded):
        warn("caption_weight %s is not followed: the index was built with %s", given, recorded)
    if recorded and captioned < total:
        warn(
            "%d of %d images have no caption, or one that the model would cut, but the index was built with "
            "caption_weight %s: captioned images will rank before them; build it again with caption_weight=0 to mix "
            "both",
            total - captioned,
            total,
            recorded,
        )
    if recorded and with_vectors:
        warn(
            "%d of %d images came with a vector and a caption, and the index was built with caption_weight %s: the "
            "caption is found only if it is in the vector; leave the vector out to have it made",
            with_vectors,
            total,
            recorded,
        )
    if not recorded and captioned and not is_stream and store.searches_text and not store.has_texts():
        warn(
            "%d of %d images have captions, but the index was built with caption_weight 0: their captions are "
            "found by full text and are not in their vectors",
            captioned,
            total,
        )


def warn_of_unsearched_texts(
    store: IndexStore, images: Sequence[BaseNode], weight: float, *, model: BaseEmbedding, warn: Callable[..., None]
) -> None:
    """Warn if images have texts that nothing finds: they are not in vectors, and the store has no full text search.

    Args:
        store: The store of images.
        images: The images to add.
        weight: Share of captions in the vectors.
        model: Embeds the images and their captions.
        warn: Logs a warning; takes a format and its arguments.
    """
    if store.searches_text:
        return
    # Whether the caption is in a vector that a node came with is not known.
    captions = sum(
        bool(caption_of(node)) and node.embedding is None and not (weight and caption_to_embed(model, node))
        for node in images
    )
    pages = sum(bool(page_text_of(node)) for node in images)
    if captions or pages:
        warn(
            "%s has no full text search: the captions of %d and the page texts of %d of %d images are not in vectors, "
            "so that no search finds them; captions get into vectors if every image has a short one, or with "
            "caption_weight=0.5",
            store,
            captions,
            pages,
            len(images),
        )
