"""A local HTTP server that answers as the GLM API does, for tests and for demos without a key.

It is no model: its answers are computed from what it was sent, its refusals carry the API's own codes and messages.
"""

from __future__ import annotations

import atexit
import json
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from types import TracebackType
from typing import Any

from llama_index_mm_zhipu.arguments import explicit_arguments
from llama_index_mm_zhipu.llm import ZhipuMultiModal
from llama_index_mm_zhipu.llm.endpoint import Style, has_key_in_environment, without_credentials
from llama_index_mm_zhipu.testing.answers import answer_to
from llama_index_mm_zhipu.testing.checks import check_key, check_request
from llama_index_mm_zhipu.testing.faults import ErrorAnswer, Fault
from llama_index_mm_zhipu.testing.http_server import Server
from llama_index_mm_zhipu.testing.wire import (
    Answer,
    Refusal,
    Reply,
    bad_parameter,
    decode_image,
    is_address,
    joined,
    json_reply,
    parts_of,
    used_request_id,
)

_FIELDS = {
    "chat_template_kwargs",
    "frequency_penalty",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "reasoning_effort",
    "repetition_penalty",
    "response_format",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
    "user",
}
_PART_TYPES = ("text", "image_url", "video_url")
_DATA_URIS = tuple(f"data:image/{kind};base64," for kind in ("jpeg", "png"))


class OpenAIRefusal(Refusal):
    """An error answer of such a server.

    Args:
        status: HTTP status, which is the code as well.
        message: What is wrong.
        flat: Whether it has the form of vLLM before 0.10, ``{"object": "error", …}``.
    """

    def __init__(self, status: int, message: str, *, flat: bool) -> None:
        super().__init__(status, str(status), message)
        self._flat = flat

    def reply(self) -> Reply:
        """Return how it is sent."""
        error = {"message": self.message, "type": "BadRequestError", "param": None, "code": self.status}
        return json_reply(self.status, {"object": "error", **error} if self._flat else {"error": error})


@dataclass(frozen=True)
class OpenAIAnswer(Answer):
    """An answer in OpenAI's form.

    Attributes:
        include_usage: Whether a stream has an event with the usage, which then comes last and has no choices.
    """

    include_usage: bool = False

    def whole(self) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        message = {"reasoning_content": None, "tool_calls": [], **joined(self.deltas)}
        calls = [{key: call[key] for key in ("id", "type", "function")} for call in message["tool_calls"]]
        message |= {"content": message["content"] or None if calls else message["content"], "tool_calls": calls}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        return {
            **self._head("chat.completion"),
            "choices": [choice] if self.has_choices else [],
            "usage": self.usage,
        }

    def events(self) -> Iterator[dict[str, Any]]:
        """Return the events of a stream."""
        head = self._head("chat.completion.chunk")
        if self.has_choices:
            deltas = ({"role": "assistant", "content": ""}, *self.deltas)
            for delta in deltas:
                yield {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]}
            last = {"index": 0, "delta": {"content": None}, "finish_reason": self.finish_reason, "stop_reason": None}
            yield {**head, "choices": [last]}
        if self.include_usage:
            yield {**head, "choices": [], "usage": self.usage}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.id}", "object": kind, "created": self.created, "model": self.model}


def openai_answer_to(request: dict[str, Any]) -> OpenAIAnswer:
    """Compute the answer to a request that has been checked."""
    answer = answer_to({**request, "messages": [_with_raw_images(message) for message in request["messages"]]})
    return OpenAIAnswer(
        **{part.name: getattr(answer, part.name) for part in fields(answer)},
        include_usage=bool((request.get("stream_options") or {}).get("include_usage")),
    )


def check_openai_request(request: dict[str, Any], *, flat_errors: bool) -> None:
    """Check the body of a request.

    Args:
        request: The body.
        flat_errors: Whether refusals have the older form.

    Raises:
        OpenAIRefusal: The server would not take it.
    """
    for what in _problems(request):
        raise OpenAIRefusal(400, what, flat=flat_errors)


def _problems(request: dict[str, Any]) -> Iterator[str]:
    for name in sorted(set(request) - _FIELDS):
        yield f"[{{'type': 'extra_forbidden', 'loc': ('body', '{name}'), 'msg': 'Extra inputs are not permitted'}}]"
    if request.get("stream_options") and not request.get("stream"):
        yield "Stream options can only be defined when `stream=True`."
    if not isinstance(request.get("model"), str) or not request.get("messages"):
        yield "[{'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required'}]"
    for part in (part for message in request["messages"] for part in parts_of(message)):
        if part["type"] not in _PART_TYPES:
            yield f"Unknown part type: {part['type']}"
        if part["type"] == "image_url":
            yield from _problems_of_image(part["image_url"]["url"])


def _problems_of_image(url: str) -> Iterator[str]:
    if is_address(url):
        return
    if not url.startswith(_DATA_URIS):
        yield "The URL must be either a HTTP, data or file URL."
    try:
        decode_image(_raw(url))
    except ValueError:
        yield "cannot identify image file"


def _with_raw_images(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message with images as Zhipu's API takes them, which are then described."""
    parts = [
        {**part, "image_url": {"url": _raw(part["image_url"]["url"])}} if part["type"] == "image_url" else part
        for part in parts_of(message)
    ]
    return {**message, "content": parts}


def _raw(url: str) -> str:
    return url.partition(",")[2] if url.startswith("data:") else url


class MockGLMServer:
    """The server, as a context manager.

    Args:
        max_images: Images in one request that every model takes, instead of each model's own limit: 1 for
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
        >>> with MockGLMServer() as server:
        ...     answer = ZhipuMultiModal(api_key="id.secret", api_base=server.url).complete("你好")
        >>> "你好" in answer.text
        True
    """

    @explicit_arguments
    def __init__(
        self,
        *,
        max_images: int | None = None,
        max_tokens: int | None = None,
        latency: float = 0.0,
        api_style: Style = "glm",
        base_path: str | None = None,
        api_key: str | None = None,
        flat_errors: bool = False,
    ) -> None:
        self.authorizations: list[str | None] = []
        self.requests: list[dict[str, Any]] = []
        self._max_images = max_images
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

    def __enter__(self) -> MockGLMServer:
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
        check_request(request, max_images=self._max_images, max_tokens=self._max_tokens)
        if not is_new:
            raise used_request_id(request["request_id"])
        return answer_to(request)


def connect_glm(model: str = "glm-4v-flash") -> ZhipuMultiModal:
    """Connect to Zhipu's API if there is a key in the environment, else to a stand-in on this machine; print which.

    Args:
        model: That answers.

    Returns:
        A client; the stand-in runs until the process ends.
    """
    if has_key_in_environment():
        llm = ZhipuMultiModal(model)
        print(f"Asking {llm.model} at {without_credentials(llm.api_base)}.")
        return llm
    server = MockGLMServer()
    server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    print("ZHIPUAI_API_KEY is not set: asking the local stand-in, which describes what it was sent.")
    return ZhipuMultiModal(model, api_key="demo.key", api_base=server.url)
