"""Counters of the server in the format of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "mmzhipu_requests", "Requests by endpoint and status.", ["endpoint", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "mmzhipu_seconds",
            "Duration of work in seconds: search, ask (to the end of the answer), index.",
            ["work"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._images = Gauge("mmzhipu_images", "Images in the index.", registry=self._registry)
        self._chats = Gauge("mmzhipu_chats", "Conversations that are kept.", registry=self._registry)

    def count_request(self, endpoint: str, status: int) -> None:
        """Count a request.

        Args:
            endpoint: Path of its route without parameters, such as ``/api/images``.
            status: Status of the response.
        """
        self._requests.labels(endpoint, str(status)).inc()

    @contextmanager
    def timed(self, work: str) -> Iterator[None]:
        """Measure a block.

        Args:
            work: What it does.
        """
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds.labels(work).observe(time.perf_counter() - started)

    def text(self, *, images: int | None, chats: int) -> bytes:
        """Return all counters as text.

        Args:
            images: Number of images in the index; None if that is not known.
            chats: Number of conversations.
        """
        if images is not None:
            self._images.set(images)
        self._chats.set(chats)
        return generate_latest(self._registry)
