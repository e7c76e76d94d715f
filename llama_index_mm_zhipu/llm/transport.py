"""HTTP to the GLM API: one request builder and one reader, for sync, async and streams alike."""

from __future__ import annotations

import asyncio
import json
import logging
import weakref
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from tenacity import (
    AsyncRetrying,
    Retrying,
    before_sleep_log,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from llama_index_mm_zhipu.llm.errors import (
    GLMConnectionError,
    GLMError,
    GLMProtocolError,
    GLMTimeoutError,
    error_of_answer,
    new_error,
)

logger = logging.getLogger(__name__)

Body = dict[str, Any]

_LONGEST_WAIT_SECONDS = 20.0


class Transport:
    """Connections to one deployment of the API, reused, safe over threads and event loops.

    Args:
        api_key: ``id.secret``; the zhipuai SDK makes the credentials of it.
        api_base: Address of the API, ending before ``/chat/completions``.
        timeout: Seconds to wait for each part of an answer.
        max_retries: Further tries after a failure that may pass; of a stream, only before its first piece.
    """

    def __init__(self, api_key: str, api_base: str, timeout: float, max_retries: int) -> None:
        from zhipuai import ZhipuAI

        self._sdk = ZhipuAI(api_key=api_key, base_url=api_base, max_retries=0)
        self._url = f"{api_base.rstrip('/')}/chat/completions"
        self._timeout = timeout
        self._max_retries = max_retries
        self._client = httpx.Client(timeout=timeout)
        # An async client belongs to the event loop that opened its connections.
        self._async_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            weakref.WeakKeyDictionary()
        )

    def post(self, body: Body) -> Body:
        """Send a request and return the parsed answer.

        Raises:
            GLMError: It failed, for good or after all tries.
        """
        return self._retrying()(self._post_once, body)

    async def apost(self, body: Body) -> Body:
        """As ``post``."""
        return await self._retrying_async()(self._apost_once, body)

    def stream(self, body: Body) -> Generator[Body, None, None]:
        """Send a request and yield the parsed events of the answer; the connection is closed however this ends.

        Raises:
            GLMError: It failed, or the stream ended before the answer did.
        """
        response, events, first = self._retrying()(self._open_stream, body)
        try:
            yield first
            yield from events
        finally:
            response.close()

    async def astream(self, body: Body) -> AsyncGenerator[Body, None]:
        """As ``stream``."""
        # tenacity's types lose what an awaited function returns.
        opened: tuple[httpx.Response, AsyncGenerator[Body, None], Body] = await self._retrying_async()(
            self._aopen_stream, body
        )
        response, events, first = opened
        try:
            yield first
            async for event in events:
                yield event
        finally:
            await response.aclose()

    def close(self) -> None:
        """Close the sync connections; those of event loops go with ``aclose``."""
        self._client.close()
        self._sdk.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        client = self._async_clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _post_once(self, body: Body) -> Body:
        with _httpx_errors():
            response = self._client.send(self._request(self._client, body))
        return _read_answer(response)

    async def _apost_once(self, body: Body) -> Body:
        client = self._async_client()
        with _httpx_errors():
            response = await client.send(self._request(client, body))
        return _read_answer(response)

    def _open_stream(self, body: Body) -> tuple[httpx.Response, Iterator[Body], Body]:
        with _httpx_errors():
            response = self._client.send(self._request(self._client, body), stream=True)
        try:
            if not _is_event_stream(response):
                with _httpx_errors():
                    response.read()
                raise _not_a_stream(response)
            events = _events(response)
            return response, events, next(events)
        except BaseException:
            response.close()
            raise

    async def _aopen_stream(self, body: Body) -> tuple[httpx.Response, AsyncGenerator[Body, None], Body]:
        client = self._async_client()
        with _httpx_errors():
            response = await client.send(self._request(client, body), stream=True)
        try:
            if not _is_event_stream(response):
                with _httpx_errors():
                    await response.aread()
                raise _not_a_stream(response)
            events = _aevents(response)
            return response, events, await anext(events)
        except BaseException:
            await response.aclose()
            raise

    def _request(self, client: httpx.Client | httpx.AsyncClient, body: Body) -> httpx.Request:
        return client.build_request("POST", self._url, json=body, headers=self._sdk.auth_headers)

    def _async_client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self._async_clients:
            self._async_clients[loop] = httpx.AsyncClient(timeout=self._timeout)
        return self._async_clients[loop]

    def _retry_settings(self) -> dict[str, Any]:
        return {
            "stop": stop_after_attempt(self._max_retries + 1),
            "wait": wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT_SECONDS),
            "retry": retry_if_exception(lambda error: isinstance(error, GLMError) and error.retryable),
            "before_sleep": before_sleep_log(logger, logging.INFO),
            "reraise": True,
        }

    def _retrying(self) -> Retrying:
        return Retrying(**self._retry_settings())

    def _retrying_async(self) -> AsyncRetrying:
        return AsyncRetrying(**self._retry_settings())


class _EventReader:
    """Reads the lines of an event stream and knows whether the answer came to its end."""

    def __init__(self, response: httpx.Response) -> None:
        self._status = response.status_code
        self._complete = False

    def read(self, line: str) -> Body | None:
        if not line.startswith("data:"):
            return None
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            self._complete = True
            return None
        event = _parse(data)
        if "error" in event:
            raise error_of_answer(self._status, event)
        self._complete = self._complete or any(choice.get("finish_reason") for choice in event.get("choices") or [])
        return event

    def check_complete(self) -> None:
        if not self._complete:
            raise new_error(GLMConnectionError, "the stream of the GLM API ended before the answer did")


def _events(response: httpx.Response) -> Iterator[Body]:
    reader = _EventReader(response)
    with _httpx_errors():
        for line in response.iter_lines():
            if event := reader.read(line):
                yield event
    reader.check_complete()


async def _aevents(response: httpx.Response) -> AsyncGenerator[Body, None]:
    reader = _EventReader(response)
    with _httpx_errors():
        async for line in response.aiter_lines():
            if event := reader.read(line):
                yield event
    reader.check_complete()


def _is_event_stream(response: httpx.Response) -> bool:
    return response.status_code == 200 and "text/event-stream" in response.headers.get("content-type", "")


def _not_a_stream(response: httpx.Response) -> GLMError:
    """What a streamed request got instead of a stream: an error, or an answer that makes no sense."""
    _read_answer(response)
    return new_error(GLMProtocolError, "the GLM API answered a streaming request without a stream")


def _read_answer(response: httpx.Response) -> Body:
    if response.status_code != 200:
        raise error_of_answer(response.status_code, _json_or_none(response), response.headers.get("x-request-id"))
    body = _parse(response.text)
    if "error" in body:
        raise error_of_answer(response.status_code, body)
    return body


def _json_or_none(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _parse(text: str) -> Body:
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise new_error(GLMProtocolError, f"the GLM API sent {len(text)} characters that are no JSON object")
    return body


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """Translate httpx's errors, which hold the request and with it the pictures."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise new_error(GLMTimeoutError, f"the GLM API did not answer in time ({type(error).__name__})") from None
    except httpx.HTTPError as error:
        raise new_error(GLMConnectionError, f"no connection to the GLM API ({type(error).__name__}: {error})") from None
