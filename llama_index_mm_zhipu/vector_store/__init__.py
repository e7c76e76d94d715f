"""An embedded, durable vector store for text and image nodes."""

from llama_index_mm_zhipu.vector_store.errors import ModelMismatchError, StoreError
from llama_index_mm_zhipu.vector_store.store import FaissMultiModalVectorStore

__all__ = ["FaissMultiModalVectorStore", "ModelMismatchError", "StoreError"]
