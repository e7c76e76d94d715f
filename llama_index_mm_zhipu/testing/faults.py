"""Faults for ``MockGLMServer.script``: errors, malformed replies, broken and slow connections, unusual contents.

In all faults ``after`` is the number of events that a stream sends before the fault happens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from llama_index_mm_zhipu.testing.wire import (
    DONE,
    JSON,
    Answer,
    Finish,
    Reply,
    error_body,
    event,
    json_reply,
    text_deltas,
    whole_reply,
)

_GARBAGE = '{"choices": [{"index": 0, "del'
_TRICKLED_PIECES = 4
_WRAPPED_CHARACTERS_PER_EVENT = 3


@dataclass(frozen=True)
class Fault:
    """Base class of the faults, each of which changes one answer. The base class itself changes nothing.

    Examples:
        >>> from dataclasses import dataclass, replace
        >>> from llama_index_mm_zhipu.testing import Fault, MockGLMServer
        >>> @dataclass(frozen=True)
        ... class Overloaded(Fault):
        ...     def alter_reply(self, reply):
        ...         return replace(reply, status=503)
        >>> with MockGLMServer() as server:
        ...     server.script(Overloaded())
        ...     ZhipuMultiModal(api_base=server.url, max_retries=0).complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMServerError: the GLM API answered HTTP 503; try again later
    """

    def instead(self) -> Reply | None:
        """Return a reply that is sent instead of any answer, or None."""
        return None

    def alter_answer(self, answer: Answer) -> Answer:
        """Return the answer with other contents."""
        return answer

    def alter_reply(self, reply: Reply) -> Reply:
        """Return the reply as it is sent."""
        return reply


# Errors and malformed replies


@dataclass(frozen=True)
class ErrorAnswer(Fault):
    """An error of the API as a JSON body, even if the request asks for a stream.

    Attributes:
        status: HTTP status; the API also sends errors with 200.
        code: Business code; gateways write it as a number.
        message: Message of the API.
        retry_after: Value of ``Retry-After``.
        content_filter: Value of ``contentFilter`` beside the error, such as ``[{"level": 1, "role": "user"}]``.

    Examples:
        >>> from llama_index_mm_zhipu.testing import ErrorAnswer, MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.script(ErrorAnswer(429, "1302", "并发数过高", retry_after=2))
        ...     try:
        ...         ZhipuMultiModal(api_base=server.url, max_retries=0).complete("你好")
        ...     except GLMError as error:
        ...         print(error.code, error.retry_after)
        1302 2.0
    """

    status: int
    code: str | int
    message: str
    _: KW_ONLY
    retry_after: float | str | None = None
    content_filter: Sequence[Mapping[str, Any]] | None = None

    def instead(self) -> Reply:
        """Return the error."""
        body = error_body(self.code, self.message)
        if self.content_filter is not None:
            body["contentFilter"] = list(self.content_filter)
        return json_reply(self.status, body, self.retry_after)


@dataclass(frozen=True)
class RawAnswer(Fault):
    """A body of any kind: HTML of a proxy, broken JSON, an empty body, unusual server-sent events.

    Attributes:
        body: The body.
        status: HTTP status.
        content_type: Value of ``Content-Type``.
        retry_after: Value of ``Retry-After``.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, RawAnswer
        >>> with MockGLMServer() as server:
        ...     server.script(RawAnswer("<html>502 Bad Gateway</html>", status=502))
        ...     ZhipuMultiModal(api_base=server.url, max_retries=0).complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMServerError: the GLM API answered HTTP 502; try again later
    """

    body: str | bytes
    _: KW_ONLY
    status: int = 200
    content_type: str = "text/html; charset=utf-8"
    retry_after: float | str | None = None

    def instead(self) -> Reply:
        """Return the body."""
        body = self.body.encode() if isinstance(self.body, str) else self.body
        return whole_reply(self.status, self.content_type, body, self.retry_after)


@dataclass(frozen=True)
class ErrorEvent(Fault):
    """A stream that ends with an error event; an answer that is not streamed is an error with HTTP status 200.

    Examples:
        >>> from llama_index_mm_zhipu.testing import ErrorEvent, MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.script(ErrorEvent("1305", "模型当前访问量过大", after=2))
        ...     try:
        ...         for response in ZhipuMultiModal(api_base=server.url, max_retries=0).stream_complete("你好"):
        ...             print(response.delta, end="|")
        ...     except GLMError as error:
        ...         print(type(error).__name__)
        （本地模拟服务，|不是模型）问题：|GLMRateLimitError
    """

    code: str | int
    message: str
    after: int = 1

    def alter_reply(self, reply: Reply) -> Reply:
        """End the stream with the error."""
        body = error_body(self.code, self.message)
        if not reply.is_stream:
            return json_reply(200, body)
        return replace(reply, pieces=(*reply.pieces[: self.after], event(body)), finish=Finish.CLOSE)


@dataclass(frozen=True)
class GarbageEvent(Fault):
    """A stream with an event that is not JSON; an answer that is not streamed has a body that is not JSON.

    Examples:
        >>> from llama_index_mm_zhipu.testing import GarbageEvent, MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.script(GarbageEvent(after=2))
        ...     try:
        ...         for response in ZhipuMultiModal(api_base=server.url, max_retries=0).stream_complete("你好"):
        ...             print(response.delta, end="|")
        ...     except GLMError as error:
        ...         print(type(error).__name__)
        （本地模拟服务，|不是模型）问题：|GLMProtocolError
    """

    after: int = 1

    def alter_reply(self, reply: Reply) -> Reply:
        """Insert the invalid event."""
        if not reply.is_stream:
            return whole_reply(200, JSON, _GARBAGE.encode())
        garbage = f"data: {_GARBAGE}\n\n".encode()
        return replace(reply, pieces=(*reply.pieces[: self.after], garbage, *reply.pieces[self.after :]))


# Connections


@dataclass(frozen=True)
class Cut(Fault):
    """The connection is closed before the reply is complete.

    Attributes:
        after: Number of events before the connection is closed; an answer that is not streamed is cut in the middle of
            its body. None closes the connection before the status line.
        reset: Whether the connection is reset instead of closed.

    Examples:
        >>> from llama_index_mm_zhipu.testing import Cut, MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.script(Cut(after=2))
        ...     try:
        ...         for response in ZhipuMultiModal(api_base=server.url, max_retries=0).stream_complete("你好"):
        ...             print(response.delta, end="|")
        ...     except GLMError as error:
        ...         print(type(error).__name__)
        （本地模拟服务，|不是模型）问题：|GLMConnectionError
    """

    after: int | None = None
    _: KW_ONLY
    reset: bool = False

    def alter_reply(self, reply: Reply) -> Reply:
        """Send only a part of the reply."""
        return _part(reply, self.after, Finish.RESET if self.reset else Finish.CUT)


@dataclass(frozen=True)
class Stall(Fault):
    """The reply stops, but the connection stays open until the client or the server closes it.

    Attributes:
        after: As in ``Cut``.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, Stall
        >>> with MockGLMServer() as server:
        ...     server.script(Stall())
        ...     ZhipuMultiModal(api_base=server.url, timeout=0.05, max_retries=0).complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMTimeoutError: the GLM API did not answer in time (...); raise timeout
        or deadline: images can take two minutes at busy hours
    """

    after: int | None = None

    def alter_reply(self, reply: Reply) -> Reply:
        """Send only a part of the reply."""
        return _part(reply, self.after, Finish.STALL)


@dataclass(frozen=True)
class Delay(Fault):
    """A normal answer that is sent after so many seconds.

    Examples:
        >>> from llama_index_mm_zhipu.testing import Delay, MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.script(Delay(0.01))
        ...     text = ZhipuMultiModal(api_base=server.url).complete("你好").text
        >>> text.splitlines()[0]
        '（本地模拟服务，不是模型）问题：你好'
    """

    seconds: float

    def alter_reply(self, reply: Reply) -> Reply:
        """Wait before the status line."""
        return replace(reply, delay=self.seconds)


@dataclass(frozen=True)
class Trickle(Fault):
    """A normal answer with so many seconds between its events, or between the four pieces of a body.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, Trickle
        >>> with MockGLMServer() as server:
        ...     server.script(Trickle(0.01))
        ...     text = ZhipuMultiModal(api_base=server.url).complete("你好").text
        >>> text.splitlines()[0]
        '（本地模拟服务，不是模型）问题：你好'
    """

    seconds: float

    def alter_reply(self, reply: Reply) -> Reply:
        """Wait between the pieces."""
        if reply.is_stream:
            return replace(reply, pause=self.seconds)
        (body,) = reply.pieces
        size = -(-len(body) // _TRICKLED_PIECES)
        pieces = tuple(body[start : start + size] for start in range(0, len(body), size))
        return replace(reply, pieces=pieces, pause=self.seconds)


# Ends of streams. Answers that are not streamed stay unchanged.


@dataclass(frozen=True)
class MissingDone(Fault):
    """A stream that ends after the event with the ``finish_reason``, without ``[DONE]``.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MissingDone, MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.script(MissingDone())
        ...     responses = list(ZhipuMultiModal(api_base=server.url).stream_complete("你好"))
        >>> responses[-1].text.splitlines()[0]
        '（本地模拟服务，不是模型）问题：你好'
    """

    def alter_reply(self, reply: Reply) -> Reply:
        """Drop the last piece."""
        return replace(reply, pieces=reply.pieces[:-1]) if reply.is_stream else reply


@dataclass(frozen=True)
class NoFinalNewline(Fault):
    """A stream whose last line, ``data: [DONE]``, has no line end and no blank line after it.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, NoFinalNewline
        >>> with MockGLMServer() as server:
        ...     server.script(NoFinalNewline())
        ...     responses = list(ZhipuMultiModal(api_base=server.url).stream_complete("你好"))
        >>> responses[-1].text.splitlines()[0]
        '（本地模拟服务，不是模型）问题：你好'
    """

    def alter_reply(self, reply: Reply) -> Reply:
        """Strip the line ends from the last piece."""
        return replace(reply, pieces=(*reply.pieces[:-1], DONE.rstrip())) if reply.is_stream else reply


# Contents


@dataclass(frozen=True)
class Ending(Fault):
    """An answer that ends early with a finish reason such as ``length``, ``sensitive`` or ``network_error``.

    Attributes:
        finish_reason: Value of ``finish_reason``.
        after: Number of events before the last one; an answer that is not streamed has the text of so many events.
        content_filter: Value of ``content_filter``. With ``sensitive`` the API always sends one, and so does the
            default.

    Examples:
        >>> from llama_index_mm_zhipu.testing import Ending, MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.script(Ending("length"))
        ...     response = ZhipuMultiModal(api_base=server.url).complete("你好")
        >>> response.text, response.additional_kwargs["finish_reason"]
        ('（本地模拟服务，', 'length')
    """

    finish_reason: str
    after: int = 1
    _: KW_ONLY
    content_filter: Sequence[Mapping[str, Any]] | None = None

    def alter_answer(self, answer: Answer) -> Answer:
        """Keep the first deltas."""
        content_filter = self.content_filter
        if content_filter is None and self.finish_reason == "sensitive":
            content_filter = [{"role": "assistant", "level": 1}]
        return replace(
            answer,
            deltas=answer.deltas[: self.after],
            finish_reason=self.finish_reason,
            content_filter=content_filter,
        )


@dataclass(frozen=True)
class Reasoning(Fault):
    """An answer with reasoning, which a stream sends before the content, in events of its own.

    Attributes:
        text: The reasoning.
        key: Name of the field; newer versions of vLLM call it ``reasoning``.

    Examples:
        >>> from llama_index.core.llms import ChatMessage
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, Reasoning
        >>> with MockGLMServer() as server:
        ...     server.script(Reasoning("先看图片。"))
        ...     response = ZhipuMultiModal(api_base=server.url).chat([ChatMessage("你好")])
        >>> [block.block_type for block in response.message.blocks]
        ['thinking', 'text']
    """

    text: str
    key: str = "reasoning_content"

    def alter_answer(self, answer: Answer) -> Answer:
        """Put the reasoning before the content."""
        return replace(answer, deltas=(*text_deltas(self.text, self.key), *answer.deltas))


@dataclass(frozen=True)
class Wrapped(Fault):
    """An answer whose content is enclosed in two strings, such as ``<think>`` and ``</think>``.

    A stream sends three characters per event, so that these strings are split over several events.

    Attributes:
        prefix: String before the content.
        suffix: String after the content.

    Examples:
        >>> from llama_index.core.llms import ChatMessage
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, Wrapped
        >>> with MockGLMServer() as server:
        ...     server.script(Wrapped("<think>先看图片。</think>"))
        ...     response = ZhipuMultiModal(api_base=server.url).chat([ChatMessage("你好")])
        >>> [block.block_type for block in response.message.blocks]
        ['thinking', 'text']
    """

    prefix: str
    suffix: str = ""

    def alter_answer(self, answer: Answer) -> Answer:
        """Enclose the content; tool calls stay unchanged."""
        content = "".join(delta.get("content", "") for delta in answer.deltas)
        others = [delta for delta in answer.deltas if "content" not in delta]
        pieces = text_deltas(f"{self.prefix}{content}{self.suffix}", size=_WRAPPED_CHARACTERS_PER_EVENT)
        return replace(answer, deltas=(*pieces, *others))


@dataclass(frozen=True)
class Says(Fault):
    """An answer with a given content. The request is checked as usual.

    Attributes:
        text: The content; may be empty.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, Says
        >>> with MockGLMServer() as server:
        ...     server.script(Says("一个红苹果"))
        ...     ZhipuMultiModal(api_base=server.url).complete("图里是什么？", "images/apple.jpg").text
        '一个红苹果'
    """

    text: str

    def alter_answer(self, answer: Answer) -> Answer:
        """Replace the content."""
        return replace(answer, deltas=text_deltas(self.text) or ({"content": ""},))


@dataclass(frozen=True)
class NullContent(Fault):
    """An answer whose content is ``null``.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, NullContent
        >>> with MockGLMServer() as server:
        ...     server.script(NullContent())
        ...     ZhipuMultiModal(api_base=server.url, max_retries=0).complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMProtocolError: the GLM API sent an answer without content; check
        api_base; a proxy may have answered instead
    """

    def alter_answer(self, answer: Answer) -> Answer:
        """Replace the content."""
        return replace(answer, deltas=({"content": None},))


@dataclass(frozen=True)
class EmptyChoices(Fault):
    """An answer whose ``choices`` are empty; a stream has one such event.

    Examples:
        >>> from llama_index_mm_zhipu.testing import EmptyChoices, MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.script(EmptyChoices())
        ...     ZhipuMultiModal(api_base=server.url, max_retries=0).complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMProtocolError: the GLM API sent an answer without choices; check
        api_base; a proxy may have answered instead
    """

    def alter_answer(self, answer: Answer) -> Answer:
        """Remove the choices."""
        return replace(answer, has_choices=False)


def _part(reply: Reply, after: int | None, finish: Finish) -> Reply:
    if after is None:
        return replace(reply, pieces=(), begins=False, finish=finish)
    if reply.is_stream:
        return replace(reply, pieces=reply.pieces[:after], finish=finish)
    body = b"".join(reply.pieces)
    return replace(reply, pieces=(body[: len(body) // 2],), finish=finish)
