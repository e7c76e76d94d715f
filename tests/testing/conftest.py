"""A stand-in, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PIL import Image
from raw_client import Client, encoded

from llama_index_mm_zhipu.testing import MockGLMServer


@pytest.fixture
def server() -> Iterator[MockGLMServer]:
    """A stand-in of the test's own."""
    with MockGLMServer() as running:
        yield running


@pytest.fixture
def client(server: MockGLMServer) -> Iterator[Client]:
    """Asks the test's own stand-in."""
    asking = Client(server)
    with asking.http:
        yield asking


@pytest.fixture(scope="module")
def shared() -> Iterator[Client]:
    """Asks a stand-in that other tests of the module ask, too."""
    with MockGLMServer() as running:
        asking = Client(running)
        with asking.http:
            yield asking


@pytest.fixture(scope="session")
def red() -> str:
    """A red image in base64."""
    return encoded(Image.new("RGB", (30, 20), "red"))
