"""Fixtures: stores with nodes of every kind, and their shards."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from listing_backend import ListingBackend
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import SimpleVectorStore
from store_calls import ODD_IDS
from transfers import SETTINGS, export, texts, vector

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.images.nodes import with_page_text
from llama_index_mm_zhipu.stores import (
    ExternalVectorStore,
    external,
)


@pytest.fixture
def nodes(photos: list[Path]) -> list[BaseNode]:
    """Nodes of every class, with odd ids, captions, page texts, and images."""
    inline = base64.b64encode(photos[0].read_bytes()).decode()
    page = ImageNode(id_="page", image_path=str(photos[1]), text="一页", metadata={"page": 3, "tags": ["红", None]})
    every: list[BaseNode] = [
        ImageNode(id_="inline", image=inline, text="连衣裙", metadata={"颜色": "红"}),
        ImageNode(id_="same image", image=inline),
        ImageNode(id_="not base64", image="data:,飞机"),
        ImageNode(id_="url", image_url="https://example.com/a.jpg"),
        with_page_text(page, "发动机舱盖", "ocr", [{"text": "发动机舱盖", "box": [0, 0, 1, 1], "score": 0.9}]),
        IndexNode(id_="index", text="飞机", index_id="other"),
        Node(id_="resource", text_resource=MediaResource(text="猫")),
        Document(id_="document", text="文件"),
        TextNode(id_="part", text="飞机场", relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="whole")}),
        *(TextNode(id_=node_id, text="轮船 a\0b\N{GRINNING FACE}") for node_id in ODD_IDS),
    ]
    return [node.model_copy(update={"embedding": vector(i)}) for i, node in enumerate(every)]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., FaissMultiModalVectorStore]]:
    """A function that opens the store with a name."""
    opened: list[FaissMultiModalVectorStore] = []

    def open_(name: str, **options: Any) -> FaissMultiModalVectorStore:
        opened.append(FaissMultiModalVectorStore(tmp_path / name, **options))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def source(open_store: Callable[..., FaissMultiModalVectorStore]) -> FaissMultiModalVectorStore:
    """A store with 25 texts."""
    store = open_store("source", model="clip:1")
    store.add(texts(25), settings=SETTINGS)
    return store


@pytest.fixture
def target(open_store: Callable[..., FaissMultiModalVectorStore]) -> FaissMultiModalVectorStore:
    """An empty store."""
    return open_store("target")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Path of a folder that is not there yet."""
    return tmp_path / "shards"


@pytest.fixture
def shards(source: FaissMultiModalVectorStore, folder: Path) -> Path:
    """Folder with three shards of the texts."""
    export(source, folder)
    return folder


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> ExternalVectorStore:
    """An empty store of another type, which does not take large nodes."""
    monkeypatch.setattr(external, "backend_of", lambda _: ListingBackend())
    return ExternalVectorStore(SimpleVectorStore())
