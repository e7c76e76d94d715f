"""Chinese-CLIP embeddings."""

from llama_index_mm_zhipu.embedding.chinese_clip.embedding import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding.errors import BackendError, CheckpointError
from llama_index_mm_zhipu.embedding.official_models import OFFICIAL_MODELS
from llama_index_mm_zhipu.embedding.backends.base import PrecisionReport

__all__ = ["OFFICIAL_MODELS", "BackendError", "CheckpointError", "ChineseClipEmbedding", "PrecisionReport"]
