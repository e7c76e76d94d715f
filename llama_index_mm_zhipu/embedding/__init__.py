"""Chinese-CLIP embeddings."""

from llama_index_mm_zhipu.embedding.backends import BackendError, CheckpointError
from llama_index_mm_zhipu.embedding.backends.precision import PrecisionReport
from llama_index_mm_zhipu.embedding.chinese_clip.embedding import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding.chinese_clip.official_models import OFFICIAL_MODELS

__all__ = ["OFFICIAL_MODELS", "BackendError", "CheckpointError", "ChineseClipEmbedding", "PrecisionReport"]
