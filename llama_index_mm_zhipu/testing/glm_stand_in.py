"""A local HTTP server that answers as the GLM API does, for tests and for demos without a key.

It is no model: its answers are computed from what it was sent, its refusals carry the API's own codes and messages.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import replace
from types import TracebackType
from typing import Any

from llama_index_mm_zhipu.arguments import explicit_arguments
from llama_index_mm_zhipu.testing.answers import answer_to
from llama_index_mm_zhipu.testing.checks import check_key, check_request
from llama_index_mm_zhipu.testing.faults import ErrorAnswer, Fault
from llama_index_mm_zhipu.testing.http_server import Server
from llama_index_mm_zhipu.testing.refusal import Refusal, bad_parameter, used_request_id
from llama_index_mm_zhipu.testing.wire import Reply


class GLMStandIn:
    """The server, as a context manager.

    Args:
        max_pictures: Pictures in one request that every model takes, instead of each model's own limit: 1 for
            deployments that take no more than is documented.
        max_tokens: Largest ``max_tokens`` that every model takes, instead of each model's own.
        latency: Seconds before each answer.

    Attributes:
        url: What ``ZhipuMultiModal(api_base=…)`` takes.
        requests: Parsed bodies of the requests received, in order.

    Examples:
        >>> from llama_index_mm_zhipu import ZhipuMultiModal
        >>> with GLMStandIn() as server:
        ...     answer = ZhipuMultiModal(api_key="id.secret", api_base=server.url).complete("你好")
        >>> "你好" in answer.text
        True
    """

    @explicit_arguments
    def __init__(self, *, max_pictures: int | None = None, max_tokens: int | None = None, latency: float = 0.0) -> None:
        self.requests: list[dict[str, Any]] = []
        self._max_pictures = max_pictures
        self._max_tokens = max_tokens
        self._latency = latency
        self._faults: deque[Fault | None] = deque()
        self._request_ids: set[str] = set()
        self._lock = threading.Lock()
        self._server = Server(self._respond)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
        self.url = self._server.url

    def __enter__(self) -> GLMStandIn:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._thread.join()

    @property
    def connections(self) -> int:
        """TCP connections accepted so far."""
        return self._server.connections

    @property
    def open_connections(self) -> int:
        """TCP connections that are open now."""
        return self._server.open_connections

    def script(self, *faults: Fault | None) -> None:
        """Say what happens to the next requests, one after the other; then all is normal again.

        Args:
            faults: One for each request; None for a normal answer.
        """
        with self._lock:
            self._faults.extend(faults)

    def fail_next(self, status: int, code: str, message: str, *, times: int = 1) -> None:
        """Answer the next requests with an error, whatever they ask: short for ``script(ErrorAnswer(…))``.

        Args:
            status: HTTP status.
            code: Business code.
            message: The API's message.
            times: How many requests.
        """
        self.script(*[ErrorAnswer(status, code, message)] * times)

    def _respond(self, authorization: str | None, body: bytes) -> Reply:
        try:
            request = json.loads(body)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return bad_parameter().reply()
        fault, is_new = self._record(request)
        reply = fault.instead() or self._answer(authorization, request, is_new, fault)
        reply = fault.alter_reply(reply)
        return replace(reply, delay=reply.delay + self._latency)

    def _record(self, request: dict[str, Any]) -> tuple[Fault, bool]:
        """Record a request; return what is to happen to it, and whether its id is new."""
        request_id = request.get("request_id")
        is_new = True
        with self._lock:
            self.requests.append(request)
            fault = self._faults.popleft() if self._faults else None
            if isinstance(request_id, str):
                is_new = request_id not in self._request_ids
                self._request_ids.add(request_id)
        return fault or Fault(), is_new

    def _answer(self, authorization: str | None, request: dict[str, Any], is_new: bool, fault: Fault) -> Reply:
        try:
            check_key(authorization)
            check_request(request, max_pictures=self._max_pictures, max_tokens=self._max_tokens)
            if not is_new:
                raise used_request_id(request["request_id"])
        except Refusal as refusal:
            return refusal.reply()
        return fault.alter_answer(answer_to(request)).reply(stream=bool(request.get("stream")))
