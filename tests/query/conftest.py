"""An index of photographs."""

from __future__ import annotations

import pytest

from llama_index_mm_zhipu.index.multimodal import ImageIndex


@pytest.fixture
def index(photo_index: ImageIndex) -> ImageIndex:
    """Ten captioned photographs, in memory."""
    return photo_index
