"""Fixtures for all tests: photographs, checkpoints with random weights, the demo model, local HTTP servers."""

from __future__ import annotations

import atexit
import base64
import gc
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from llama_index.core.schema import ImageNode
from published_forms import Example
from serving import serving

from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal, build_index, read_jsonl
from llama_index_mm_zhipu.embedding import EmbeddedNodes, embed_nodes
from llama_index_mm_zhipu.embedding.backends.openvino_runtime import has_openvino
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.testing import MockGLMServer, mock_server, tiny_checkpoint

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "tests" / "data" / "photos"
DEMO = ROOT / "examples" / "demo"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: Sequence[object]) -> None:
    """Divide the cores among the workers of pytest-xdist.

    The threads of torch and faiss wait for each other in busy loops. If each worker had one for every core, they would
    take the time of the other workers.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // len(specs))))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the imported libraries out of garbage collection.

    They have more than a million objects. Each full collection would take most of a second to look at them, while
    modules are imported and in all tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()
        # Libraries made with nanobind report on stderr what is not freed when the process ends.
        atexit.register(gc.unfreeze)


@pytest.fixture(scope="session")
def demo_folder() -> Path:
    """Folder of the demo, with ``test.jsonl`` and ``model/``."""
    return DEMO


@pytest.fixture(scope="session")
def load_script() -> Callable[[Path], ModuleType]:
    """A function that imports a script outside the package by its path in the repository."""

    def load(path: Path) -> ModuleType:
        specification = importlib.util.spec_from_file_location(path.stem, ROOT / path)
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def ask(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    """The example script that asks about the pages of a lecture or a car manual."""
    return load_script(Path("examples/cases/ask.py"))


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    """Ten emoji that the demo model distinguishes, as examples of a data set."""
    names = ("飞机", "闹钟", "太阳", "彩虹", "香蕉", "红苹果", "樱桃", "西瓜", "柠檬", "消防车")
    images = {node.text: base64.b64decode(node.image or "") for node in read_jsonl(DEMO / "test.jsonl")}
    return [Example(number, images[name], name) for number, name in enumerate(names, 1)]


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """Ten photographs of different things, as JPEG files."""
    return sorted(PHOTOS.glob("*.jpg"))


@pytest.fixture(scope="session")
def captions() -> dict[str, str]:
    """Chinese captions of the photographs by file name."""
    lines = (PHOTOS / "labels.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["image"]: record["label_zh"] for record in map(json.loads, lines)}


@pytest.fixture
def photo_nodes(photos: list[Path], captions: dict[str, str]) -> list[ImageNode]:
    """The photographs as nodes with captions and with file names as ids."""
    return _captioned(photos, captions)


def _captioned(photos: list[Path], captions: dict[str, str]) -> list[ImageNode]:
    return [ImageNode(id_=photo.name, image_path=str(photo), text=captions[photo.name]) for photo in photos]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small Chinese-CLIP model with random weights, which runs in milliseconds."""
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def full_size_checkpoint(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with random weights under an official file name, which all workers of pytest-xdist share.

    Converting ViT-B-16 for OpenVINO takes half a minute of CPU time, and is done once, beside the weights.
    """
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / name
    if not folder.exists():
        unfinished = tmp_path_factory.mktemp(name)
        tiny_checkpoint(unfinished, name)
        # Another worker may have been faster.
        with suppress(OSError):
            unfinished.rename(folder)
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


@pytest.fixture(scope="session")
def rn50_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``clip_cn_rn50.pt``, the official file name, with random weights."""
    return full_size_checkpoint("RN50", tmp_path_factory)


@pytest.fixture(scope="session")
def vit_b_16_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``clip_cn_vit-b-16.pt``, the official file name, with random weights."""
    return full_size_checkpoint("ViT-B-16", tmp_path_factory)


@pytest.fixture(params=["tiny", pytest.param("ViT-B-16", marks=pytest.mark.integration)])
def documented_model(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The model name for running code of the documentation, in a temporary home directory.

    The small model replaces the name in the code; the full-size one is found by its official name.
    """
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("LLAMA_INDEX_CACHE_DIR", str(tmp_path / "cache"))
    if request.param == "tiny":
        return str(tiny_model)
    (tmp_path / ".cache").mkdir()
    weights = request.getfixturevalue("vit_b_16_root")
    (tmp_path / ".cache" / "clip").symlink_to(weights, target_is_directory=True)
    return "ViT-B-16"


@pytest.fixture(scope="session")
def needs_openvino() -> None:
    """Skips the test if OpenVINO is not installed."""
    if not has_openvino():
        pytest.skip("needs OpenVINO")


@pytest.fixture
def plain_nodes(photos: list[Path]) -> list[ImageNode]:
    """The photographs as nodes without captions and metadata; core ignores such nodes."""
    return [ImageNode(id_=photo.name, image_path=str(photo)) for photo in photos]


@pytest.fixture(scope="session")
def tiny_embedding(tiny_model: Path) -> ChineseClipEmbedding:
    """A small model with random weights, for tests that do not depend on what it finds."""
    return ChineseClipEmbedding(model_name=str(tiny_model), device="cpu")


@pytest.fixture(scope="session")
def demo_embedding() -> ChineseClipEmbedding:
    """The trained demo model, for tests that depend on what it finds."""
    return ChineseClipEmbedding(model_name=str(DEMO / "model"), device="cpu")


@pytest.fixture(scope="session")
def embedded_photos(
    demo_embedding: ChineseClipEmbedding, photos: list[Path], captions: dict[str, str]
) -> EmbeddedNodes:
    """The captioned photographs with their vectors, which many tests put into an index."""
    return embed_nodes(_captioned(photos, captions), demo_embedding)


@pytest.fixture
def photo_index(demo_embedding: ChineseClipEmbedding, embedded_photos: EmbeddedNodes) -> ImageIndex:
    """An index of the captioned photographs, in memory."""
    nodes = [node.model_copy() for node in embedded_photos]
    return build_index(nodes, embed_model=demo_embedding, caption_weight=embedded_photos.caption_weight)


@pytest.fixture(scope="session")
def file_server() -> Iterator[str]:
    """URL of a local HTTP server that serves the photographs."""

    class QuietHandler(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(PHOTOS)))
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def key() -> str:
    """An API key that is easy to find in texts where it must not occur."""
    return "0123456789abcdef.s3cr3tpart"


@pytest.fixture
def server() -> Iterator[MockGLMServer]:
    """A mock server of the GLM API."""
    with MockGLMServer() as running:
        yield running


@pytest.fixture
def ending_servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ends the mock servers of an example with the test; otherwise they would run until the process ends."""
    with ExitStack() as ends:
        monkeypatch.setattr(mock_server, "atexit", SimpleNamespace(register=ends.callback))
        yield


@pytest.fixture
def connect(server: MockGLMServer, key: str) -> Iterator[Callable[..., ZhipuMultiModal]]:
    """A function that creates clients of the mock server, which are closed after the test."""
    clients: list[ZhipuMultiModal] = []

    def build(**settings: Any) -> ZhipuMultiModal:
        clients.append(ZhipuMultiModal(**{"api_key": key, "api_base": server.url, **settings}))
        return clients[-1]

    yield build
    for client in clients:
        client.close()


@pytest.fixture
def llm(connect: Callable[..., ZhipuMultiModal]) -> ZhipuMultiModal:
    """A client of the mock server with default settings."""
    return connect()
