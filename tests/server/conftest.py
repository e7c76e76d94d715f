"""What tests of the server share: an index of emoji with metadata, and the server over it on a free port."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from api import Api, Serve, opened
from asgi import served
from axe import downloaded_axe
from browser import Open, Visitor, chromium
from llama_index.core.schema import ImageNode, TextNode
from playwright.sync_api import Browser
from published_forms import Example

from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal, build_index
from llama_index_mm_zhipu.server.app import build_app
from llama_index_mm_zhipu.server.context import Context, LlmInfo
from llama_index_mm_zhipu.service.image_service import ImageService

COLOURS = ("白", "红", "黄", "彩", "黄", "红", "红", "绿", "黄", "红")


@pytest.fixture(scope="session")
def emoji_store(
    demo_embedding: ChineseClipEmbedding, examples: list[Example], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of an index of ten emoji, whose ids are their names, and a text. Tests do not write to it."""
    folder = tmp_path_factory.mktemp("store")
    nodes = [
        ImageNode(id_=e.caption, image=e.base64, text=e.caption, metadata={"价格": 10 * e.number, "颜色": colour})
        for e, colour in zip(examples, COLOURS, strict=True)
    ]
    build_index([*nodes, TextNode(id_="说明", text="飞机的说明")], demo_embedding, persist_dir=folder).close()
    return folder


@pytest.fixture
def own_store(emoji_store: Path, tmp_path: Path) -> Path:
    """A copy of the folder, which a test may change."""
    return Path(shutil.copytree(emoji_store, tmp_path / "own store"))


@pytest.fixture
def serve(demo_embedding: ChineseClipEmbedding, connect: Callable[..., ZhipuMultiModal]) -> Iterator[Serve]:
    """A function that serves an index until the test ends, and returns its API.

    ``opening`` takes a future instead of the index, ``uploads`` allows to add images, ``is_mock`` is what it says of
    its LLM, and the others are those of ``build_app``.
    """
    with ExitStack() as servers:

        def start(
            store: Path | None = None,
            *,
            opening: Future[ImageService] | None = None,
            uploads: Path | None = None,
            host: str = "127.0.0.1",
            token: str | None = None,
            is_mock: bool = False,
        ) -> Api:
            llm = connect(model="glm-4.6v-flash")
            if opening is None:
                assert store is not None
                opening = opened(ImageService.open(store, llm=llm))
            context = Context(opening, LlmInfo("glm-4.6v-flash", is_mock), uploads)
            url = servers.enter_context(served(build_app(context, host=host, token=token)))
            return Api(servers.enter_context(httpx.Client(base_url=url, trust_env=False, timeout=60)))

        yield start


@pytest.fixture
def api(serve: Serve, emoji_store: Path) -> Api:
    """The API over the emoji, which cannot be changed."""
    return serve(emoji_store)


@pytest.fixture
def changing_api(serve: Serve, own_store: Path) -> Api:
    """The API over an index that may be changed."""
    return serve(own_store, uploads=own_store / "uploads")


@pytest.fixture(scope="session")
def images(examples: list[Example]) -> dict[str, bytes]:
    """The emoji as JPEG by name."""
    return {example.caption: example.image for example in examples}


@pytest.fixture(scope="session")
def files_store(
    demo_embedding: ChineseClipEmbedding, examples: list[Example], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of an index like ``emoji_store``, whose images are files. Tests do not write to it."""
    folder = tmp_path_factory.mktemp("files store")
    photos = tmp_path_factory.mktemp("照片")
    nodes = []
    for example, colour in zip(examples, COLOURS, strict=True):
        file = photos / f"{example.number:02} {example.caption}.jpg"
        file.write_bytes(example.image)
        metadata = {"价格": 10 * example.number, "颜色": colour}
        nodes.append(ImageNode(id_=example.caption, image_path=str(file), text=example.caption, metadata=metadata))
    text = TextNode(id_="说明", text="飞机的说明")
    build_index([*nodes, text], demo_embedding, persist_dir=folder).close()
    return folder


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Code of axe-core; skips the test without npm or its registry."""
    return downloaded_axe(tmp_path_factory.mktemp("axe"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. It must end with the module: asyncio cannot start an event loop while Playwright is running."""
    with chromium() as running:
        yield running


@pytest.fixture
def open_page(browser: Browser, serve: Serve) -> Iterator[Open]:
    """A function that visits a server; the test fails if a visit caused errors or requests to other hosts."""
    # After ``serve``, so that pages are closed before servers are.
    visitor = Visitor(browser)
    yield visitor.visit
    visitor.close()
    assert visitor.problems == []
