"""Pytest fixtures: ``pytest_plugins = ["llama_index_mm_zhipu.testing.fixtures"]`` in a ``conftest.py``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llama_index_mm_zhipu.testing.mock_server import GLMStandIn


@pytest.fixture
def glm_stand_in() -> Iterator[GLMStandIn]:
    """A running stand-in for the GLM API, a new one for each test."""
    with GLMStandIn() as running:
        yield running
