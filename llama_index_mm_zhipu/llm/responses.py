"""The API's answers, whole or in pieces, to LlamaIndex's chat responses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from llama_index_mm_zhipu.llm.errors import (
    GLMContentFilteredError,
    GLMContextTooLongError,
    GLMError,
    GLMProtocolError,
    GLMServerError,
    GLMToolCallError,
    new_error,
)
from llama_index_mm_zhipu.llm.markers import MarkedText
from llama_index_mm_zhipu.llm.tools import ToolCalls
from llama_index_mm_zhipu.llm.tools_old import api_tool_call
from llama_index_mm_zhipu.text import WholeCharacters

PARTIAL_TOOL_CALLS = "partial_tool_calls"
"""Key in ``additional_kwargs`` of a stream's responses: calls whose arguments are still coming, in the API's form."""

_FAILURES: dict[str, type[GLMError]] = {
    "sensitive": GLMContentFilteredError,
    "network_error": GLMServerError,
    "model_context_window_exceeded": GLMContextTooLongError,
}


@dataclass
class Answer:
    """An answer as it grows: text, reasoning and tool calls of all pieces so far.

    Attributes:
        model: The model that was asked, then the one that the API names.
    """

    model: str = ""
    finish_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    content_filter: list[dict[str, Any]] = field(default_factory=list)
    calls: ToolCalls = field(default_factory=ToolCalls)
    _complete_calls: list[ToolCallBlock] = field(default_factory=list)
    _marked: MarkedText = field(default_factory=MarkedText)
    _reasoning: str = ""
    _has_content: bool = False
    _characters: WholeCharacters = field(default_factory=WholeCharacters)
    _reasoning_characters: WholeCharacters = field(default_factory=WholeCharacters)
    _body: dict[str, Any] = field(default_factory=dict)

    @property
    def has_begun(self) -> bool:
        """Whether anything came that the service bills."""
        return self._has_content or bool(self.usage)

    @property
    def text(self) -> str:
        """Text so far, without marks."""
        return self._marked.text

    @property
    def reasoning(self) -> str:
        """Reasoning so far, from its own field and from the text."""
        return self._reasoning + self._marked.reasoning

    def whole(self, body: dict[str, Any]) -> ChatResponse:
        """Take an answer that came at once.

        Args:
            body: Its parsed JSON.

        Raises:
            GLMError: It failed, or holds no content.
        """
        with _expected_form():
            delta = self._take(body, "message", last=True)
            self._check_content()
            self._complete_calls = self.calls.complete(self.finish_reason)
            return self._response(delta)

    def add(self, event: dict[str, Any]) -> ChatResponse:
        """Take a piece of a stream and return the answer so far.

        What the piece adds to the text is its ``delta``, what it adds to the reasoning is ``thinking_delta`` in
        ``additional_kwargs``, where LlamaIndex's agents look for it. Tool calls become blocks when the API has finished
        the answer; until then they are only in ``partial_tool_calls``, where no code takes them for complete ones.

        Args:
            event: Its parsed JSON.

        Raises:
            GLMError: The piece says that the answer failed.
        """
        before = len(self.reasoning)
        with _expected_form():
            delta = self._take(event, "delta", last=False)
            self._complete_calls = self._calls_so_far()
            response = self._response(delta)
        if not self._complete_calls and (partial := self.calls.partial()):
            response.additional_kwargs[PARTIAL_TOOL_CALLS] = partial
        if thought := self.reasoning[before:]:
            response.additional_kwargs["thinking_delta"] = thought
        return response

    def _calls_so_far(self) -> list[ToolCallBlock]:
        """Return the calls if they seem finished; as more may follow a ``finish_reason``, errors wait for the end."""
        try:
            return self.calls.complete(self.finish_reason) if self.finish_reason is not None else []
        except GLMToolCallError:
            return []

    def end(self) -> ChatResponse | None:
        """Take the end of a stream and return the answer, if that adds to it.

        Raises:
            GLMError: No piece held any content, or the arguments of a tool are not complete.
        """
        self._check_content()
        rest = self._marked.add(self._characters.add("", last=True), last=True)
        known, self._complete_calls = self._complete_calls, self.calls.complete(self.finish_reason)
        return self._response(rest) if rest or known != self._complete_calls else None

    def rest(self) -> str:
        """Take the end of a stream that failed, and return its text."""
        self._marked.add(self._characters.add("", last=True), last=True)
        return self.text

    def _take(self, body: dict[str, Any], part: str, *, last: bool) -> str:
        choices = body.get("choices") or []
        # Some gateways do not say which model answers.
        self.model = body.get("model") or self.model
        self._body = {**body, "model": self.model} if self.model else body
        self.usage = body.get("usage") or self.usage
        self.content_filter = body.get("content_filter") or self.content_filter
        # Events without choices tell of usage or keep a connection alive.
        if not choices and part == "message":
            raise new_error(GLMProtocolError, "the GLM API sent an answer without choices")
        delta = "".join(self._take_choice(choice, part, last=last) for choice in choices[:1])
        self._check_finish()
        return delta

    def _take_choice(self, choice: dict[str, Any], part: str, *, last: bool) -> str:
        piece = choice.get(part) or {}
        content, calls = piece.get("content"), piece.get("tool_calls")
        # Newer versions of vLLM call it "reasoning".
        reasoning = piece.get("reasoning_content") or piece.get("reasoning")
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        # The last event of a stream has empty content whatever came before.
        is_content = bool(content) if part == "delta" and self.finish_reason else content is not None
        self._has_content = self._has_content or is_content or bool(reasoning or calls)
        last = last or self.finish_reason is not None
        self._reasoning += self._reasoning_characters.add(reasoning or "", last=last)
        self.calls.add(calls or [], whole=part == "message")
        return self._marked.add(self._characters.add(_text(content), last=last), last=last)

    def _check_finish(self) -> None:
        kind = _FAILURES.get(self.finish_reason or "")
        if kind is not None:
            what = f"the GLM API ended the answer with {self.finish_reason!r} after {len(self.text)} characters"
            raise new_error(kind, what, partial_text=self.text)

    def _check_content(self) -> None:
        if not self._has_content:
            raise new_error(GLMProtocolError, "the GLM API sent an answer without content")

    def _response(self, delta: str) -> ChatResponse:
        thoughts = [ThinkingBlock(content=self.reasoning)] if self.reasoning else []
        counts = {key: value for key, value in self.usage.items() if isinstance(value, int)}
        aside = {"boxed": self._marked.boxed, "content_filter": self.content_filter}
        # LlamaIndex's streams of structured output look for calls here, and read them from the blocks.
        calls = self._complete_calls
        listed = {"tool_calls": [api_tool_call(call) for call in calls]} if calls else {}
        return ChatResponse(
            message=ChatMessage(
                role=MessageRole.ASSISTANT,
                blocks=[*thoughts, TextBlock(text=self.text), *calls],
                additional_kwargs=listed,
            ),
            delta=delta,
            raw=self._body,
            additional_kwargs={
                **counts,
                "finish_reason": self.finish_reason,
                **({"model": self.model} if self.model else {}),
                **{key: value for key, value in aside.items() if value},
            },
        )


@contextmanager
def _expected_form() -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError):
        raise new_error(GLMProtocolError, "the GLM API sent JSON that is not of the form of an answer") from None


def _text(content: Any) -> str:
    """Content comes as a string, a list of text parts, or null."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return str(content or "")
