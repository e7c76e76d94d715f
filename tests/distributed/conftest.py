"""Fixtures: a model that each process of Ray can load quickly, and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, load_index
from llama_index_mm_zhipu.distributed.checkpoint import CHECKPOINT, Checkpoint
from llama_index_mm_zhipu.index import ImageIndex


@pytest.fixture(scope="session", autouse=True)
def ray_settings() -> Iterator[None]:
    """Keeps Ray from reporting its use to its makers, and from starting its processes with a low priority.

    With Ray's default, they get two percent of the processor beside busy processes.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        yield


@pytest.fixture(scope="session")
def torch_embedding(tiny_model: Path) -> ChineseClipEmbedding:
    """The tiny model in torch, which loads without a conversion."""
    return ChineseClipEmbedding(model_name=str(tiny_model), device="cpu", backend="torch")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Iterator[Checkpoint]:
    """An empty checkpoint."""
    opened = Checkpoint(tmp_path / CHECKPOINT)
    yield opened
    opened.close()


@pytest.fixture
def open_index(torch_embedding: ChineseClipEmbedding) -> Iterator[Callable[[Path], ImageIndex]]:
    """A function that opens the index in a folder, or a new one."""
    opened: list[ImageIndex] = []

    def open_(folder: Path) -> ImageIndex:
        stores = {"image_store": FaissMultiModalVectorStore(folder, namespace="image")}
        stores["text_store"] = FaissMultiModalVectorStore(folder)
        opened.append(load_index(embed_model=torch_embedding, **stores))
        return opened[-1]

    yield open_
    for index in opened:
        index.close()
