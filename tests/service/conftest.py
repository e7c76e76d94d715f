"""What tests of the service share: goods with metadata of all types, and folders of emoji with captions."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from llama_index.core.schema import ImageNode, TextNode
from published_forms import Example

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.service.image_service import ImageService

METADATA = {
    "飞机": {"价格": 100, "颜色": "红", "sku": "007", "in_stock": True, "made in china": "yes", "尺寸": [1, 2]},
    "闹钟": {"价格": 99.5, "颜色": "蓝", "sku": "7", "in_stock": False, "a>=b": 1, "tags": ["红色", "玩具"]},
    "太阳": {"价格": -5, "颜色": "红,蓝", "sku": "x", "in_stock": True, "tags": ["玩具"], "mixed": "7"},
    "彩虹": {"价格": 0, "颜色": "绿色", "sku": "008", "尺寸": [3], "mixed": 7},
}
TEXTS = {
    "手册": {"价格": 100, "颜色": "红", "file_name": "手册.pdf"},
    "目录": {"价格": 7, "颜色": "白", "file_name": "目录-A.pdf"},
}


@pytest.fixture(scope="session")
def goods(tiny_embedding: ChineseClipEmbedding, examples: list[Example]) -> ImageService:
    """A service over four images and two texts, whose ids are their names, with metadata of all types."""
    images = {example.caption: example.image for example in examples}
    nodes = [
        ImageNode(id_=name, image=base64.b64encode(images[name]).decode(), text=name, metadata=metadata)
        for name, metadata in METADATA.items()
    ]
    texts = [TextNode(id_=name, text=f"{name}的内容", metadata=metadata) for name, metadata in TEXTS.items()]
    return ImageService(build_index([*nodes, *texts], tiny_embedding))


@pytest.fixture
def emoji_folder(examples: list[Example], tmp_path: Path) -> Path:
    """A folder ``emoji`` of ten images, named by their captions."""
    return write_images(examples, tmp_path / "emoji")


@pytest.fixture
def captions_csv(examples: list[Example], tmp_path: Path) -> Path:
    """A table with the captions of the images of ``emoji_folder``, and their prices."""
    lines = ["file_name,caption,price", *(f"{e.caption}.jpg,{e.caption},{e.number * 10}" for e in examples)]
    file = tmp_path / "captions.csv"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def write_images(examples: list[Example], folder: Path) -> Path:
    """Write images into a new folder, each named by its caption; return the folder."""
    folder.mkdir()
    for example in examples:
        (folder / f"{example.caption}.jpg").write_bytes(example.image)
    return folder
