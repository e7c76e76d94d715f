"""One call of the API from its beginning to its end: its turn, its tries, its deadline, and limits that it meets."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, TypeVar

from llama_index.core.base.llms.types import ChatResponse

from llama_index_mm_zhipu.llm.errors import GLMError, GLMTimeoutError, new_error
from llama_index_mm_zhipu.llm.limits import learn_limits
from llama_index_mm_zhipu.llm.responses import Answer
from llama_index_mm_zhipu.llm.retries import retrying
from llama_index_mm_zhipu.llm.transport import Body, Transport

T = TypeVar("T")
Build: TypeAlias = Callable[[], Body]

_LONGEST_REQUEST_ID = 64
# A line that has not moved for so long may wait for streams that nobody reads, looked for this often at the most.
_PATIENCE_SECONDS = 1.0
_COLLECT_SECONDS = 30.0


class RateLimiter(Protocol):
    """What is used of ``llama_index.core.rate_limiter``."""

    async def async_acquire(self, num_tokens: int = 0) -> None:
        """Wait until a request is allowed."""


@dataclass(frozen=True)
class ClientSettings:
    """What connections depend on.

    Attributes:
        api_key: ``id.secret``.
        api_base: Address of the API.
        timeout: Seconds to wait for each part of an answer.
        deadline: Seconds for a call with all its tries and waits, of a stream until its first token.
        max_retries: Further tries after a failure that may pass.
        max_concurrency: Calls and streams at a time; None for no limit.
        process: Id of the process that opened the connections: a forked child must not use them.
    """

    api_key: str = field(repr=False)
    api_base: str
    timeout: float
    deadline: float
    max_retries: int
    max_concurrency: int | None
    process: int


class Client:
    """Makes calls; all coroutines run on ``event_loop``.

    Requests come as functions, which a worker thread calls: building one may encode pictures. It is built again when a
    limit was learned.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self._transport = Transport(settings.api_key, settings.api_base, settings.timeout)
        self._turns = asyncio.Semaphore(settings.max_concurrency) if settings.max_concurrency else None
        self._ended = 0
        self._collected = -_COLLECT_SECONDS

    async def answer(self, build: Build, limiter: RateLimiter | None) -> ChatResponse:
        """Return the whole answer.

        Raises:
            GLMError: There is none.
        """
        async with self._turn():
            return await self._until_answered(self._ask, build, limiter)

    async def pieces(self, build: Build, limiter: RateLimiter | None) -> AsyncGenerator[ChatResponse, None]:
        """Yield the answer so far with each of its pieces. Tried again only before the first token.

        Raises:
            GLMError: The answer failed; what came of it is in ``partial_text``.
        """
        async with self._turn():
            head, rest = await self._until_answered(self._begin, build, limiter)
            async with aclosing(rest):
                for response in head:
                    yield response
                async for response in rest:
                    yield response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def _until_answered(
        self, ask: Callable[[Body], Awaitable[T]], build: Build, limiter: RateLimiter | None
    ) -> T:
        try:
            return await asyncio.wait_for(self._ask_within_limits(ask, build, limiter), self.settings.deadline)
        except asyncio.TimeoutError:
            seconds = self.settings.deadline
            raise new_error(GLMTimeoutError, f"no answer within the deadline of {seconds:g} s") from None

    async def _ask_within_limits(
        self, ask: Callable[[Body], Awaitable[T]], build: Build, limiter: RateLimiter | None
    ) -> T:
        while True:
            body = await asyncio.to_thread(build)
            try:
                return await self._try(ask, body, limiter)
            except GLMError as refused:
                # Ends, as each lesson is a lower limit than the last.
                if not learn_limits(refused, self.settings.api_base, body):
                    raise

    async def _try(self, ask: Callable[[Body], Awaitable[T]], body: Body, limiter: RateLimiter | None) -> T:
        numbers = itertools.count(1)

        async def attempt() -> T:
            number = next(numbers)
            # LlamaIndex asks the limiter before a call, and knows nothing of further tries.
            if number > 1 and limiter is not None:
                await limiter.async_acquire()
            return await ask({**body, "request_id": _request_id(body.get("request_id"), number)})

        answer: T = await retrying(self.settings.max_retries, self.settings.deadline)(attempt)
        return answer

    async def _ask(self, body: Body) -> ChatResponse:
        try:
            return Answer().whole(await self._transport.post(body))
        except GLMError as error:
            self._complete(error, body)
            raise

    async def _begin(self, body: Body) -> tuple[list[ChatResponse], AsyncGenerator[ChatResponse, None]]:
        """Start a stream and read to its first token: return what came until then, and the rest."""
        responses = self._responses(body)
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

    async def _responses(self, body: Body) -> AsyncGenerator[ChatResponse, None]:
        answer = Answer()
        try:
            async with aclosing(self._transport.events(body)) as events:
                async for event in events:
                    yield answer.add(event)
            if (rest := answer.end()) is not None:
                yield rest
        except GLMError as error:
            self._complete(error, body)
            error.partial_text = answer.text
            raise

    def _complete(self, error: GLMError, body: Body) -> None:
        """Name the request in its error, and take out the key should the API have quoted it."""
        error.request_id = body["request_id"]
        error.args = (str(error).replace(self.settings.api_key, "…"),)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._turns is None:
            yield
            return
        await self._wait_for_turn(self._turns)
        try:
            yield
        finally:
            self._turns.release()
            self._ended += 1

    async def _wait_for_turn(self, turns: asyncio.Semaphore) -> None:
        """Wait in line as long as the line moves: calls end by their deadline, streams only when they are read."""
        if await _acquired_within(turns, _PATIENCE_SECONDS):
            return
        await self._collect_forgotten_streams()
        while True:
            ended = self._ended
            if await _acquired_within(turns, self.settings.deadline):
                return
            if self._ended == ended:
                raise new_error(
                    GLMTimeoutError,
                    f"none of the {self.settings.max_concurrency} calls of max_concurrency ended within "
                    f"{self.settings.deadline:g} s: read streams to their end, or close them",
                )

    async def _collect_forgotten_streams(self) -> None:
        """Free the turns of streams that lie in reference cycles, which Python might collect much later."""
        now = time.monotonic()
        if now - self._collected > _COLLECT_SECONDS:
            self._collected = now
            await asyncio.to_thread(gc.collect)


async def _acquired_within(turns: asyncio.Semaphore, seconds: float) -> bool:
    try:
        return await asyncio.wait_for(turns.acquire(), seconds)
    except asyncio.TimeoutError:
        return False


def _request_id(given: str | None, number: int) -> str:
    """Name a try: the API takes no name twice (code 1231)."""
    if given is None:
        return uuid.uuid4().hex
    suffix = f"-{number}" if number > 1 else ""
    return given[: _LONGEST_REQUEST_ID - len(suffix)] + suffix


def _has_token(response: ChatResponse) -> bool:
    return any(getattr(block, "text", True) for block in response.message.blocks)
