"""One call of the API from its beginning to its end: its turn, its tries, its deadline, and limits that it meets."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
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

from llama_index_mm_zhipu.llm.endpoint import Style, mask_secrets, secrets_of
from llama_index_mm_zhipu.llm.errors import GLMError, GLMTimeoutError, new_error
from llama_index_mm_zhipu.llm.requests import learn_limits
from llama_index_mm_zhipu.llm.responses import PARTIAL_TOOL_CALLS, Answer
from llama_index_mm_zhipu.llm.tools import ToolCalls, functions_without_parameters
from llama_index_mm_zhipu.llm.transport import Body, Transport
from llama_index_mm_zhipu.llm.usage import Account

logger = logging.getLogger(__name__)

# Streams that nobody reads any more may lie in reference cycles, which Python collects when it likes. A collection
# stops all threads for a moment: not sooner, not more often.
_COLLECT_AFTER_SECONDS = 5.0
_COLLECT_EVERY_SECONDS = 60.0


class Turns:
    """Lets calls and streams go on; all coroutines run on one event loop.

    Args:
        most: How many at a time.
        patience: Seconds without the end of any call or stream after which waiting is given up.
    """

    def __init__(self, most: int, patience: float) -> None:
        self._most = most
        self._patience = patience
        self._free = asyncio.Semaphore(most)
        self._streams = 0
        self._ended = 0
        self._collected = -_COLLECT_EVERY_SECONDS

    @asynccontextmanager
    async def turn(self, *, is_stream: bool) -> AsyncIterator[None]:
        """Wait for a turn, and have it until the block ends.

        Raises:
            GLMTimeoutError: The line does not move: streams are neither read nor closed.
        """
        await self._wait()
        self._streams += is_stream
        try:
            yield
        finally:
            self._streams -= is_stream
            self._ended += 1
            self._free.release()

    async def _wait(self) -> None:
        acquiring = asyncio.ensure_future(self._free.acquire())
        try:
            if not await self._moves(acquiring, min(_COLLECT_AFTER_SECONDS, self._patience)):
                await self._collect_forgotten_streams()
            while not acquiring.done():
                if not await self._moves(acquiring, self._patience):
                    raise new_error(
                        GLMTimeoutError,
                        f"none of the {self._most} calls of max_concurrency ended within {self._patience:g} s: "
                        "read streams to their end, or close them",
                    )
        except BaseException:
            if acquiring.done() and not acquiring.cancelled():
                self._free.release()
            acquiring.cancel()
            raise

    async def _moves(self, acquiring: asyncio.Future[Any], seconds: float) -> bool:
        """Wait for the turn, and tell whether it came or any other ended meanwhile."""
        ended = self._ended
        await asyncio.wait({acquiring}, timeout=seconds)
        return acquiring.done() or self._ended > ended

    async def _collect_forgotten_streams(self) -> None:
        now = time.monotonic()
        if self._streams == self._most and now - self._collected > _COLLECT_EVERY_SECONDS:
            self._collected = now
            await asyncio.to_thread(gc.collect)


BACKOFF = wait_random_exponential(multiplier=0.5, max=20.0)
"""Seconds before the next try: random, up to 0.5, 1, 2, … 20."""


def retrying(max_retries: int, deadline: float) -> AsyncRetrying:
    """Retry what may pass, with jittered back-off that respects ``Retry-After``; the last error is raised.

    Args:
        max_retries: Further tries after the first.
        deadline: Seconds; a wait that would end later is not begun.
    """
    return AsyncRetrying(
        stop=stop_after_attempt(max_retries + 1) | stop_before_delay(deadline),
        wait=_wait,
        retry=retry_if_exception(lambda error: isinstance(error, GLMError) and error.retryable),
        before_sleep=_log,
        reraise=True,
    )


def _wait(state: RetryCallState) -> float:
    asked = getattr(_error(state), "retry_after", None) or 0.0
    return max(asked, BACKOFF(state))


def _log(state: RetryCallState) -> None:
    logger.info("trying again in %.1f s, after try %d: %s", state.upcoming_sleep, state.attempt_number, _error(state))


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


T = TypeVar("T")


FALLBACK_CODES = frozenset({"1113", "1211", "1302", "1305", "1312"})
"""Business codes that say nothing of the request: another model may answer it."""

_LONGEST_REQUEST_ID = 64
_BUILDERS = 4


class RateLimiter(Protocol):
    """What is used of ``llama_index.core.rate_limiter``."""

    async def async_acquire(self, num_tokens: int = 0) -> None:
        """Wait until a request is allowed."""


@dataclass(frozen=True)
class ClientSettings:
    """What connections depend on.

    Attributes:
        api_key: Key of any form.
        api_base: Address of the API.
        style: Form of requests.
        timeout: Seconds to wait for each part of an answer.
        deadline: Seconds for a call with all its tries, of a stream until its first token.
        max_retries: Further tries after a failure that may pass.
        max_concurrency: Calls and streams at a time; None for no limit.
        require_finish_reason: Whether a stream without one is an error.
        process: Id of the process that opened the connections: a forked child must not use them.
    """

    api_key: str = field(repr=False)
    api_base: str = field(repr=False)
    style: Style
    timeout: float
    deadline: float
    max_retries: int
    max_concurrency: int | None
    require_finish_reason: bool
    process: int


@dataclass(frozen=True)
class Request:
    """What to ask.

    Attributes:
        build: Makes the body for a model; called again when a limit was learned.
        models: Names of the models to ask, in turn.
        holds_images: Whether building may take its time.
        limiter: Asked before every further try: LlamaIndex asks it before a call, and knows nothing of those.
        account: Asked before a model is, and told what its answers used.
    """

    build: Callable[[str], Body]
    models: tuple[str, ...]
    holds_images: bool
    limiter: RateLimiter | None
    account: Account


class Client:
    """Makes calls; all coroutines run on ``event_loop``."""

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
        self._turns = Turns(settings.max_concurrency, settings.deadline) if settings.max_concurrency else None
        # Threads of their own: the event loop's look up addresses, and must not wait for images.
        self._builders = ThreadPoolExecutor(_BUILDERS, thread_name_prefix="llama-index-mm-zhipu-images")

    async def answer(self, request: Request) -> ChatResponse:
        """Return the whole answer.

        Raises:
            GLMError: There is none.
        """
        async with self._turn(is_stream=False):
            return await self._until_answered(partial(self._ask, request.account), request)

    async def pieces(self, request: Request) -> AsyncGenerator[ChatResponse, None]:
        """Yield the answer so far with each of its pieces. Tried again only before the first token.

        Raises:
            GLMError: The answer failed; what came of it is in ``partial_text``.
        """
        async with self._turn(is_stream=True):
            head, rest = await self._until_answered(partial(self._begin, request.account), request)
            async with aclosing(rest):
                for response in head:
                    yield response
                async for response in rest:
                    yield response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    def _turn(self, *, is_stream: bool) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._turns is None else self._turns.turn(is_stream=is_stream)

    async def _until_answered(self, ask: Callable[[Body], Awaitable[T]], request: Request) -> T:
        answering = asyncio.ensure_future(self._ask_models(ask, request))
        try:
            # Not wait_for, which before Python 3.12 can lose a cancellation.
            await asyncio.wait({answering}, timeout=self.settings.deadline)
        except asyncio.CancelledError:
            answering.cancel()
            raise
        if not answering.done():
            answering.cancel()
            raise new_error(GLMTimeoutError, f"no answer within the deadline of {self.settings.deadline:g} s")
        return answering.result()

    async def _ask_models(self, ask: Callable[[Body], Awaitable[T]], request: Request) -> T:
        """Ask the models in turn, until one answers or fails for a reason that other models would share."""
        tries = itertools.count(1)
        failed: list[str] = []
        for model in request.models:
            try:
                return await self._ask_within_limits(ask, request, model, tries)
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
        self, ask: Callable[[Body], Awaitable[T]], request: Request, model: str, tries: Iterator[int]
    ) -> T:
        while True:
            request.account.check(model)
            body = await self._build(request, model)
            try:
                return await self._try(ask, body, tries, request.limiter)
            except GLMError as refused:
                # Ends, as each lesson is a lower limit than the last. Errors without a status do not quote the API.
                if refused.http_status is None or not learn_limits(refused, self.settings.api_base, body):
                    raise

    async def _build(self, request: Request, model: str) -> Body:
        if not request.holds_images:
            return request.build(model)
        return await asyncio.get_running_loop().run_in_executor(self._builders, request.build, model)

    async def _try(
        self, ask: Callable[[Body], Awaitable[T]], body: Body, tries: Iterator[int], limiter: RateLimiter | None
    ) -> T:
        async def attempt() -> T:
            number = next(tries)
            if number > 1 and limiter is not None:
                await limiter.async_acquire()
            return await ask({**body, "request_id": _request_id(body.get("request_id"), number)})

        answer: T = await retrying(self.settings.max_retries, self.settings.deadline)(attempt)
        return answer

    async def _ask(self, account: Account, body: Body) -> ChatResponse:
        answer = _new_answer(body)
        try:
            return await self._transport.post(body, answer.whole)
        except GLMError as error:
            self._complete(error, body)
            raise
        finally:
            _count(account, body, answer)

    async def _begin(
        self, account: Account, body: Body
    ) -> tuple[list[ChatResponse], AsyncGenerator[ChatResponse, None]]:
        """Start a stream and read to its first token: return what came until then, and the rest."""
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
            self._complete(error, body)
            error.partial_text = answer.rest()
            raise
        finally:
            # Also where a stream is closed early, or fails: what it used is billed all the same.
            _count(account, body, answer)

    def _complete(self, error: GLMError, body: Body) -> None:
        """Name the request in its error if it had a name, and take out secrets should the API have quoted them."""
        if self.settings.style == "glm":
            error.request_id = body["request_id"]
        error.args = (mask_secrets(str(error), self._secrets),)


def _request_id(given: object, number: int) -> str:
    """Name a try: the API takes no name twice (code 1231)."""
    if given is None:
        return uuid.uuid4().hex
    suffix = f"-{number}" if number > 1 else ""
    return str(given)[: _LONGEST_REQUEST_ID - len(suffix)] + suffix


def _new_answer(body: Body) -> Answer:
    return Answer(model=body["model"], calls=ToolCalls(functions_without_parameters(body.get("tools"))))


def _count(account: Account, body: Body, answer: Answer) -> None:
    if answer.has_begun:
        account.meter.add(body["model"], answer.usage)


def _has_token(response: ChatResponse) -> bool:
    has_content = any(getattr(block, "text", True) for block in response.message.blocks)
    return has_content or PARTIAL_TOOL_CALLS in response.additional_kwargs
