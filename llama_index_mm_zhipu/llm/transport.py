"""HTTP to the GLM API: one request, whole or streamed, its answer read and its failures translated."""

from __future__ import annotations

import asyncio
import codecs
import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from llama_index_mm_zhipu.llm import event_loop
from llama_index_mm_zhipu.llm.errors import (
    GLMConnectionError,
    GLMError,
    GLMProtocolError,
    GLMTimeoutError,
    error_of_answer,
    new_error,
)
from llama_index_mm_zhipu.llm.sse import EventReader, parse_json, parse_object
from llama_index_mm_zhipu.tls import tls_context

Body = dict[str, Any]

_LINE_END = re.compile(r"\r\n?|\n")

_CONNECT_SECONDS = 15.0
_IDLE_SECONDS = 30.0
# httpcore looks at every idle connection for every request: keeping fifty makes crowds of calls three times slower.
_IDLE_CONNECTIONS = 20
# What follows [DONE] is the end of the body: reading it lets the connection be used again.
_DRAIN_SECONDS = 1.0


class Transport:
    """Connections to one deployment of the API; all coroutines run on ``event_loop``.

    Args:
        api_key: ``id.secret``; the zhipuai SDK makes the credentials of it.
        api_base: Address of the API, ending before ``/chat/completions``.
        timeout: Seconds to wait for each part of an answer.
    """

    def __init__(self, api_key: str, api_base: str, timeout: float) -> None:
        self._url = f"{api_base.rstrip('/')}/chat/completions"
        self._timeout = timeout
        try:
            self._headers = {**_credentials(api_key, api_base), "Content-Type": "application/json"}
            self._client = _new_client(timeout)
        except (httpx.InvalidURL, ImportError, OSError, ValueError) as error:
            raise GLMConnectionError(
                f"no connection to the GLM API ({type(error).__name__}: {error}); check the environment's proxy and "
                "certificate settings"
            ) from None
        # The loop holds open sockets: without this, those of a forgotten transport would stay.
        event_loop.start_when_forgotten(self, self._client.aclose)

    async def post(self, body: Body) -> Body:
        """Send a request and return the parsed answer.

        Raises:
            GLMError: It failed.
        """
        with _translated_errors():
            response = await self._client.send(self._request(body))
            return _read_answer(response)

    async def events(self, body: Body) -> AsyncGenerator[Body, None]:
        """Send a request and yield the parsed events of the answer; the connection is free again however this ends.

        Raises:
            GLMError: It failed, or the stream ended before the answer did.
        """
        with _translated_errors():
            response = await self._client.send(self._request(body), stream=True)
            try:
                if not _is_event_stream(response):
                    await response.aread()
                    raise _not_a_stream(response)
                async for event in _events(response, self._timeout):
                    yield event
            finally:
                await response.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _request(self, body: Body) -> httpx.Request:
        if self._client.is_closed:
            raise GLMConnectionError("the LLM was closed during this call; the next call opens new connections")
        return self._client.build_request("POST", self._url, content=_as_json(body), headers=self._headers)


def _credentials(api_key: str, api_base: str) -> dict[str, str]:
    from zhipuai import ZhipuAI

    # It would make an HTTP client of its own, which reads certificates; nothing is sent through this one.
    unused = httpx.Client(verify=tls_context(), trust_env=False)
    sdk = ZhipuAI(api_key=api_key, base_url=api_base, max_retries=0, http_client=unused)
    try:
        return dict(sdk.auth_headers)
    finally:
        sdk.close()


def _new_client(timeout: float) -> httpx.AsyncClient:
    return httpx.AsyncClient(
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


async def _events(response: httpx.Response, timeout: float) -> AsyncGenerator[Body, None]:
    reader = EventReader(response.status_code)
    lines = _lines(response)
    last = time.monotonic()
    async for line in lines:
        event = reader.read(line)
        if event is not None:
            yield event
            last = time.monotonic()
        elif reader.done:
            with suppress(asyncio.TimeoutError, httpx.HTTPError):
                await asyncio.wait_for(_drain(lines), _DRAIN_SECONDS)
            break
        elif time.monotonic() - last > timeout:
            # Comments that keep the connection alive are no answer.
            raise new_error(GLMTimeoutError, f"the GLM API sent no event for {timeout:g} s")
    reader.check_complete()


async def _lines(response: httpx.Response) -> AsyncGenerator[str, None]:
    """Split at line ends only: httpx's own lines also end at U+2028 and its like, which JSON leaves as they are.

    Streams of events are UTF-8, whatever they claim (HTML standard, 9.2.5).
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
    rest = ""
    async for data in response.aiter_bytes():
        *lines, rest = _LINE_END.split(rest + decoder.decode(data))
        for line in lines:
            yield line
    yield rest
    # Ends an event that no blank line follows.
    yield ""


async def _drain(lines: AsyncIterator[str]) -> None:
    async for _ in lines:
        pass


def _is_event_stream(response: httpx.Response) -> bool:
    return response.status_code == 200 and "text/event-stream" in response.headers.get("content-type", "").lower()


def _not_a_stream(response: httpx.Response) -> GLMError:
    """What a streamed request got instead of a stream: an error, or an answer that makes no sense."""
    _read_answer(response)
    return new_error(GLMProtocolError, "the GLM API answered a streaming request without a stream")


def _read_answer(response: httpx.Response) -> Body:
    if response.status_code != 200:
        raise error_of_answer(response.status_code, parse_json(response.content), _retry_after(response))
    body = parse_object(response.content)
    if body.get("error") is not None:
        raise error_of_answer(response.status_code, body, _retry_after(response))
    return body


def _retry_after(response: httpx.Response) -> float | None:
    """Read ``Retry-After``, which is in seconds or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "")
    try:
        seconds = float(value) if value.isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError):
        return None
    return max(0.0, seconds)


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Turn httpx's errors into ours, as they hold the request and with it the pictures."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise new_error(GLMTimeoutError, f"the GLM API did not answer in time ({type(error).__name__})") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise new_error(GLMConnectionError, f"no connection to the GLM API ({type(error).__name__}: {error})") from None
    except RuntimeError as error:
        # At the interpreter's shutdown there are no threads left to look up addresses.
        raise GLMConnectionError(f"no connection to the GLM API: {error}") from None
