"""Whether captions are in the vectors of images: decided with the first of them, recorded in their store, followed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from llama_index.core import StorageContext
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.data_structs.data_structs import IndexStruct, MultiModelIndexDict
from llama_index.core.data_structs.registry import INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.indices.base import BaseIndex
from llama_index.core.indices.registry import INDEX_STRUCT_TYPE_TO_INDEX_CLASS
from llama_index.core.schema import BaseNode, Document

from llama_index_mm_zhipu.images.nodes import caption_of
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore

logger = logging.getLogger(__name__)


def own_stores(
    storage_context: StorageContext | None, image_vector_store: object
) -> tuple[FaissMultiModalVectorStore, FaissMultiModalVectorStore]:
    """Return the stores of texts and of images.

    Raises:
        ValueError: They are not of this package, such as those that ``load_index_from_storage`` reads from JSON.
    """
    stores = storage_context.vector_stores if storage_context is not None else {}
    texts, images = stores.get("default"), image_vector_store or stores.get(MultiModalVectorStoreIndex.image_namespace)
    if isinstance(texts, FaissMultiModalVectorStore) and isinstance(images, FaissMultiModalVectorStore):
        return texts, images
    raise ValueError(
        "the storage context does not hold the stores of this index: build_index(…) makes one, and load_index(folder, "
        "embed_model=…) opens one, also from a folder that storage_context.persist(folder) wrote"
    )


def fingerprint_of(model: BaseEmbedding) -> str:
    """Return by what a store recognises an embedding model."""
    known = getattr(model, "fingerprint", None)
    return str(known) if known else f"{model.class_name()} {Path(model.model_name).name}"


def faiss_store(store: Any) -> FaissMultiModalVectorStore:
    """Return a store of this package, which the index was opened with."""
    assert isinstance(store, FaissMultiModalVectorStore)
    return store


def is_stored_alike(document: Document, stored: list[BaseNode]) -> bool:
    """Whether the parts of a text document that a store holds were made of the very same document.

    Args:
        document: A text.
        stored: Nodes that came from a document of its id.
    """
    hashes = {node.source_node.hash if node.source_node is not None else None for node in stored}
    return hashes == {document.hash}


class _StructType(str, Enum):
    # LlamaIndex's own enum cannot be extended; its registries take any key. Who reads a store of this index without
    # this package gets a KeyError that names it.
    IMAGE_INDEX = "llama_index_mm_zhipu"


@dataclass
class ImageIndexStruct(MultiModelIndexDict):
    """LlamaIndex's structure of a multimodal index, under a type of its own."""

    @classmethod
    def get_type(cls) -> _StructType:  # type: ignore[override]
        """Return the type by which the registries know this structure and its index."""
        return _StructType.IMAGE_INDEX


def register_index(index_class: type[BaseIndex[Any]]) -> None:
    """Have ``load_index_from_storage`` make an index of this class where a storage context holds our structure."""
    structs: dict[object, type[IndexStruct]] = INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS  # type: ignore[assignment]
    indices: dict[object, type[BaseIndex[Any]]] = INDEX_STRUCT_TYPE_TO_INDEX_CLASS  # type: ignore[assignment]
    structs[_StructType.IMAGE_INDEX] = ImageIndexStruct
    indices[_StructType.IMAGE_INDEX] = index_class


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
            "caption_weight %s: %d of %d images have captions; recorded in the store", weight, captioned, len(images)
        )
        return weight
    if asked not in (None, recorded):
        warn("caption_weight %s is not followed: the index was built with %s", asked, recorded)
    if recorded:
        if captioned < len(images):
            warn(
                "%d of %d images have no caption, but the index was built with caption_weight %s: captioned images "
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
            "%d of %d images have captions, but the index was built with caption_weight 0: their captions are "
            "found by full text and are not in their vectors",
            captioned,
            len(images),
        )
    return float(recorded)
