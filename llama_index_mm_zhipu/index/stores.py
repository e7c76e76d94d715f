"""Whether captions are in the vectors of images: decided with the first of them, recorded in their store, followed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from llama_index.core.schema import BaseNode

from llama_index_mm_zhipu.images.nodes import caption_of
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore

logger = logging.getLogger(__name__)

_CAPTION_WEIGHT = "caption_weight"


def recorded_weight(store: FaissMultiModalVectorStore) -> float | None:
    """Return the share of captions in the vectors of a store; None before the first image."""
    recorded: float | None = store.get_setting(_CAPTION_WEIGHT)
    return recorded


def follow_caption_weight(
    store: FaissMultiModalVectorStore,
    images: Sequence[BaseNode],
    asked: float | None,
    *,
    is_stream: bool,
    warn: Callable[..., None],
) -> float:
    """Return the share of captions that the vectors of new images get; a store without one records it.

    Args:
        store: The store of images.
        images: What is to be added.
        asked: What the user asked for; None takes 0.5 if all images have captions and vectors are made of all, else 0.
        is_stream: Whether more images follow, of which nobody knows whether they have captions.
        warn: Logs a warning, by a format and its arguments.
    """
    captioned = sum(bool(caption_of(node)) for node in images)
    # Nobody knows whether a caption is in a vector that a node came with.
    unknown = sum(node.embedding is not None and bool(caption_of(node)) for node in images)
    recorded = recorded_weight(store)
    if recorded is None:
        weight = asked
        if weight is None:
            weight = 0.5 if not is_stream and captioned == len(images) and not unknown else 0.0
        store.set_setting(_CAPTION_WEIGHT, weight)
        logger.info(
            "caption_weight %s: %d of %d pictures have captions; recorded in the store", weight, captioned, len(images)
        )
        return weight
    if asked not in (None, recorded):
        warn("caption_weight %s is not followed: the index was built with %s", asked, recorded)
    if recorded:
        if captioned < len(images):
            warn(
                "%d of %d pictures have no caption, but the index was built with caption_weight %s: captioned pictures "
                "will rank before them; build it anew with caption_weight=0 to mix both",
                len(images) - captioned,
                len(images),
                recorded,
            )
        if unknown:
            warn(
                "%d of %d images came with a vector and a caption, and the index was built with caption_weight %s: the "
                "caption is found only if it is in the vector; leave the vector out to have it made",
                unknown,
                len(images),
                recorded,
            )
    elif captioned and not is_stream and not store.has_texts():
        warn(
            "%d of %d pictures have captions, but the index was built with caption_weight 0: their captions are "
            "found by full text and are not in their vectors",
            captioned,
            len(images),
        )
    return float(recorded)
