"""Faults of gateways and self-hosted models: other error formats, unusual events and tool calls, compression."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Literal

from llama_index_mm_zhipu.testing.faults import Fault
from llama_index_mm_zhipu.testing.wire import (
    CHARACTERS_PER_EVENT,
    DONE,
    Answer,
    Delta,
    Finish,
    Reply,
    event,
    json_reply,
)

ODD_EVENTS = (
    ": ping",
    'event: ping\ndata: {"type": "ping"}',
    'data: {"id": "", "choices": []}',
    'data: {"id": "", "choices": null}',
    'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}',
)
"""A comment, pings, events without choices, and token counts before the end of the stream."""

_WINDOW_BITS = {"gzip": 31, "deflate": 15, "raw deflate": -15}
_PADDING = b" " * (1 << 20)
_OPEN_EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "'
_OPEN_BODY = b'{"choices": [{"index": 0, "message": {"content": "'


@dataclass(frozen=True)
class GatewayError(Fault):
    """An error in the form of gateways: ``{"code": 500, "msg": "404 NOT_FOUND", "success": false}``, with status 200.

    Attributes:
        code: Value of ``code``, often an HTTP status.
        message: Value of ``msg``.
        after: Number of events before the error; None sends the error as a JSON body, even if the request asks for a
            stream.

    Examples:
        >>> from llama_index_mm_zhipu.testing import GatewayError, MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.script(GatewayError(500, "404 NOT_FOUND"))
        ...     ZhipuMultiModal(api_base=server.url, max_retries=0).complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMInvalidRequestError: the GLM API answered HTTP 200, code 500: 404
        NOT_FOUND; check api_base: it ends before /chat/completions, as https://open.bigmodel.cn/api/paas/v4 and
        http://localhost:8000/v1 do; check model name, parameters and images; if the API cannot fetch an image
        URL, set inline_urls=True
    """

    code: int | str
    message: str
    after: int | None = None

    def alter_reply(self, reply: Reply) -> Reply:
        """Send the error."""
        body = {"code": self.code, "msg": self.message, "success": False}
        if self.after is None or not reply.is_stream:
            return json_reply(200, body)
        return replace(reply, pieces=(*reply.pieces[: self.after], event(body)), finish=Finish.CLOSE)


@dataclass(frozen=True)
class NoFinishReason(Fault):
    """A stream that ends with ``[DONE]`` but without a ``finish_reason``, as truncated answers of some gateways do.

    Attributes:
        after: Number of events; None sends all but the last, which has the ``finish_reason``.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, NoFinishReason
        >>> with MockGLMServer() as server:
        ...     server.script(NoFinishReason(after=2))
        ...     try:
        ...         for response in ZhipuMultiModal(api_base=server.url, max_retries=0).stream_complete("你好"):
        ...             print(response.delta, end="|")
        ...     except GLMError as error:
        ...         print(type(error).__name__)
        （本地模拟服务，|不是模型）问题：|GLMConnectionError
    """

    after: int | None = None

    def alter_reply(self, reply: Reply) -> Reply:
        """Drop the last events; answers that are not streamed stay unchanged."""
        if not reply.is_stream:
            return reply
        return replace(reply, pieces=(*reply.pieces[:-2][: self.after], DONE))


@dataclass(frozen=True)
class OddEvents(Fault):
    """A stream with additional comments, pings and events without choices.

    Attributes:
        events: The additional events, without the blank lines between them.
        after: Number of events before them.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, OddEvents
        >>> with MockGLMServer() as server:
        ...     server.script(OddEvents())
        ...     responses = list(ZhipuMultiModal(api_base=server.url).stream_complete("你好"))
        >>> responses[-1].text.splitlines()[0]
        '（本地模拟服务，不是模型）问题：你好'
    """

    events: Sequence[str] = ODD_EVENTS
    after: int = 0

    def alter_reply(self, reply: Reply) -> Reply:
        """Insert the additional events; answers that are not streamed stay unchanged."""
        if not reply.is_stream:
            return reply
        odd = tuple(f"{lines}\n\n".encode() for lines in self.events)
        return replace(reply, pieces=(*reply.pieces[: self.after], *odd, *reply.pieces[self.after :]))


@dataclass(frozen=True)
class Compressed(Fault):
    """A normal answer that is compressed.

    Attributes:
        encoding: ``gzip``, ``deflate``, or ``raw deflate``, which lacks the zlib header; some servers send it as
            ``deflate``.
        padding: Number of spaces before the answer, in a stream as a comment. A thousand of them compress to one byte.
        header: Value of ``Content-Encoding``; the default names the encoding that is used.

    Examples:
        >>> from llama_index_mm_zhipu.testing import Compressed, MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.script(Compressed("deflate"))
        ...     text = ZhipuMultiModal(api_base=server.url).complete("你好").text
        >>> text.splitlines()[0]
        '（本地模拟服务，不是模型）问题：你好'
    """

    encoding: Literal["gzip", "deflate", "raw deflate"] = "gzip"
    _: KW_ONLY
    padding: int = 0
    header: str | None = None

    def alter_reply(self, reply: Reply) -> Reply:
        """Compress the pieces, and flush after each so that a client can decode it at once."""
        pieces = tuple(self._compressed(reply))
        length = None if reply.is_stream else sum(map(len, pieces))
        header = self.header or self.encoding.removeprefix("raw ")
        return replace(reply, pieces=pieces, length=length, content_encoding=header)

    def _compressed(self, reply: Reply) -> Iterator[bytes]:
        compressor = zlib.compressobj(wbits=_WINDOW_BITS[self.encoding])
        before = [compressor.compress(b":" if reply.is_stream and self.padding else b"")]
        for start in range(0, self.padding, len(_PADDING)):
            before.append(compressor.compress(_PADDING[: self.padding - start]))
        before.append(compressor.compress(b"\n" if self.padding else b""))
        yield b"".join(before) + compressor.flush(zlib.Z_SYNC_FLUSH)
        for piece in reply.pieces:
            yield compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH)
        yield compressor.flush()


@dataclass(frozen=True)
class Endless(Fault):
    """A stream with an event that never ends, or a body that never ends, until the client closes the connection.

    Attributes:
        repeated: The text that is repeated inside the content. If it begins with a line end, a stream repeats it
            between events, so that it may be a comment.
        after: Number of events before the endless one.
        pause: Seconds between two repetitions.

    Examples:
        >>> from llama_index_mm_zhipu.testing import Endless, MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.script(Endless())
        ...     try:
        ...         for response in ZhipuMultiModal(api_base=server.url, max_retries=0).stream_complete("你好"):
        ...             print(response.delta, end="|")
        ...     except GLMError as error:
        ...         print(type(error).__name__)
        （本地模拟服务，|GLMProtocolError
    """

    repeated: str = "x" * 65_536
    _: KW_ONLY
    after: int = 1
    pause: float = 0.0

    def alter_reply(self, reply: Reply) -> Reply:
        """Send the beginning of the reply, then repeat the text."""
        beginning = (*reply.pieces[: self.after], _OPEN_EVENT) if reply.is_stream else (_OPEN_BODY,)
        if reply.is_stream and self.repeated.startswith("\n"):
            beginning = reply.pieces[: self.after]
        return replace(reply, pieces=beginning, length=None, pause=self.pause, endless=self.repeated.encode())


@dataclass(frozen=True)
class ToolCalls(Fault):
    """An answer that calls functions, whatever the request asks.

    Attributes:
        calls: Name and arguments of each call. The arguments are sent unchanged and need not be JSON.
        style: How a stream distinguishes the calls. ``"index"``: by index, like the API. ``"one index"``: all calls
            have index 0. ``"no index"``: no call has an index. ``"new ids"``: each fragment has a different id, and
            only the first fragment of a call has a name. ``"no ids"``: all calls have index 0 and no id.
        finish_reason: Value of ``finish_reason``.

    Examples:
        >>> from llama_index.core.llms import ChatMessage
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, ToolCalls
        >>> with MockGLMServer() as server:
        ...     server.script(ToolCalls([("search", '{"query": "红苹果"}')]))
        ...     response = ZhipuMultiModal(api_base=server.url).chat([ChatMessage("找红苹果")])
        >>> [(call.tool_name, call.tool_kwargs) for call in llm.get_tool_calls_from_response(response)]
        [('search', {'query': '红苹果'})]
    """

    calls: Sequence[tuple[str, str]]
    style: Literal["index", "one index", "no index", "new ids", "no ids"] = "index"
    finish_reason: str = "tool_calls"

    def alter_answer(self, answer: Answer) -> Answer:
        """Replace the answer with the calls."""
        return replace(answer, deltas=tuple(self._deltas()), finish_reason=self.finish_reason)

    def _deltas(self) -> Iterator[Delta]:
        for number, (name, arguments) in enumerate(self.calls):
            index = {} if self.style == "no index" else {"index": number if self.style in ("index", "new ids") else 0}
            call_id = {} if self.style == "no ids" else {"id": f"call_{number}"}
            yield _fragment({**index, **call_id, "type": "function"}, {"name": name, "arguments": ""})
            for start in range(0, len(arguments), CHARACTERS_PER_EVENT):
                new_id = {"id": f"call_{number}_{start}"} if self.style == "new ids" else {}
                yield _fragment({**index, **new_id}, {"arguments": arguments[start : start + CHARACTERS_PER_EVENT]})


def _fragment(head: Delta, function: Delta) -> Delta:
    return {"tool_calls": [{**head, "function": function}]}
