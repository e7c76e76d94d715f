"""Fixtures for tests of the LLM: the four ways to ask, and no learned limits from other tests."""

from __future__ import annotations

import pytest
from tenacity import wait_none
from ways import WAYS, Way

from llama_index_mm_zhipu.llm import client, requests


@pytest.fixture(params=WAYS, ids=["sync", "sync-stream", "async", "async-stream"])
def way(request: pytest.FixtureRequest) -> Way:
    """Each of the four ways to ask."""
    return request.param


@pytest.fixture(autouse=True)
def _reset_learned_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_learned", {})


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries do not wait, except for ``Retry-After``."""
    monkeypatch.setattr(client, "BACKOFF", wait_none())
