"""A mock server and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PIL import Image
from raw_client import Client, encoded

from llama_index_mm_zhipu.testing import MockGLMServer


@pytest.fixture
def server() -> Iterator[MockGLMServer]:
    """A mock server for one test."""
    with MockGLMServer() as running:
        yield running


@pytest.fixture
def client(server: MockGLMServer) -> Iterator[Client]:
    """A client of the mock server for one test."""
    own_client = Client(server)
    with own_client.http:
        yield own_client


@pytest.fixture(scope="module")
def shared() -> Iterator[Client]:
    """A client of a mock server that is shared by the tests of a module."""
    with MockGLMServer() as running:
        shared_client = Client(running)
        with shared_client.http:
            yield shared_client


@pytest.fixture(scope="session")
def red() -> str:
    """A red image in base64."""
    return encoded(Image.new("RGB", (30, 20), "red"))
