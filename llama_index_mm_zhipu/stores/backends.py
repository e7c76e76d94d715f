"""Which backend serves a vector store of LlamaIndex."""

from __future__ import annotations

from importlib import import_module

from llama_index.core.vector_stores.types import BasePydanticVectorStore

from llama_index_mm_zhipu.stores.backend import StoreBackend

BACKENDS = {
    "llama_index.vector_stores.postgres": ("postgres.backend", "PostgresBackend"),
    "llama_index.vector_stores.qdrant": ("qdrant.backend", "QdrantBackend"),
    "llama_index.vector_stores.milvus": ("milvus.backend", "MilvusBackend"),
}
"""Module and class of the backend for the stores of each package. All other stores have ``other.OtherBackend``."""


def backend_of(store: BasePydanticVectorStore) -> StoreBackend:
    """Return the backend for a store.

    Raises:
        ValueError: The store cannot be used.
    """
    modules = {class_.__module__ for class_ in type(store).__mro__}
    found = next((BACKENDS[name] for name in BACKENDS if any(each.startswith(name) for each in modules)), None)
    module, class_name = found or ("other", "OtherBackend")
    # Backends import the packages of their stores, which are extras.
    backend: StoreBackend = getattr(import_module(f"{__package__}.{module}"), class_name)(store)
    return backend
