"""HTTP to the GLM API: one request, whole or streamed, its answer read and its failures translated."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
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
    ACCEPT_ENCODING,
    EventReader,
    LineSplitter,
    beside_the_loop,
    parse_json,
    parse_object,
    read_body,
    slices,
)

Body = dict[str, Any]
T = TypeVar("T")

_CONNECT_SECONDS = 15.0
_IDLE_SECONDS = 30.0
# httpcore looks at every idle connection for every request: keeping fifty makes crowds of calls three times slower.
_IDLE_CONNECTIONS = 20
# What follows [DONE] is the end of the body: reading it lets the connection be used again.
_DRAIN_SECONDS = 1.0
_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": ACCEPT_ENCODING}

_KEY_OF_ZHIPU = re.compile(r"[^.]+\.[^.]+")

# RuntimeError: at the interpreter's shutdown there are no threads left to look up addresses.
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, RuntimeError)


class Transport:
    """Connections to one deployment of the API; all coroutines run on ``event_loop``.

    Args:
        api_key: Key of any form.
        api_base: Address of the API, ending before ``/chat/completions``. A user and a password in it go into the
            header ``Authorization``, in place of the key.
        timeout: Seconds to wait for each part of an answer.
        style: Form of requests.
        require_finish_reason: Whether a stream that ends in ``[DONE]`` without a ``finish_reason`` is an error.
    """

    def __init__(
        self, api_key: str, api_base: str, timeout: float, *, style: Style, require_finish_reason: bool
    ) -> None:
        # httpx logs the address of every request.
        address, login = split_credentials(api_base)
        self._url = f"{address.rstrip('/')}/chat/completions"
        self._timeout = timeout
        self._style = style
        self._require_finish_reason = require_finish_reason
        said = ""
        try:
            self._headers = {**_credentials(api_key, address, style), **_HEADERS}
            self._client = _new_client(timeout, login)
        except (httpx.InvalidURL, ImportError, OSError, ValueError) as error:
            said = mask_secrets(f"{type(error).__name__}: {error}", secrets_of(api_key, api_base))
        if said:
            raise GLMConnectionError(
                f"no connection to the GLM API ({said}); check the environment's proxy and certificate settings"
            )
        # The loop holds open sockets: without this, those of a forgotten transport would stay.
        start_when_collected(self, self._client.aclose)

    async def post(self, body: Body, read: Callable[[Body], T]) -> T:
        """Send a request and return what is read from the answer.

        Args:
            body: The request.
            read: Called with the parsed answer, in a thread if that is long.

        Raises:
            GLMError: It failed.
        """
        try:
            return await self._post(body, read)
        except _FAILURES as error:
            translated = _translation(error)
        # Not in the except block: what the new error would hold as its context holds the request, with key and images.
        raise translated()

    async def events(self, body: Body, read: Callable[[Body], T]) -> AsyncGenerator[T, None]:
        """Send a request and yield what is read from each event; the connection is free again however this ends.

        Args:
            body: The request.
            read: Called with each parsed event, in a thread if that is long.

        Raises:
            GLMError: It failed, or the stream ended before the answer did.
        """
        try:
            response = await self._client.send(self._request(body), stream=True)
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

    async def _post(self, body: Body, read: Callable[[Body], T]) -> T:
        response = await self._client.send(self._request(body), stream=True)
        try:
            return await _read_answer(response, read)
        finally:
            await response.aclose()

    async def _events(self, response: httpx.Response, read: Callable[[Body], T]) -> AsyncGenerator[T, None]:
        reader = EventReader(response.status_code, require_finish_reason=self._require_finish_reason)
        batches = _lines(response)
        last = time.monotonic()
        try:
            async for lines in batches:
                for line in lines:
                    event = await beside_the_loop(partial(_read_line, reader, read), line)
                    if event is not None:
                        yield event
                        last = time.monotonic()
                    if reader.done:
                        break
                if reader.done:
                    with suppress(asyncio.TimeoutError, httpx.HTTPError, GLMError):
                        await asyncio.wait_for(_drain(batches), _DRAIN_SECONDS)
                    break
                # Neither a line without an end nor comments that keep the connection alive are an answer.
                if time.monotonic() - last > self._timeout:
                    raise new_error(GLMTimeoutError, f"the GLM API sent no event for {self._timeout:g} s")
        except (httpx.HTTPError, GLMConnectionError):
            # The answer was complete; only the end of its stream was not.
            if not reader.finished:
                raise
        reader.check_complete()

    def _request(self, body: Body) -> httpx.Request:
        if self._client.is_closed:
            raise GLMConnectionError("the LLM was closed during this call; the next call opens new connections")
        sent = openai_body(body) if self._style == "openai" else body
        return self._client.build_request("POST", self._url, content=_as_json(sent), headers=self._headers)


def _credentials(api_key: str, api_base: str, style: Style) -> dict[str, str]:
    # The SDK's own tokens can be made of keys in two parts only.
    if style == "openai" or not _KEY_OF_ZHIPU.fullmatch(api_key):
        return {"Authorization": f"Bearer {api_key}"}
    from zhipuai import ZhipuAI

    # It would make an HTTP client of its own, which reads certificates; nothing is sent through this one.
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
        # In ASCII, as half a surrogate pair in somebody's text has no UTF-8.
        return json.dumps(body, allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the request cannot be sent as JSON: {error}; check its parameters and tools") from None


async def _lines(response: httpx.Response) -> AsyncGenerator[list[bytes], None]:
    """Yield the lines that end in each slice of a stream, also where none does; the last ends with the stream.

    Streams of events are UTF-8, whatever they claim (HTML standard, 9.2.5).
    """
    splitter = LineSplitter()
    async for data in slices(response):
        yield splitter.split(data)
    # The empty line ends an event that none follows.
    yield [splitter.last(), b""]


def _read_line(reader: EventReader, read: Callable[[Body], T], line: bytes) -> T | None:
    event = reader.read(line.decode("utf-8", "replace"))
    return None if event is None else read(event)


async def _drain(batches: AsyncIterator[list[bytes]]) -> None:
    async for _ in batches:
        pass


def _is_event_stream(response: httpx.Response) -> bool:
    return response.status_code == 200 and "text/event-stream" in response.headers.get("content-type", "").lower()


async def _not_a_stream(response: httpx.Response) -> GLMError:
    """What a streamed request got instead of a stream: an error, or an answer that makes no sense."""
    await _read_answer(response, bool)
    return new_error(GLMProtocolError, "the GLM API answered a streaming request without a stream")


async def _read_answer(response: httpx.Response, read: Callable[[Body], T]) -> T:
    def work(data: bytes) -> T:
        if response.status_code != 200:
            raise error_from_answer(response.status_code, parse_json(data), _retry_after(response))
        body = parse_object(data)
        if is_error(body):
            raise error_from_answer(response.status_code, body, _retry_after(response))
        return read(body)

    return await beside_the_loop(work, await read_body(response))


def _retry_after(response: httpx.Response) -> float | None:
    """Read ``Retry-After``, which is in seconds or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "")
    try:
        seconds = float(value) if value.isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError):
        return None
    return max(0.0, seconds)


def _translation(error: Exception) -> Callable[[], GLMError]:
    """Return what makes our error of one of httpx; a variable with the error would keep its frames alive."""
    if isinstance(error, httpx.TimeoutException):
        return partial(new_error, GLMTimeoutError, f"the GLM API did not answer in time ({type(error).__name__})")
    what = f"no connection to the GLM API ({type(error).__name__}: {error})"
    if isinstance(error, httpx.HTTPError | httpx.InvalidURL | httpx.StreamError):
        return partial(new_error, GLMConnectionError, what)
    # Without threads, at the interpreter's shutdown, there is nothing to try again.
    return partial(GLMConnectionError, what)
