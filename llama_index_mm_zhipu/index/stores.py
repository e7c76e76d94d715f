"""The two vector stores of an index, and the type under which LlamaIndex stores and loads an index.

``FaissMultiModalVectorStore`` has every method that an index needs. Any other ``BasePydanticVectorStore`` that keeps
nodes is wrapped in an ``ExternalVectorStore``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from llama_index.core import StorageContext
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.data_structs.data_structs import IndexStruct, MultiModelIndexDict
from llama_index.core.data_structs.registry import INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.indices.base import BaseIndex
from llama_index.core.indices.registry import INDEX_STRUCT_TYPE_TO_INDEX_CLASS
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from llama_index_mm_zhipu.embedding.contract import fingerprint_of
from llama_index_mm_zhipu.stores import ExternalVectorStore
from llama_index_mm_zhipu.stores.backends import require_vector_store
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store.contract import IndexStore

TEXT_NAMESPACE = "default"
IMAGE_NAMESPACE = MultiModalVectorStoreIndex.image_namespace

_ANY_WORD = "图"
"""A text whose vector tells the dimension of a model."""


def as_index_store(store: BasePydanticVectorStore) -> Any:
    """Return a store as one that an index can use: itself if it has all methods of ``IndexStore``, otherwise wrapped.

    Raises:
        StoreError: The store's server cannot be reached.
        ValueError: The store cannot be used.

    Examples:
        >>> from llama_index_mm_zhipu.index.stores import as_index_store
        >>> store = FaissMultiModalVectorStore()
        >>> as_index_store(store) is store
        True
    """
    return store if isinstance(store, IndexStore) else ExternalVectorStore(store)


class MissingStore(FaissMultiModalVectorStore):
    """Stands for a store that was not given beside one on a server: empty, and adding to it is an error.

    In memory, its nodes would be gone when the process ends, without a word.
    """

    _argument: str = PrivateAttr()

    def __init__(self, argument: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._argument = argument

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this component."""
        return "MissingStore"

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Raise an error if there is anything to add."""
        require_store(self, nodes)
        return []


def require_store(store: IndexStore, nodes: Sequence[BaseNode]) -> None:
    """Check that nodes have a store to go to, before they are embedded.

    Raises:
        ValueError: There is a node, and its store was not given.
    """
    if isinstance(store, MissingStore) and nodes:
        what, argument = ("texts", "text_store") if store._argument == "text_store" else ("images", "image_store")
        raise ValueError(
            f"the index has no store for {what}, such as node {one_line(nodes[0].node_id)}: give {argument}=…, or "
            f"persist_dir=… to keep {what} in a folder; nothing was added"
        )


def open_store(
    given: BasePydanticVectorStore | None,
    persist_dir: str | Path | None,
    *,
    argument: Literal["text_store", "image_store"],
    other: BasePydanticVectorStore | None,
    image_storage: str | Path | None,
    model: BaseEmbedding,
) -> Any:
    """Return the store of an index: the given one, whose model is not checked yet, or an embedded one.

    Args:
        given: The store that the user gave as this argument.
        persist_dir: Folder of the embedded store.
        argument: Name of the argument.
        other: The store that the user gave for the other type of nodes.
        image_storage: As in ``ExternalVectorStore``; None for its default.
        model: Embeds the nodes.

    Raises:
        ModelMismatchError: The embedded store was filled with another model.
        StoreError: The store's file or server cannot be opened.
        TypeError: The given store is not a vector store of LlamaIndex.
        ValueError: The store cannot be used.
    """
    if given is None:
        namespace = TEXT_NAMESPACE if argument == "text_store" else IMAGE_NAMESPACE
        if persist_dir is None and other is not None:
            return MissingStore(argument)
        return FaissMultiModalVectorStore(persist_dir, namespace=namespace, model=fingerprint_of(model))
    require_vector_store(given, argument)
    if isinstance(given, IndexStore):
        return given
    return ExternalVectorStore(given, **({} if image_storage is None else {"image_storage": image_storage}))


def require_model(store: IndexStore, model: BaseEmbedding) -> None:
    """Check that a store has the vectors of a model, and record the model in an empty one.

    Raises:
        ModelMismatchError: The store was filled with another model.
        ValueError: The store is empty, and made for vectors of another dimension.
    """
    if not isinstance(store, ExternalVectorStore):
        store.require_model(fingerprint_of(model))
        return
    # A store that is used with caution is asked with it whether it is empty, and which model filled it.
    store.expect_vector(lambda: model.get_query_embedding(_ANY_WORD))
    store.require_model(fingerprint_of(model))
    dimension = store.dimension()
    if dimension is not None and store.is_empty():
        _require_dimension(store, dimension, len(model.get_query_embedding(_ANY_WORD)))


def _require_dimension(store: ExternalVectorStore, dimension: int, needed: int) -> None:
    if dimension != needed:
        raise ValueError(
            f"{store} is made for vectors of dimension {dimension}, and those of the embedding model have {needed}; "
            f"make another table or collection with {needed} (embed_dim of PGVectorStore, dim of MilvusVectorStore)"
        )


def with_index_stores(
    storage_context: StorageContext | None, image_vector_store: BasePydanticVectorStore | None
) -> StorageContext:
    """Return a storage context with the stores of texts and of images, each as one that an index can use.

    Raises:
        ValueError: A store is missing or keeps no nodes, such as those that ``load_index_from_storage`` reads from
            JSON.
    """
    stores = storage_context.vector_stores if storage_context is not None else {}
    texts, images = stores.get(TEXT_NAMESPACE), image_vector_store or stores.get(IMAGE_NAMESPACE)
    if storage_context is None or texts is None or images is None or not (texts.stores_text and images.stores_text):
        raise ValueError(
            "the storage context does not hold the stores of this index: build_index(…) makes one, and "
            "load_index(folder, embed_model=…) opens one, also from a folder that storage_context.persist(folder) "
            "wrote; for stores on a server: load_index(embed_model=…, image_store=…, text_store=…)"
        )
    own = {TEXT_NAMESPACE: as_index_store(texts), IMAGE_NAMESPACE: as_index_store(images)}
    return replace(storage_context, vector_stores={**stores, **own})


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
