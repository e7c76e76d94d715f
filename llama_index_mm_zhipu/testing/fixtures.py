"""A pytest plugin; ``conftest.py`` loads it with ``pytest_plugins = ["llama_index_mm_zhipu.testing.fixtures"]``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llama_index_mm_zhipu.testing.mock_server import MockGLMServer


@pytest.fixture
def mock_glm_server() -> Iterator[MockGLMServer]:
    """A running mock of the GLM API, a new one for each test.

    Examples:
        >>> def test_greeting(mock_glm_server):
        ...     llm = ZhipuMultiModal(api_key="id.secret", api_base=mock_glm_server.url)
        ...     assert "你好" in llm.complete("你好").text
        ...     assert len(mock_glm_server.requests) == 1
    """
    with MockGLMServer() as running:
        yield running
