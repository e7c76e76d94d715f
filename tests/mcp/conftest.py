"""What tests of the MCP server share: a service over emoji in a folder, and calls of tools."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from llama_index.core.schema import ImageNode, TextNode
from published_forms import Example
from waiting import PATIENCE, wait_until

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
        yield lambda app: servers.enter_context(_served(app))


@contextmanager
def _served(app: Any) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            assert wait_until(lambda: server.started or not thread.is_alive())
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
