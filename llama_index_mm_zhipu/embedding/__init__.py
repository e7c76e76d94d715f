"""Chinese-CLIP embeddings."""

from llama_index_mm_zhipu.embedding.checkpoint import OFFICIAL_MODELS, CheckpointError
from llama_index_mm_zhipu.embedding.embedding import ChineseClipEmbedding

__all__ = ["OFFICIAL_MODELS", "CheckpointError", "ChineseClipEmbedding"]
