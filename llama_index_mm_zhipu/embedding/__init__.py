"""Embed images and texts: Chinese-CLIP, and what an index needs of any other embedding model."""

from llama_index_mm_zhipu.embedding.backends import BackendError, CheckpointError, PrecisionReport
from llama_index_mm_zhipu.embedding.chinese_clip.embedding import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding.chinese_clip.official_models import OFFICIAL_MODELS
from llama_index_mm_zhipu.embedding.nodes import EmbeddedNodes, embed_nodes

__all__ = [
    "OFFICIAL_MODELS",
    "BackendError",
    "CheckpointError",
    "ChineseClipEmbedding",
    "EmbeddedNodes",
    "PrecisionReport",
    "embed_nodes",
]
