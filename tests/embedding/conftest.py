"""Checkpoints of official structs, in full size and in the published form, with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_index_mm_zhipu.testing import tiny_checkpoint


@pytest.fixture(scope="session")
def download_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that holds ``clip_cn_rn50.pt`` and ``clip_cn_vit-b-16.pt`` as the article's folder would."""
    folder = tmp_path_factory.mktemp("checkpoints")
    files = [tiny_checkpoint(folder, struct) for struct in ("RN50", "ViT-B-16")]
    yield folder
    for file in files:
        file.unlink()


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Texts of several lengths, from one character to the longest that the text tower takes."""
    return ["猫", "飞机", "一架白色的飞机停在机场上", "红色的 SUV，2024 款，售价 19.98 万元！", "图" * 50]
