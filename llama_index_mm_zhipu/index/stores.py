"""What an index asks of its vector stores, and how any store of LlamaIndex is made to answer.

``FaissMultiModalVectorStore`` has every method of ``IndexStore``. ``as_index_store`` wraps any other
``BasePydanticVectorStore`` that keeps nodes. The wrapper answers with what the store offers, and is cautious where the
store offers nothing: unchanged images are not recognised and are embedded again, and nothing is removed that cannot be
listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, runtime_checkable

import numpy as np
from llama_index.core import StorageContext
from llama_index.core.data_structs.data_structs import IndexStruct, MultiModelIndexDict
from llama_index.core.data_structs.registry import INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.indices.base import BaseIndex
from llama_index.core.indices.registry import INDEX_STRUCT_TYPE_TO_INDEX_CLASS
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore, MetadataFilters
from numpy.typing import NDArray


@runtime_checkable
class IndexStore(Protocol):
    """What an index asks of a vector store.

    Examples:
        Settings are recorded together with nodes:

        >>> from llama_index.core.schema import TextNode
        >>> from llama_index_mm_zhipu import FaissMultiModalVectorStore
        >>> store = as_index_store(FaissMultiModalVectorStore())
        >>> store.add([TextNode(id_="a", embedding=[1.0, 0.0])], settings={"caption_weight": 0.5})
        ['a']
        >>> store.get_setting("caption_weight"), store.is_empty()
        (0.5, False)
    """

    def is_empty(self) -> bool:
        """Return whether the store holds no node; False if that is not known."""

    def has_texts(self) -> bool:
        """Return whether full text search can find any node."""

    def add(self, nodes: Sequence[BaseNode], *, settings: Mapping[str, Any] | None = None) -> list[str]:
        """Add nodes with embeddings, and record settings, in one transaction; a node replaces the one with its id."""

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        *,
        include_images: bool = True,
    ) -> list[BaseNode]:
        """Return nodes by id or by metadata; without images that are kept apart from them, if so wanted."""

    def get_nodes_of_document(self, ref_doc_id: str) -> list[BaseNode]:
        """Return the nodes that came from a document."""

    def get_vectors(self, node_ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Return the ids that are there and their vectors, shape ``(n, dimension)``."""

    def metadata_texts(self, key: str) -> Mapping[str, str]:
        """Return the texts under a metadata key by node id."""

    def image_paths(self) -> Mapping[str, str]:
        """Return the paths of images that are files by node id."""

    def delete(self, ref_doc_id: str) -> None:
        """Delete the nodes of a document."""

    def delete_nodes(self, node_ids: list[str]) -> None:
        """Delete nodes by id; unknown ids are ignored."""

    def get_setting(self, key: str) -> Any:
        """Return a JSON value that ``add`` recorded, or None."""

    def require_model(self, fingerprint: str) -> None:
        """Record the embedding model of an empty store; raise ``ModelMismatchError`` if another filled it."""

    def checkpoint(self) -> None:
        """Write caches, so that the next opening is fast."""

    def close(self) -> None:
        """Close the store's files and connections."""


class OtherStore:
    """Answers what an index asks, over any ``BasePydanticVectorStore`` that keeps nodes.

    Settings, among them the embedding model and the caption weight, are kept in this object only: give the same
    ``caption_weight`` and model whenever you open the store.

    Args:
        store: The store.
    """

    def __init__(self, store: BasePydanticVectorStore) -> None:
        self._store = store
        self._settings: dict[str, Any] = {}

    def is_empty(self) -> bool:
        """Return False: a search in an empty store finds nothing anyway."""
        return False

    def has_texts(self) -> bool:
        """Return False: whether the store searches Chinese text is not known."""
        return False

    def add(self, nodes: Sequence[BaseNode], *, settings: Mapping[str, Any] | None = None) -> list[str]:
        """Replace and add nodes."""
        if not nodes:
            return []
        # Not every store replaces a node that has the id of a new one.
        self.delete_nodes([node.node_id for node in nodes])
        self._settings.update(settings or {})
        return self._store.add(list(nodes))

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        *,
        include_images: bool = True,
    ) -> list[BaseNode]:
        """Return nodes with their images; empty if the store cannot list them."""
        try:
            return self._store.get_nodes(node_ids, filters)
        except NotImplementedError:
            return []

    def get_nodes_of_document(self, ref_doc_id: str) -> list[BaseNode]:
        """Return an empty list: LlamaIndex's stores do not list nodes by document."""
        return []

    def get_vectors(self, node_ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Return no vectors: they are made again."""
        return [], np.empty((0, 0), dtype=np.float32)

    def metadata_texts(self, key: str) -> Mapping[str, str]:
        """Return an empty mapping."""
        return {}

    def image_paths(self) -> Mapping[str, str]:
        """Return an empty mapping."""
        return {}

    def delete(self, ref_doc_id: str) -> None:
        """Delete the nodes of a document."""
        self._store.delete(ref_doc_id)

    def delete_nodes(self, node_ids: list[str]) -> None:
        """Delete nodes by id, if the store can."""
        try:
            self._store.delete_nodes(node_ids)
        except NotImplementedError:
            return

    def get_setting(self, key: str) -> Any:
        """Return a value that ``add`` recorded in this object, or None."""
        return self._settings.get(key)

    def require_model(self, fingerprint: str) -> None:
        """Do nothing: the store has no place to record the model."""

    def checkpoint(self) -> None:
        """Do nothing: the store writes its own files."""

    def close(self) -> None:
        """Close the store, if it can be closed."""
        close = getattr(self._store, "close", None)
        if close is not None:
            close()


def as_index_store(store: BasePydanticVectorStore) -> IndexStore:
    """Return a store as one that an index can use: itself if it has all methods, otherwise wrapped."""
    return store if isinstance(store, IndexStore) else OtherStore(store)


def stores_in(
    storage_context: StorageContext | None, image_vector_store: BasePydanticVectorStore | None
) -> tuple[BasePydanticVectorStore, BasePydanticVectorStore]:
    """Return the stores of texts and of images.

    Raises:
        ValueError: A store is missing or keeps no nodes, such as those that ``load_index_from_storage`` reads from
            JSON.
    """
    stores = storage_context.vector_stores if storage_context is not None else {}
    texts, images = stores.get("default"), image_vector_store or stores.get(MultiModalVectorStoreIndex.image_namespace)
    if texts is not None and images is not None and texts.stores_text and images.stores_text:
        return texts, images
    raise ValueError(
        "the storage context does not hold the stores of this index: build_index(…) makes one, and load_index(folder, "
        "embed_model=…) opens one, also from a folder that storage_context.persist(folder) wrote"
    )


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
