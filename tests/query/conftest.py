"""An index of photographs, and what a request shows."""

from __future__ import annotations

import pytest
from llama_index.core.schema import ImageNode

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.index.multimodal import ImageIndex


@pytest.fixture
def index(demo_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]) -> ImageIndex:
    """Ten captioned photographs, in memory."""
    return build_index(photo_nodes, embed_model=demo_embedding)
