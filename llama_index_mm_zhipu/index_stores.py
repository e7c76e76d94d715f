"""What an index asks of its stores, and of its embedding model on their behalf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llama_index.core import StorageContext
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.schema import BaseNode, Document

from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore


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
