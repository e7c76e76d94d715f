"""Build, load and update an index of images and texts.

``build_index`` runs three stages, each of which can be used alone: ``read_nodes``, ``embed_nodes`` (in ``embedding``),
and ``ImageIndex.insert_embedded``.
"""

from llama_index_mm_zhipu.index.build import build_index, has_index, load_index
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.index.read import read_nodes
from llama_index_mm_zhipu.index.stores import as_index_store
from llama_index_mm_zhipu.vector_store.contract import IndexStore

__all__ = ["ImageIndex", "IndexStore", "as_index_store", "build_index", "has_index", "load_index", "read_nodes"]
