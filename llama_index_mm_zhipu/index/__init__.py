"""Build, load and update an index of images and texts."""

from llama_index_mm_zhipu.index.build import build_index, has_index, load_index
from llama_index_mm_zhipu.index.multimodal import ImageIndex

__all__ = ["ImageIndex", "build_index", "has_index", "load_index"]
