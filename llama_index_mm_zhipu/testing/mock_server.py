"""``MockGLMServer``: a local HTTP server that answers like the GLM API, for tests and for demos without an API key.

The package has a server of its own, instead of patches of its client, because tests must cover what lies below the
client: real connections that break, stall or trickle, events that are cut anywhere, compressed bodies. The server
records what it was sent, refuses what the API refuses with the API's codes and messages, and computes answers from the
request without a model.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from types import TracebackType
from typing import Any

from llama_index_mm_zhipu.arguments import explicit_arguments
from llama_index_mm_zhipu.llm import ZhipuMultiModal
from llama_index_mm_zhipu.llm.endpoint import Style, key_variable, without_credentials
from llama_index_mm_zhipu.llm.layout_parsing import PATH as LAYOUT_PARSING
from llama_index_mm_zhipu.llm.transport import CHAT
from llama_index_mm_zhipu.testing.answers import answer_to, openai_answer_to
from llama_index_mm_zhipu.testing.checks import check_key, check_openai_request, check_request
from llama_index_mm_zhipu.testing.faults import ErrorAnswer, Fault
from llama_index_mm_zhipu.testing.layout import LayoutRule, elements_of, layout_answer_to
from llama_index_mm_zhipu.testing.wire import (
    Answer,
    Finish,
    OpenAIRefusal,
    Refusal,
    Reply,
    bad_parameter,
    json_reply,
    used_request_id,
)


class MockGLMServer:
    """A mock of the GLM API on a free port of 127.0.0.1; it serves inside a ``with`` block.

    Args:
        max_images: Maximum number of images in a request, for all models. The default is the limit of each model; 1
            mimics deployments that accept no more than the documented single image.
        max_tokens: Maximum ``max_tokens`` for all models. The default is the limit of each model.
        latency: Seconds before each answer.
        api_style: ``"glm"`` for Zhipu's API, ``"openai"`` for a self-hosted server such as vLLM, which refuses fields
            and images in Zhipu's form.
        base_path: Path of the API. The default is ``/api/paas/v4``, or ``/v1`` for ``"openai"``.
        api_key: The only API key that is accepted. By default any key is, with ``"glm"`` any of two parts.
        flat_errors: Whether errors of an ``"openai"`` server have the form of vLLM before 0.10,
            ``{"object": "error", …}``.
        synonyms: Search words by the words that questions use for them, such as ``{"没气": ["胎压", "充气"]}``. The
            answer to the prompt of ``QueryRewriter`` are those of all words that the question contains.
        layout: What GLM-OCR (``layout_parsing``) reads on a page: returns its elements as the API describes them. By
            default they are the lines of the text layer of a PDF page, else a description of the image.

    Attributes:
        url: Base URL for ``ZhipuMultiModal(api_base=…)``.
        authorizations: ``Authorization`` headers of all requests, in order.
        requests: Parsed bodies of all requests, in order.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer
        >>> with MockGLMServer(max_images=1) as server:
        ...     llm = ZhipuMultiModal(api_key="id.secret", api_base=server.url)
        ...     answer = llm.complete("你好")
        ...     server.requests[0]["model"], server.requests[0]["messages"][0]["content"]
        ('glm-4v-flash', '你好')
        >>> answer.text.splitlines()[0]
        '（本地模拟服务，不是模型）问题：你好'
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
        synonyms: Mapping[str, Sequence[str]] | None = None,
        layout: LayoutRule = elements_of,
    ) -> None:
        self.authorizations: list[str | None] = []
        self.requests: list[dict[str, Any]] = []
        self._max_images = max_images
        self._max_tokens = max_tokens
        self._latency = latency
        self._is_openai = api_style == "openai"
        self._api_key = api_key
        self._flat_errors = flat_errors
        self._synonyms = synonyms
        self._layout = layout
        self._faults: deque[Fault | None] = deque()
        self._request_ids: set[str] = set()
        self._lock = threading.Lock()
        self._server = _Server(self._respond, base_path or ("/v1" if self._is_openai else "/api/paas/v4"))
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
        """Script what happens to the next requests; requests after these are answered normally.

        Args:
            *faults: One fault per request, in order; None for a normal answer.

        Examples:
            >>> from llama_index_mm_zhipu.testing import Cut, MockGLMServer
            >>> with MockGLMServer() as server:
            ...     server.script(Cut(), None)
            ...     llm = ZhipuMultiModal(api_base=server.url, max_retries=1)
            ...     llm.complete("你好").raw["model"], len(server.requests)
            ('glm-4v-flash', 2)
        """
        with self._lock:
            self._faults.extend(faults)

    def fail_next(self, status: int, code: str, message: str, *, times: int = 1) -> None:
        """Answer the next requests with an error: a shortcut for ``script(ErrorAnswer(…))``.

        Args:
            status: HTTP status.
            code: Business code of the API.
            message: Message of the API.
            times: Number of requests.

        Examples:
            >>> from llama_index_mm_zhipu.testing import MockGLMServer
            >>> with MockGLMServer() as server:
            ...     server.fail_next(401, "1000", "身份验证失败")
            ...     try:
            ...         ZhipuMultiModal(api_base=server.url).complete("你好")
            ...     except GLMError as error:
            ...         print(error.code, error.http_status)
            1000 401
        """
        self.script(*[ErrorAnswer(status, code, message)] * times)

    def _respond(self, path: str, authorization: str | None, body: bytes) -> Reply | None:
        """Return the reply to a request, or None if the API has no such path."""
        if path != CHAT and (path != LAYOUT_PARSING or self._is_openai):
            return None
        try:
            request = json.loads(body)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return bad_parameter().reply()
        fault, is_new = self._record(authorization, request)
        answer = self._layout_answer if path == LAYOUT_PARSING else self._answer
        reply = fault.instead() or answer(authorization, request, is_new, fault)
        reply = fault.alter_reply(reply)
        return replace(reply, delay=reply.delay + self._latency)

    def _record(self, authorization: str | None, request: dict[str, Any]) -> tuple[Fault, bool]:
        """Record a request; return the fault that is scripted for it, and whether its ``request_id`` is new."""
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
        if self._is_openai:
            if self._api_key is not None and authorization != f"Bearer {self._api_key}":
                raise OpenAIRefusal(401, "Unauthorized", flat=self._flat_errors)
            check_openai_request(request, flat_errors=self._flat_errors)
            return openai_answer_to(request, self._synonyms)
        self._check_key(authorization)
        check_request(request, max_images=self._max_images, max_tokens=self._max_tokens)
        if not is_new:
            raise used_request_id(request["request_id"])
        return answer_to(request, self._synonyms)

    def _layout_answer(self, authorization: str | None, request: dict[str, Any], is_new: bool, fault: Fault) -> Reply:
        try:
            self._check_key(authorization)
            answer = layout_answer_to(request, self._layout)
            if not is_new:
                raise used_request_id(request["request_id"])
        except Refusal as refusal:
            return refusal.reply()
        return json_reply(200, answer)

    def _check_key(self, authorization: str | None) -> None:
        is_known = self._api_key is None or authorization == f"Bearer {self._api_key}"
        if self._api_key is None or not is_known:
            check_key(authorization if is_known else "")


def connect_glm(model: str = "glm-4v-flash", *, synonyms: Mapping[str, Sequence[str]] | None = None) -> ZhipuMultiModal:
    """Connect to Zhipu's API if the environment has an API key, else to a mock server; print which one.

    Args:
        model: Name of the model.
        synonyms: As in ``MockGLMServer``.

    Returns:
        A client. The mock server runs until the process ends.

    Examples:
        >>> from llama_index_mm_zhipu.testing import connect_glm
        >>> llm = connect_glm("glm-4v-flash")
        Asking glm-4v-flash at http://127.0.0.1:.../api/paas/v4.
    """
    if key_variable() is not None:
        llm = ZhipuMultiModal(model)
        print(f"Asking {llm.model} at {without_credentials(llm.api_base)}.")
        return llm
    print("ZHIPUAI_API_KEY is not set: asking the local mock server, which describes what it was sent.")
    return mock_glm(model, synonyms=synonyms)


def mock_glm(model: str = "glm-4v-flash", *, synonyms: Mapping[str, Sequence[str]] | None = None) -> ZhipuMultiModal:
    """Start a mock server that runs until the process ends, and connect to it.

    Args:
        model: Name of the model.
        synonyms: As in ``MockGLMServer``.
    """
    server = MockGLMServer(synonyms=synonyms)
    server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    return ZhipuMultiModal(model, api_key="demo.key", api_base=server.url)


# HTTP

Respond = Callable[[str, str | None, bytes], "Reply | None"]
"""Computes the reply from the path below the base path, the ``Authorization`` header and the body of a request."""

# SO_LINGER with a timeout of zero: closing the socket resets the connection.
_NO_LINGER = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class _Server(ThreadingHTTPServer):
    """An HTTP server with a thread per connection, which counts its connections and can close them all.

    Attributes:
        respond: Computes replies.
        base_path: Path of the API, below which its parts are.
        connections: TCP connections accepted so far.
    """

    # With the default of 5, the sixth of many simultaneous connections waits a second.
    request_queue_size = 256

    def __init__(self, respond: Respond, base_path: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.respond = respond
        self.base_path = base_path
        self.connections = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._handlers: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """Base URL of the API."""
        return f"http://127.0.0.1:{self.server_port}{self.base_path}"

    @property
    def open_connections(self) -> int:
        """TCP connections that are open now."""
        with self._lock:
            return len(self._open)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a new connection in a thread that ``close`` joins."""
        # Daemon threads, so that an open connection does not keep a program from exiting. The base class keeps no
        # list of daemon threads, and ``close`` has to join them.
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        with self._lock:
            self.connections += 1
            self._open.add(request)
            self._handlers = [*(handler for handler in self._handlers if handler.is_alive()), thread]
            thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection without the base class's shutdown, which would prevent a reset."""
        with self._lock:
            self._open.discard(request)
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print unexpected errors; an ``OSError`` only means that the client has closed the connection."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Stop accepting connections, close all that are open, and join their threads."""
        self.shutdown()
        self.server_close()
        with self._lock:
            for connection in self._open:
                # Wakes the thread that reads or writes. Fails where the client has closed the connection already.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._handlers:
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Serves the requests of one connection."""

    server: _Server
    protocol_version = "HTTP/1.1"
    # Headers and body are sent in two writes. Nagle's algorithm would delay the second one by 40 ms.
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Answer a request to a path that exists."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        base, path = f"{self.server.base_path}/", self.path
        authorization = self.headers.get("Authorization")
        reply = self.server.respond(path.removeprefix(base), authorization, body) if path.startswith(base) else None
        if reply is None:
            self._refuse_path()
        else:
            self._send(reply)

    def do_GET(self) -> None:
        """Refuse any GET request."""
        self._refuse_path()

    def log_message(self, *args: object) -> None:
        """Log nothing."""

    def _refuse_path(self) -> None:
        self._send(Refusal(404, "1222", f"API {self.path} 不存在").reply())

    def _send(self, reply: Reply) -> None:
        if self._wait(reply.delay) and self._sends_pieces(reply):
            self._finish(reply)
        else:
            self.close_connection = True

    def _sends_pieces(self, reply: Reply) -> bool:
        """Send headers and pieces; return whether the client received all of them."""
        if reply.begins:
            self._send_head(reply)
        for number, piece in enumerate(chain(reply.pieces, repeat(reply.endless) if reply.endless else ())):
            if number and not self._wait(reply.pause):
                return False
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if reply.is_stream else piece)
        return True

    def _send_head(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        if reply.length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(reply.length))
        if reply.content_encoding is not None:
            self.send_header("Content-Encoding", reply.content_encoding)
        if reply.retry_after is not None:
            self.send_header("Retry-After", str(reply.retry_after))
        if reply.finish is Finish.CLOSE:
            self.send_header("Connection", "close")
        self.end_headers()

    def _finish(self, reply: Reply) -> None:
        if reply.finish in (Finish.KEEP, Finish.CLOSE):
            if reply.is_stream:
                self.wfile.write(b"0\r\n\r\n")
        elif reply.finish is Finish.STALL:
            self._wait(None)
        elif reply.finish is Finish.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        if reply.finish is not Finish.KEEP:
            self.close_connection = True

    def _wait(self, seconds: float | None) -> bool:
        """Wait until the time is over or the client closes the connection; return whether it is still open."""
        if seconds == 0:
            return True
        self.connection.settimeout(seconds)
        try:
            # A client sends nothing before it has the reply, so the socket becomes readable only when it is closed.
            return bool(self.connection.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            return True
        finally:
            self.connection.settimeout(None)
