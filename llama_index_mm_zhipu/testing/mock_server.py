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
from llama_index_mm_zhipu.llm.api_style import Style
from llama_index_mm_zhipu.testing.answers import answer_to
from llama_index_mm_zhipu.testing.checks import check_key, check_request
from llama_index_mm_zhipu.testing.faults import ErrorAnswer, Fault
from llama_index_mm_zhipu.testing.http_server import Server
from llama_index_mm_zhipu.testing.openai_style import OpenAIRefusal, check_openai_request, openai_answer_to
from llama_index_mm_zhipu.testing.refusal import Refusal, bad_parameter, used_request_id
from llama_index_mm_zhipu.testing.wire import Answer, Reply


class GLMStandIn:
    """The server, as a context manager.

    Args:
        max_pictures: Pictures in one request that every model takes, instead of each model's own limit: 1 for
            deployments that take no more than is documented.
        max_tokens: Largest ``max_tokens`` that every model takes, instead of each model's own.
        latency: Seconds before each answer.
        api_style: ``"openai"`` for a server of one's own such as vLLM: it refuses fields and images of Zhipu's form.
        base_path: Path of the API; by default ``/api/paas/v4``, ``/v1`` for ``"openai"``.
        api_key: The only key that is taken; None for any, which Zhipu's API wants in two parts.
        flat_errors: Whether an ``"openai"`` server refuses in the form of vLLM before 0.10, ``{"object": "error", …}``.

    Attributes:
        url: What ``ZhipuMultiModal(api_base=…)`` takes.
        authorizations: Headers ``Authorization`` of the requests received, in order.
        requests: Parsed bodies of the requests received, in order.

    Examples:
        >>> from llama_index_mm_zhipu import ZhipuMultiModal
        >>> with GLMStandIn() as server:
        ...     answer = ZhipuMultiModal(api_key="id.secret", api_base=server.url).complete("你好")
        >>> "你好" in answer.text
        True
    """

    @explicit_arguments
    def __init__(
        self,
        *,
        max_pictures: int | None = None,
        max_tokens: int | None = None,
        latency: float = 0.0,
        api_style: Style = "glm",
        base_path: str | None = None,
        api_key: str | None = None,
        flat_errors: bool = False,
    ) -> None:
        self.authorizations: list[str | None] = []
        self.requests: list[dict[str, Any]] = []
        self._max_pictures = max_pictures
        self._max_tokens = max_tokens
        self._latency = latency
        self._is_openai = api_style == "openai"
        self._api_key = api_key
        self._flat_errors = flat_errors
        self._faults: deque[Fault | None] = deque()
        self._request_ids: set[str] = set()
        self._lock = threading.Lock()
        self._server = Server(self._respond, base_path or ("/v1" if self._is_openai else "/api/paas/v4"))
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
        fault, is_new = self._record(authorization, request)
        reply = fault.instead() or self._answer(authorization, request, is_new, fault)
        reply = fault.alter_reply(reply)
        return replace(reply, delay=reply.delay + self._latency)

    def _record(self, authorization: str | None, request: dict[str, Any]) -> tuple[Fault, bool]:
        """Record a request; return what is to happen to it, and whether its id is new."""
        request_id = request.get("request_id")
        is_new = True
        with self._lock:
            self.authorizations.append(authorization)
            self.requests.append(request)
            fault = self._faults.popleft() if self._faults else None
            if isinstance(request_id, str):
                is_new = request_id not in self._request_ids
                self._request_ids.add(request_id)
        return fault or Fault(), is_new

    def _answer(self, authorization: str | None, request: dict[str, Any], is_new: bool, fault: Fault) -> Reply:
        try:
            answer = self._checked_answer(authorization, request, is_new)
        except Refusal as refusal:
            return refusal.reply()
        return fault.alter_answer(answer).reply(stream=bool(request.get("stream")))

    def _checked_answer(self, authorization: str | None, request: dict[str, Any], is_new: bool) -> Answer:
        is_known = self._api_key is None or authorization == f"Bearer {self._api_key}"
        if self._is_openai:
            if not is_known:
                raise OpenAIRefusal(401, "Unauthorized", flat=self._flat_errors)
            check_openai_request(request, flat_errors=self._flat_errors)
            return openai_answer_to(request)
        if self._api_key is None or not is_known:
            check_key(authorization if is_known else "")
        check_request(request, max_pictures=self._max_pictures, max_tokens=self._max_tokens)
        if not is_new:
            raise used_request_id(request["request_id"])
        return answer_to(request)
