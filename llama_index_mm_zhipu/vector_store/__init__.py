"""An embedded, durable vector store for text and picture nodes."""

from llama_index_mm_zhipu.vector_store.database import StoreError
from llama_index_mm_zhipu.vector_store.store import FaissMultiModalVectorStore, ModelMismatchError

__all__ = ["FaissMultiModalVectorStore", "ModelMismatchError", "StoreError"]
