"""Which backend serves a vector store of LlamaIndex."""

from __future__ import annotations

from importlib import import_module

from llama_index.core.vector_stores.types import BasePydanticVectorStore

from llama_index_mm_zhipu.stores.backend import StoreBackend
from llama_index_mm_zhipu.vector_store.contract import IndexStore

BACKENDS = {
    "llama_index.vector_stores.postgres": ("postgres.backend", "PostgresBackend"),
    "llama_index.vector_stores.qdrant": ("qdrant.backend", "QdrantBackend"),
    "llama_index.vector_stores.milvus": ("milvus.backend", "MilvusBackend"),
}
"""Module and class of the backend for the stores of each package. All other stores have ``other.OtherBackend``."""


def backend_of(store: BasePydanticVectorStore) -> StoreBackend:
    """Return the backend for a store.

    Raises:
        TypeError: It is not a vector store of LlamaIndex, or one that an index can use as it is.
        ValueError: The store cannot be used.
    """
    require_vector_store(store, "store")
    if isinstance(store, IndexStore):
        raise TypeError(f"an index can use {type(store).__name__} as it is; give it without ExternalVectorStore")
    modules = {class_.__module__ for class_ in type(store).__mro__}
    found = next((BACKENDS[name] for name in BACKENDS if any(each.startswith(name) for each in modules)), None)
    module, class_name = found or ("other", "OtherBackend")
    # Backends import the packages of their stores, which are extras.
    backend: StoreBackend = getattr(import_module(f"{__package__}.{module}"), class_name)(store)
    return backend


def require_vector_store(value: object, argument: str) -> None:
    """Check that a value is a vector store of LlamaIndex.

    Args:
        value: The value. Errors do not show it: it may be a URL with a password.
        argument: Name of the argument.

    Raises:
        TypeError: The value is something else, such as the class of a store, or a URL.
    """
    if not isinstance(value, BasePydanticVectorStore):
        given = f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"
        raise TypeError(
            f"{argument} is {given}; give a vector store of LlamaIndex, such as PGVectorStore.from_params(…), or a "
            "store of an index, such as index.image_store"
        )
