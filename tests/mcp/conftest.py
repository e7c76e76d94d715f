"""What tests of the MCP server share: a service over emoji in a folder, and calls of tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from asgi import served
from llama_index.core.schema import ImageNode, TextNode
from published_forms import Example

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.service.image_service import ImageService


@pytest.fixture(scope="session")
def service(
    demo_embedding: ChineseClipEmbedding, examples: list[Example], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ImageService]:
    """A service over ten emoji, whose ids are their names, and a text."""
    folder = tmp_path_factory.mktemp("store")
    nodes = [ImageNode(id_=e.caption, image=e.base64, text=e.caption, metadata={"number": e.number}) for e in examples]
    index = build_index([*nodes, TextNode(id_="说明", text="飞机的说明")], demo_embedding, persist_dir=folder)
    service = ImageService(index, folder=folder)
    yield service
    service.close()


@pytest.fixture
def opened(service: ImageService) -> Future[ImageService]:
    """The service, as a server takes it."""
    future: Future[ImageService] = Future()
    future.set_result(service)
    return future


@pytest.fixture(scope="session")
def image_file(examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the image of an aeroplane."""
    file = tmp_path_factory.mktemp("files") / "图 1.jpg"
    file.write_bytes(next(example.image for example in examples if example.caption == "飞机"))
    return file


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """A function that serves an ASGI application over HTTP until the test ends, and returns its URL."""
    with ExitStack() as servers:
        yield lambda app: f"{servers.enter_context(served(app))}/mcp"
