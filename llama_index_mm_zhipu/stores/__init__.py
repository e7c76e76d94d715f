"""Other vector stores behind an index: Postgres, Qdrant, Milvus, and any store of LlamaIndex."""

from llama_index_mm_zhipu.stores.external import ExternalVectorStore

__all__ = ["ExternalVectorStore"]
