"""A call of the GLM API from start to end: concurrency limit, deadline, fallback models, learned limits and retries."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from llama_index.core.base.llms.types import ChatResponse
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from llama_index_mm_zhipu.concurrency import ConcurrencyLimiter, arun, fork_safe_lock, run
from llama_index_mm_zhipu.llm.endpoint import Style, mask_secrets, secrets_of
from llama_index_mm_zhipu.llm.errors import GLMError, GLMTimeoutError, new_error
from llama_index_mm_zhipu.llm.requests import learn_limits
from llama_index_mm_zhipu.llm.responses import PARTIAL_TOOL_CALLS, Answer
from llama_index_mm_zhipu.llm.tools import ToolCalls, functions_without_parameters
from llama_index_mm_zhipu.llm.transport import Body, Transport
from llama_index_mm_zhipu.llm.usage import Account

logger = logging.getLogger(__name__)

T = TypeVar("T")

FALLBACK_CODES = frozenset({"1113", "1211", "1302", "1305", "1312"})
"""Business codes of failures that depend on the model, not on the request: another model may answer."""

BACKOFF = wait_random_exponential(multiplier=0.5, max=20.0)
"""Seconds to wait before the next attempt: random, at most 0.5, 1, 2, … 20."""

_MAX_REQUEST_ID_LENGTH = 64
_BODY_BUILDERS = 4

_opening = fork_safe_lock()


class RateLimiter(Protocol):
    """The part of ``llama_index.core.rate_limiter`` that is used."""

    async def async_acquire(self, num_tokens: int = 0) -> None:
        """Wait until a request is allowed."""


@dataclass(frozen=True)
class ClientSettings:
    """The settings that a client and its connections are made with.

    Attributes:
        api_key: Key of any form.
        api_base: URL of the API.
        style: Form of requests.
        timeout: Seconds to wait for each part of an answer.
        deadline: Seconds for a call with all its attempts; of a stream, until its first token.
        max_retries: Number of attempts after the first.
        max_concurrency: Maximum number of concurrent calls and open streams; None for no limit.
        require_finish_reason: Whether a stream that ends without a ``finish_reason`` is an error.
        process: Id of the process that opened the connections, which a forked child must not use.
    """

    api_key: str = field(repr=False)
    api_base: str = field(repr=False)
    style: Style
    timeout: float
    deadline: float
    max_retries: int
    max_concurrency: int | None
    require_finish_reason: bool
    process: int = field(default_factory=os.getpid)


@dataclass(frozen=True)
class Request:
    """A request, independent of the model that answers it.

    Attributes:
        build: Builds the body for a model. Called again when a limit of the model was learned.
        models: Names of the models to ask, in order.
        holds_images: Whether building may take long enough to need a thread.
        limiter: Acquired before every attempt but the first, which LlamaIndex has acquired already.
        account: Checked before a model is asked, and charged with the tokens of its answer.
    """

    build: Callable[[str], Body]
    models: tuple[str, ...]
    holds_images: bool
    limiter: RateLimiter | None
    account: Account


class Client:
    """Makes calls over one pool of connections. All coroutines run on the background loop of ``concurrency``."""

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self._transport = Transport(
            settings.api_key,
            settings.api_base,
            settings.timeout,
            style=settings.style,
            require_finish_reason=settings.require_finish_reason,
        )
        self._secrets = secrets_of(settings.api_key, settings.api_base)
        limit = settings.max_concurrency
        self._limiter = None if limit is None else ConcurrencyLimiter(limit, settings.deadline)
        # Not the default threads of the event loop: those resolve host names, which must not wait for images.
        self._builders = ThreadPoolExecutor(_BODY_BUILDERS, thread_name_prefix="llama-index-mm-zhipu-images")

    async def answer(self, request: Request) -> ChatResponse:
        """Return the whole answer.

        Raises:
            GLMError: The call failed.
        """
        async with self._slot():
            return await self._within_deadline(self._ask_models(partial(self._ask, request.account), request))

    async def pieces(self, request: Request) -> AsyncGenerator[ChatResponse, None]:
        """Yield the answer so far with each piece of a stream. Only failures before the first token are retried.

        Raises:
            GLMError: The call failed; the text that had come is in ``partial_text``.
        """
        async with self._slot():
            head, rest = await self._within_deadline(self._ask_models(partial(self._begin, request.account), request))
            async with aclosing(rest):
                for response in head:
                    yield response
                async for response in rest:
                    yield response

    async def post(self, path: str, body: Body, read: Callable[[Body], T]) -> T:
        """Send a request to a part of the API other than chats, and return what ``read`` makes of the answer.

        Args:
            path: Path of the part, below the URL of the API.
            body: The request. Each attempt gets a ``request_id``.
            read: Converts the parsed answer. Called in a thread if the answer is long.

        Raises:
            GLMError: The call failed.
        """

        async def ask(sent: Body) -> T:
            try:
                return await self._transport.post(sent, read, path)
            except GLMError as error:
                self._complete_error(error, sent)
                raise

        async with self._slot():
            return await self._within_deadline(self._attempt(ask, body, itertools.count(1), None))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Hold one of the ``max_concurrency`` slots."""
        if self._limiter is None:
            yield
            return
        try:
            await self._limiter.acquire()
        except TimeoutError as error:
            raise new_error(GLMTimeoutError, f"{error}: read streams to their end, or close them") from None
        try:
            yield
        finally:
            self._limiter.release()

    async def _within_deadline(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a call with all its attempts within the deadline."""
        answering = asyncio.ensure_future(call)
        try:
            # Not ``wait_for``, which can lose a cancellation before Python 3.12.
            await asyncio.wait({answering}, timeout=self.settings.deadline)
        except asyncio.CancelledError:
            answering.cancel()
            raise
        if not answering.done():
            answering.cancel()
            raise new_error(GLMTimeoutError, f"no answer within the deadline of {self.settings.deadline:g} s")
        return answering.result()

    async def _ask_models(self, ask: Callable[[Body], Awaitable[T]], request: Request) -> T:
        """Ask the models in order, until one answers or fails in a way that does not depend on the model."""
        attempts = itertools.count(1)
        failed: list[str] = []
        for model in request.models:
            try:
                return await self._ask_within_limits(ask, request, model, attempts)
            except GLMError as error:
                is_last = model == request.models[-1]
                if is_last or error.code not in FALLBACK_CODES:
                    if failed:
                        error.args = (f"{error} (asked {model} after {', '.join(failed)})",)
                    raise
                logger.warning("%s cannot answer, the next model is asked: %s", model, error)
                failed.append(f"{model}: code {error.code}")
        raise AssertionError("a request names at least one model")

    async def _ask_within_limits(
        self, ask: Callable[[Body], Awaitable[T]], request: Request, model: str, attempts: Iterator[int]
    ) -> T:
        """Ask one model, and build the request again when its refusal names a limit that was not known."""
        while True:
            request.account.check(model)
            body = await self._build(request, model)
            try:
                return await self._attempt(ask, body, attempts, request.limiter)
            except GLMError as refused:
                # The loop ends because each learned limit is lower than the last. Errors without a status come from
                # this package and do not quote the API.
                if refused.http_status is None or not learn_limits(refused, self.settings.api_base, body):
                    raise

    async def _build(self, request: Request, model: str) -> Body:
        if not request.holds_images:
            return request.build(model)
        return await asyncio.get_running_loop().run_in_executor(self._builders, request.build, model)

    async def _attempt(
        self, ask: Callable[[Body], Awaitable[T]], body: Body, attempts: Iterator[int], limiter: RateLimiter | None
    ) -> T:
        """Send a body, and send it again after failures that may pass."""

        async def attempt() -> T:
            number = next(attempts)
            if number > 1 and limiter is not None:
                await limiter.async_acquire()
            return await ask({**body, "request_id": _request_id(body.get("request_id"), number)})

        answer: T = await _retrying(self.settings.max_retries, self.settings.deadline)(attempt)
        return answer

    async def _ask(self, account: Account, body: Body) -> ChatResponse:
        answer = _new_answer(body)
        try:
            return await self._transport.post(body, answer.whole)
        except GLMError as error:
            self._complete_error(error, body)
            raise
        finally:
            _count(account, body, answer)

    async def _begin(
        self, account: Account, body: Body
    ) -> tuple[list[ChatResponse], AsyncGenerator[ChatResponse, None]]:
        """Open a stream and read to its first token. Return the responses so far and the rest of the stream."""
        responses = self._responses(account, body)
        head = []
        try:
            async for response in responses:
                head.append(response)
                if _has_token(response):
                    break
        except BaseException:
            await responses.aclose()
            raise
        return head, responses

    async def _responses(self, account: Account, body: Body) -> AsyncGenerator[ChatResponse, None]:
        answer = _new_answer(body)
        try:
            async with aclosing(self._transport.events(body, answer.add)) as responses:
                async for response in responses:
                    yield response
            if (rest := answer.end()) is not None:
                yield rest
        except GLMError as error:
            self._complete_error(error, body)
            error.partial_text = answer.rest()
            raise
        finally:
            # Streams that fail or are closed early are billed as well.
            _count(account, body, answer)

    def _complete_error(self, error: GLMError, body: Body) -> None:
        """Add the request's id to its error, and mask secrets that the API may have quoted."""
        if self.settings.style == "glm":
            error.request_id = body["request_id"]
        error.args = (mask_secrets(str(error), self._secrets),)


class ClientHolder:
    """Opens a client at the first call, and another one when the settings change or the process forks."""

    def __init__(self) -> None:
        self._client: Client | None = None

    async def get(self, settings: ClientSettings) -> Client:
        """Return a client with these settings."""
        client = self._client
        if client is None or client.settings != settings:
            # The first client of a process imports the SDK, which takes a second.
            client = await asyncio.to_thread(self._open, settings)
        return client

    def close(self) -> None:
        """Close the connections of the client; the next call opens a new one."""
        if (client := self._pop()) is not None:
            run(client.aclose())

    async def aclose(self) -> None:
        """Close the connections of the client as ``close`` does, on any event loop."""
        if (client := self._pop()) is not None:
            await arun(client.aclose())

    def _open(self, settings: ClientSettings) -> Client:
        with _opening:
            if self._client is None or self._client.settings != settings:
                self._client = Client(settings)
            return self._client

    def _pop(self) -> Client | None:
        client, self._client = self._client, None
        return client if client is not None and client.settings.process == os.getpid() else None


def _retrying(max_retries: int, deadline: float) -> AsyncRetrying:
    """Return a retry policy for failures that may pass: jittered back-off, not shorter than ``Retry-After``.

    Args:
        max_retries: Number of attempts after the first. The error of the last one is raised.
        deadline: Seconds. A wait that would end later does not begin.
    """
    return AsyncRetrying(
        stop=stop_after_attempt(max_retries + 1) | stop_before_delay(deadline),
        wait=_wait,
        retry=retry_if_exception(lambda error: isinstance(error, GLMError) and error.retryable),
        before_sleep=_log_retry,
        reraise=True,
    )


def _wait(state: RetryCallState) -> float:
    retry_after = getattr(_error_of(state), "retry_after", None) or 0.0
    return max(retry_after, BACKOFF(state))


def _log_retry(state: RetryCallState) -> None:
    logger.info(
        "trying again in %.1f s, after attempt %d: %s", state.upcoming_sleep, state.attempt_number, _error_of(state)
    )


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _request_id(given: object, number: int) -> str:
    """Return the id of an attempt: the API refuses an id that it has seen (code 1231)."""
    if given is None:
        return uuid.uuid4().hex
    suffix = f"-{number}" if number > 1 else ""
    return str(given)[: _MAX_REQUEST_ID_LENGTH - len(suffix)] + suffix


def _new_answer(body: Body) -> Answer:
    return Answer(model=body["model"], calls=ToolCalls(functions_without_parameters(body.get("tools"))))


def _count(account: Account, body: Body, answer: Answer) -> None:
    if answer.has_begun:
        account.meter.add(body["model"], answer.usage)


def _has_token(response: ChatResponse) -> bool:
    has_content = any(getattr(block, "text", True) for block in response.message.blocks)
    return has_content or PARTIAL_TOOL_CALLS in response.additional_kwargs
