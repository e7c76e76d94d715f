"""One call of the API from its beginning to its end: its turn, its tries, its deadline, and limits that it meets."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from llama_index.core.base.llms.types import ChatResponse

from llama_index_mm_zhipu.llm.addresses import secrets_of, without_secrets
from llama_index_mm_zhipu.llm.api_style import Style
from llama_index_mm_zhipu.llm.errors import GLMError, GLMTimeoutError, new_error
from llama_index_mm_zhipu.llm.limits import learn_limits
from llama_index_mm_zhipu.llm.responses import PARTIAL_TOOL_CALLS, Answer
from llama_index_mm_zhipu.llm.retries import retrying
from llama_index_mm_zhipu.llm.tool_calls import ToolCalls, functions_without_parameters
from llama_index_mm_zhipu.llm.transport import Body, Transport
from llama_index_mm_zhipu.llm.turns import Turns

T = TypeVar("T")

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
        build: Makes the body; called again when a limit was learned.
        holds_pictures: Whether this may take its time.
        limiter: Asked before every further try: LlamaIndex asks it before a call, and knows nothing of those.
    """

    build: Callable[[], Body]
    holds_pictures: bool
    limiter: RateLimiter | None


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
        # Threads of their own: the event loop's look up addresses, and must not wait for pictures.
        self._builders = ThreadPoolExecutor(_BUILDERS, thread_name_prefix="llama-index-mm-zhipu-pictures")

    async def answer(self, request: Request) -> ChatResponse:
        """Return the whole answer.

        Raises:
            GLMError: There is none.
        """
        async with self._turn(is_stream=False):
            return await self._until_answered(self._ask, request)

    async def pieces(self, request: Request) -> AsyncGenerator[ChatResponse, None]:
        """Yield the answer so far with each of its pieces. Tried again only before the first token.

        Raises:
            GLMError: The answer failed; what came of it is in ``partial_text``.
        """
        async with self._turn(is_stream=True):
            head, rest = await self._until_answered(self._begin, request)
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
        answering = asyncio.ensure_future(self._ask_within_limits(ask, request))
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

    async def _ask_within_limits(self, ask: Callable[[Body], Awaitable[T]], request: Request) -> T:
        tries = itertools.count(1)
        while True:
            body = await self._build(request)
            try:
                return await self._try(ask, body, tries, request.limiter)
            except GLMError as refused:
                # Ends, as each lesson is a lower limit than the last. Errors without a status do not quote the API.
                if refused.http_status is None or not learn_limits(refused, self.settings.api_base, body):
                    raise

    async def _build(self, request: Request) -> Body:
        if not request.holds_pictures:
            return request.build()
        return await asyncio.get_running_loop().run_in_executor(self._builders, request.build)

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

    async def _ask(self, body: Body) -> ChatResponse:
        try:
            return await self._transport.post(body, _new_answer(body).whole)
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

    def _complete(self, error: GLMError, body: Body) -> None:
        """Name the request in its error if it had a name, and take out secrets should the API have quoted them."""
        if self.settings.style == "glm":
            error.request_id = body["request_id"]
        error.args = (without_secrets(str(error), self._secrets),)


def _request_id(given: object, number: int) -> str:
    """Name a try: the API takes no name twice (code 1231)."""
    if given is None:
        return uuid.uuid4().hex
    suffix = f"-{number}" if number > 1 else ""
    return str(given)[: _LONGEST_REQUEST_ID - len(suffix)] + suffix


def _new_answer(body: Body) -> Answer:
    return Answer(calls=ToolCalls(functions_without_parameters(body.get("tools"))))


def _has_token(response: ChatResponse) -> bool:
    has_content = any(getattr(block, "text", True) for block in response.message.blocks)
    return has_content or PARTIAL_TOOL_CALLS in response.additional_kwargs
