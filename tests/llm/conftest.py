"""A stand-in for the API, and clients of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tenacity import wait_none
from ways import WAYS, Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import limits, retries
from llama_index_mm_zhipu.testing import GLMStandIn


@pytest.fixture(params=WAYS, ids=["sync", "sync-stream", "async", "async-stream"])
def way(request: pytest.FixtureRequest) -> Way:
    """Each of the four ways to ask."""
    return request.param


@pytest.fixture(autouse=True)
def _forget_learned_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_learned", {})


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further tries come at once, but for what ``Retry-After`` asks."""
    monkeypatch.setattr(retries, "BACKOFF", wait_none())


@pytest.fixture
def key() -> str:
    """An API key whose parts are easily found where they must not be."""
    return "0123456789abcdef.s3cr3tpart"


@pytest.fixture
def server() -> Iterator[GLMStandIn]:
    """The API on loopback."""
    with GLMStandIn() as running:
        yield running


@pytest.fixture
def connect(server: GLMStandIn, key: str) -> Iterator[Callable[..., ZhipuMultiModal]]:
    """Builds clients of the stand-in, and closes them."""
    clients: list[ZhipuMultiModal] = []

    def build(**settings: Any) -> ZhipuMultiModal:
        clients.append(ZhipuMultiModal(**{"api_key": key, "api_base": server.url, **settings}))
        return clients[-1]

    yield build
    for client in clients:
        client.close()


@pytest.fixture
def llm(connect: Callable[..., ZhipuMultiModal]) -> ZhipuMultiModal:
    """A client of the stand-in with default settings."""
    return connect()
