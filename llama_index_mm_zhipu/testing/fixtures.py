"""Pytest fixtures: ``pytest_plugins = ["llama_index_mm_zhipu.testing.fixtures"]`` in a ``conftest.py``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llama_index_mm_zhipu.testing.mock_server import MockGLMServer


@pytest.fixture
def mock_glm_server() -> Iterator[MockGLMServer]:
    """A running stand-in for the GLM API, a new one for each test."""
    with MockGLMServer() as running:
        yield running
