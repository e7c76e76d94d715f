"""HTTP to the GLM API: sends one request, reads its answer whole or as a stream, and translates failures."""

from __future__ import annotations

import asyncio
import json
import re
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, TypeVar

import httpx

from llama_index_mm_zhipu.concurrency import start_when_collected
from llama_index_mm_zhipu.images.fetch import tls_context
from llama_index_mm_zhipu.llm.endpoint import Style, mask_secrets, openai_body, secrets_of, split_credentials
from llama_index_mm_zhipu.llm.errors import (
    GLMConnectionError,
    GLMError,
    GLMProtocolError,
    GLMTimeoutError,
    error_from_answer,
    is_error,
    new_error,
)
from llama_index_mm_zhipu.llm.sse import (
    MAX_BYTES,
    EventReader,
    LineSplitter,
    parse_in_thread_if_long,
    parse_json,
    parse_object,
    too_long,
)

Body = dict[str, Any]
T = TypeVar("T")

CHAT = "chat/completions"
"""Path of chats below the URL of the API."""

_CONNECT_SECONDS = 15.0
_IDLE_SECONDS = 30.0
# httpcore looks at every idle connection for every request: with fifty of them, many concurrent calls are three times
# slower.
_IDLE_CONNECTIONS = 20
# Only the end of the body follows ``[DONE]``. Reading it allows the connection to be reused.
_DRAIN_SECONDS = 1.0

# All calls share the event loop, which handles this much of one answer before it serves the others.
_SLICE_BYTES = 16 * 1024
# The encodings that can be decompressed in slices. httpx decompresses a whole chunk at once, to up to a thousand times
# its size.
_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "gzip, deflate"}

_ZHIPU_KEY = re.compile(r"[^.]+\.[^.]+")

# RuntimeError: while the interpreter shuts down, no thread can be started to resolve host names.
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, RuntimeError)


class Transport:
    """Connections to one deployment of the API. All coroutines run on the background loop of ``concurrency``.

    Args:
        api_key: Key of any form.
        api_base: URL of the API, without the path of its parts. A user and password in it are sent in the header
            ``Authorization`` instead of the key.
        timeout: Seconds to wait for each part of an answer.
        style: Form of requests.
        require_finish_reason: Whether a stream that ends in ``[DONE]`` without a ``finish_reason`` is an error.
    """

    def __init__(
        self, api_key: str, api_base: str, timeout: float, *, style: Style, require_finish_reason: bool
    ) -> None:
        # Without credentials, because httpx logs the URL of every request.
        url, login = split_credentials(api_base)
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._style = style
        self._require_finish_reason = require_finish_reason
        reason = ""
        try:
            self._headers = {**_credentials(api_key, url, style), **_HEADERS}
            self._client = _new_client(timeout, login)
        except (httpx.InvalidURL, ImportError, OSError, ValueError) as error:
            reason = mask_secrets(f"{type(error).__name__}: {error}", secrets_of(api_key, api_base))
        # Raised outside of the except block, so that the error has no context that may quote the key.
        if reason:
            raise GLMConnectionError(
                f"no connection to the GLM API ({reason}); check the environment's proxy and certificate settings"
            )
        # The loop refers to open sockets, which would stay open when the transport is garbage-collected.
        start_when_collected(self, self._client.aclose)

    async def post(self, body: Body, read: Callable[[Body], T], path: str = CHAT) -> T:
        """Send a request and return what ``read`` makes of the answer.

        Args:
            body: The request.
            read: Converts the parsed answer. Called in a thread if the answer is long.
            path: Path of the part of the API, below its URL.

        Raises:
            GLMError: The request failed.
        """
        try:
            response = await self._client.send(self._request(body, path), stream=True)
            try:
                return await _read_answer(response, read)
            finally:
                await response.aclose()
        except _FAILURES as error:
            translated = _translation(error)
        # Raised outside of the except block: the error's context would refer to the request, with key and images.
        raise translated()

    async def events(self, body: Body, read: Callable[[Body], T]) -> AsyncGenerator[T, None]:
        """Send a request and yield what ``read`` makes of each event. The connection is released however this ends.

        Args:
            body: The request.
            read: Converts a parsed event. Called in a thread if the event is long.

        Raises:
            GLMError: The request failed, or the stream ended before the answer was complete.
        """
        try:
            response = await self._client.send(self._request(body, CHAT), stream=True)
            try:
                if not _is_event_stream(response):
                    raise await _not_a_stream(response)
                async for event in self._events(response, read):
                    yield event
                return
            finally:
                await response.aclose()
        except _FAILURES as error:
            translated = _translation(error)
        raise translated()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _events(self, response: httpx.Response, read: Callable[[Body], T]) -> AsyncGenerator[T, None]:
        reader = EventReader(response.status_code, require_finish_reason=self._require_finish_reason)
        batches = _lines(response)
        last_event = time.monotonic()
        try:
            async for lines in batches:
                for line in lines:
                    event = await parse_in_thread_if_long(partial(_read_line, reader, read), line)
                    if event is not None:
                        yield event
                        last_event = time.monotonic()
                    if reader.done:
                        break
                if reader.done:
                    with suppress(asyncio.TimeoutError, httpx.HTTPError, GLMError):
                        await asyncio.wait_for(_drain(batches), _DRAIN_SECONDS)
                    break
                # httpx's timeout restarts with every byte, also of an endless line or of keep-alive comments.
                if time.monotonic() - last_event > self._timeout:
                    raise new_error(GLMTimeoutError, f"the GLM API sent no event for {self._timeout:g} s")
        except (httpx.HTTPError, GLMConnectionError):
            # A complete answer is kept, even if the end of its stream is broken.
            if not reader.finished:
                raise
        reader.check_complete()

    def _request(self, body: Body, path: str) -> httpx.Request:
        if self._client.is_closed:
            raise GLMConnectionError("the client was closed during this call; the next call opens new connections")
        sent = openai_body(body) if self._style == "openai" else body
        return self._client.build_request("POST", f"{self._url}/{path}", content=_as_json(sent), headers=self._headers)


def _credentials(api_key: str, api_base: str, style: Style) -> dict[str, str]:
    """Return the header with the key, which the SDK turns into a token if the key has two parts."""
    if style == "openai" or not _ZHIPU_KEY.fullmatch(api_key):
        return {"Authorization": f"Bearer {api_key}"}
    from zhipuai import ZhipuAI

    # Without this client, the SDK would create one that reads the certificates again. Nothing is sent through it.
    unused = httpx.Client(verify=tls_context(), trust_env=False)
    sdk = ZhipuAI(api_key=api_key, base_url=api_base, max_retries=0, http_client=unused)
    try:
        return dict(sdk.auth_headers)
    finally:
        sdk.close()


def _new_client(timeout: float, login: tuple[str, str] | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        auth=login,
        verify=tls_context(),
        timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)),
        limits=httpx.Limits(
            max_connections=None, max_keepalive_connections=_IDLE_CONNECTIONS, keepalive_expiry=_IDLE_SECONDS
        ),
    )


def _as_json(body: Body) -> bytes:
    try:
        # As ASCII, because text with half a surrogate pair cannot be encoded as UTF-8.
        return json.dumps(body, allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the request cannot be sent as JSON: {error}; check its parameters and tools") from None


def _is_event_stream(response: httpx.Response) -> bool:
    return response.status_code == 200 and "text/event-stream" in response.headers.get("content-type", "").lower()


async def _not_a_stream(response: httpx.Response) -> GLMError:
    """Return or raise the error for an answer that is not a stream: the API's own error, if it is one."""
    await _read_answer(response, bool)
    return new_error(GLMProtocolError, "the GLM API answered a streaming request without a stream")


async def _lines(response: httpx.Response) -> AsyncGenerator[list[bytes], None]:
    """Yield the lines that end in each slice of a stream, which may be none.

    Event streams are UTF-8, whatever charset their header declares (HTML standard, 9.2.5).
    """
    splitter = LineSplitter()
    async for data in slices(response):
        yield splitter.split(data)
    # The empty line ends the last event, which may have none after it.
    yield [splitter.last(), b""]


def _read_line(reader: EventReader, read: Callable[[Body], T], line: bytes) -> T | None:
    event = reader.read(line.decode("utf-8", "replace"))
    return None if event is None else read(event)


async def _drain(batches: AsyncIterator[list[bytes]]) -> None:
    async for _ in batches:
        pass


async def _read_answer(response: httpx.Response, read: Callable[[Body], T]) -> T:
    def work(data: bytes) -> T:
        if response.status_code != 200:
            raise error_from_answer(response.status_code, parse_json(data), _retry_after(response))
        body = parse_object(data)
        if is_error(body):
            raise error_from_answer(response.status_code, body, _retry_after(response))
        return read(body)

    return await parse_in_thread_if_long(work, await _read_body(response))


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds of ``Retry-After``, which holds a number or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "")
    try:
        seconds = float(value) if value.isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError):
        return None
    return max(0.0, seconds)


async def _read_body(response: httpx.Response) -> bytes:
    """Return the decompressed body.

    Raises:
        GLMError: The body is longer than ``MAX_BYTES`` or cannot be decompressed.
    """
    pieces = []
    length = 0
    async for piece in slices(response):
        pieces.append(piece)
        length += len(piece)
        if length > MAX_BYTES:
            raise too_long("an answer")
    return b"".join(pieces)


async def slices(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Yield the decompressed body of a response that was opened with ``stream=True``. Other calls run in between.

    Raises:
        GLMError: The body is damaged, or its encoding was not asked for.
    """
    unpack = _unpacker(response.headers.get("content-encoding", ""))
    async for data in response.aiter_raw():
        for number, piece in enumerate(unpack(data)):
            if number:
                await asyncio.sleep(0)
            yield piece


def _unpacker(content_encoding: str) -> Callable[[bytes], Iterator[bytes]]:
    names = [name.strip().lower() for name in content_encoding.split(",")]
    names = [name for name in names if name not in ("", "identity")]
    if not names:
        return _cut
    if names not in (["gzip"], ["x-gzip"], ["deflate"]):
        what = f"the GLM API sent an answer with the encoding {content_encoding!r:.40}, which was not asked for"
        raise new_error(GLMProtocolError, what)
    return _Inflater().unpack


def _cut(data: bytes) -> Iterator[bytes]:
    return (data[start : start + _SLICE_BYTES] for start in range(0, len(data), _SLICE_BYTES))


class _Inflater:
    """Decompresses gzip and both forms of deflate, one slice at a time."""

    def __init__(self) -> None:
        # 32: detect the headers of gzip and of zlib.
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._is_first = True

    def unpack(self, data: bytes) -> Iterator[bytes]:
        while True:
            piece = self._inflate(data)
            data = self._stream.unconsumed_tail
            if piece:
                yield piece
            # After a full slice there may be more output, even if all input was consumed.
            if not data and len(piece) < _SLICE_BYTES:
                return

    def _inflate(self, data: bytes) -> bytes:
        is_first, self._is_first = self._is_first, False
        try:
            return self._stream.decompress(data, _SLICE_BYTES)
        except zlib.error as error:
            if not is_first:
                what = f"the GLM API sent compressed data that is damaged ({error})"
                raise new_error(GLMConnectionError, what) from None
        # Some servers send "deflate" without a header.
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        return self._inflate(data)


def _translation(error: Exception) -> Callable[[], GLMError]:
    """Return a function that builds our error: a variable that holds the original would keep its frames alive."""
    if isinstance(error, httpx.TimeoutException):
        return partial(new_error, GLMTimeoutError, f"the GLM API did not answer in time ({type(error).__name__})")
    what = f"no connection to the GLM API ({type(error).__name__}: {error})"
    if isinstance(error, httpx.HTTPError | httpx.InvalidURL | httpx.StreamError):
        return partial(new_error, GLMConnectionError, what)
    # Not retryable: the interpreter is shutting down.
    return partial(GLMConnectionError, what)
