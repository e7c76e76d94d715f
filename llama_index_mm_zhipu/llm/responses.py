"""Converts the API's answers, whole or in pieces, to LlamaIndex's chat responses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

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
from llama_index_mm_zhipu.llm.tools import ToolCalls, api_tool_call
from llama_index_mm_zhipu.text import SurrogateReplacer

PARTIAL_TOOL_CALLS = "partial_tool_calls"
"""Key in ``additional_kwargs`` of a stream's responses: calls whose arguments are incomplete, in the API's form."""

THINK = ("<think>", "</think>")
BOX = ("<|begin_of_box|>", "<|end_of_box|>")

_ERROR_BY_FINISH_REASON: dict[str, type[GLMError]] = {
    "sensitive": GLMContentFilteredError,
    "network_error": GLMServerError,
    "model_context_window_exceeded": GLMContextTooLongError,
}


@dataclass
class MarkedText:
    """Separates marked reasoning and boxes from text that comes in pieces. A mark may be cut between two pieces.

    Attributes:
        text: Text without marks and reasoning.
        reasoning: Text in ``<think>`` at the beginning, or before a ``</think>`` without ``<think>``, because some
            servers omit the first mark. Anywhere else these marks are text.
        boxed: Content of the last box, which is part of ``text`` as well.
    """

    text: str = ""
    reasoning: str = ""
    boxed: str = ""
    _held: str = ""
    _state: Literal["start", "thinking", "after thinking", "text"] = "start"
    _in_box: bool = False
    _may_end_thinking: bool = True
    _returned: int = 0

    def add(self, piece: str, *, last: bool) -> str:
        """Add a piece and return what it adds to the text.

        If a later ``</think>`` turns text into reasoning, that text has been returned already and cannot be taken
        back, but ``text`` and ``reasoning`` are correct from then on.

        Args:
            piece: The next piece.
            last: Whether this is the last piece. Otherwise text that may begin a mark is held back.
        """
        self._held += piece
        self._returned = len(self.text)
        while self._step(last):
            pass
        return self.text[self._returned :]

    def _step(self, last: bool) -> bool:
        """Process the next part of the text that is held; return whether there may be another part."""
        if self._state == "start":
            return self._step_at_start(last)
        if self._state == "thinking":
            return self._step_in_thinking(last)
        if self._state == "after thinking":
            self._held = self._held.lstrip()
            if self._held:
                self._state = "text"
            return bool(self._held)
        return self._step_in_text(last)

    def _step_at_start(self, last: bool) -> bool:
        begun = self._held.lstrip()
        if begun.startswith(THINK[0]):
            self._held = begun.removeprefix(THINK[0])
            self._state = "thinking"
            self._may_end_thinking = False
            return True
        if last or not THINK[0].startswith(begun):
            self._state = "text"
            return True
        return False

    def _step_in_thinking(self, last: bool) -> bool:
        thought, mark, rest = self._held.partition(THINK[1])
        if mark:
            self._add_reasoning(thought)
            self._held, self._state = rest, "after thinking"
            return True
        kept = 0 if last else _length_of_cut_mark(self._held, THINK[1:])
        self._add_reasoning(self._held[: len(self._held) - kept])
        self._held = self._held[len(self._held) - kept :]
        return False

    def _step_in_text(self, last: bool) -> bool:
        marks = (*BOX, *THINK) if self._may_end_thinking else BOX
        found = [(position, mark) for mark in marks if (position := self._held.find(mark)) >= 0]
        if found:
            position, mark = min(found)
            self._add_text(self._held[:position])
            self._held = self._held[position + len(mark) :]
            self._handle_mark(mark)
            return True
        kept = 0 if last else _length_of_cut_mark(self._held, marks)
        self._add_text(self._held[: len(self._held) - kept])
        self._held = self._held[len(self._held) - kept :]
        return False

    def _handle_mark(self, mark: str) -> None:
        if mark in BOX:
            self._in_box = mark == BOX[0]
            self.boxed = "" if self._in_box else self.boxed
            return
        self._may_end_thinking = False
        if mark == THINK[0]:
            # After the beginning, the text is about the marks.
            self._add_text(mark)
            return
        self._add_reasoning(self.text)
        self.text, self.boxed, self._in_box, self._returned = "", "", False, 0
        self._state = "after thinking"

    def _add_reasoning(self, thought: str) -> None:
        self.reasoning += thought if self.reasoning else thought.lstrip()

    def _add_text(self, text: str) -> None:
        self.text += text
        if self._in_box:
            self.boxed += text


def _length_of_cut_mark(text: str, marks: tuple[str, ...]) -> int:
    """Return the length of the longest end of a text that is the beginning of a mark."""
    lengths = range(min(len(text), max(map(len, marks)) - 1), 0, -1)
    return next((length for length in lengths if any(mark.startswith(text[-length:]) for mark in marks)), 0)


@dataclass
class Answer:
    """Collects text, reasoning and tool calls from all pieces of an answer.

    Attributes:
        model: Name of the model that was asked, then the name in the answer.
        finish_reason: Last ``finish_reason`` of the answer.
        usage: Token counts of the service.
        content_filter: Ratings of unsafe content.
        calls: Tool calls so far.
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
    _characters: SurrogateReplacer = field(default_factory=SurrogateReplacer)
    _reasoning_characters: SurrogateReplacer = field(default_factory=SurrogateReplacer)
    _body: dict[str, Any] = field(default_factory=dict)

    @property
    def has_begun(self) -> bool:
        """Whether the answer has anything that the service bills."""
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
        """Return the response for an answer that was not streamed.

        Args:
            body: Parsed JSON of the answer.

        Raises:
            GLMError: The answer failed or has no content.
        """
        with _expected_form():
            delta = self._take(body, "message", last=True)
            self._check_content()
            self._complete_calls = self.calls.complete(self.finish_reason)
            return self._response(delta)

    def add(self, event: dict[str, Any]) -> ChatResponse:
        """Add a piece of a stream and return the answer so far.

        The text of the piece is in ``delta``, its reasoning in ``thinking_delta`` of ``additional_kwargs``, where
        LlamaIndex's agents expect it. Tool calls become blocks when the API has finished the answer. Until then they
        are only in ``partial_tool_calls``, so that no code takes them for complete calls.

        Args:
            event: Parsed JSON of the piece.

        Raises:
            GLMError: The piece reports that the answer failed.
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
        """Return the calls if they are complete. Errors wait for the end, as more may follow a ``finish_reason``."""
        try:
            return self.calls.complete(self.finish_reason) if self.finish_reason is not None else []
        except GLMToolCallError:
            return []

    def end(self) -> ChatResponse | None:
        """Process the end of a stream and return the answer if this has changed it.

        Raises:
            GLMError: No piece had content, or the arguments of a tool are incomplete.
        """
        self._check_content()
        rest = self._marked.add(self._characters.add("", last=True), last=True)
        known, self._complete_calls = self._complete_calls, self.calls.complete(self.finish_reason)
        return self._response(rest) if rest or known != self._complete_calls else None

    def rest(self) -> str:
        """Process the end of a stream that failed, and return its text."""
        self._marked.add(self._characters.add("", last=True), last=True)
        return self.text

    def _take(self, body: dict[str, Any], part: str, *, last: bool) -> str:
        """Add the JSON of an answer or a piece; return what it adds to the text."""
        choices = body.get("choices") or []
        # Some gateways do not name the model.
        self.model = body.get("model") or self.model
        self._body = {**body, "model": self.model} if self.model else body
        self.usage = body.get("usage") or self.usage
        self.content_filter = body.get("content_filter") or self.content_filter
        # Events without choices hold usage or keep the connection alive.
        if not choices and part == "message":
            raise new_error(GLMProtocolError, "the GLM API sent an answer without choices")
        delta = "".join(self._take_choice(choice, part, last=last) for choice in choices[:1])
        self._check_finish()
        return delta

    def _take_choice(self, choice: dict[str, Any], part: str, *, last: bool) -> str:
        piece = choice.get(part) or {}
        content, calls = piece.get("content"), piece.get("tool_calls")
        # Newer versions of vLLM name the field "reasoning".
        reasoning = piece.get("reasoning_content") or piece.get("reasoning")
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        # The last event of a stream always has empty content.
        is_content = bool(content) if part == "delta" and self.finish_reason else content is not None
        self._has_content = self._has_content or is_content or bool(reasoning or calls)
        last = last or self.finish_reason is not None
        self._reasoning += self._reasoning_characters.add(reasoning or "", last=last)
        self.calls.add(calls or [], whole=part == "message")
        return self._marked.add(self._characters.add(_text(content), last=last), last=last)

    def _check_finish(self) -> None:
        error_type = _ERROR_BY_FINISH_REASON.get(self.finish_reason or "")
        if error_type is not None:
            what = f"the GLM API ended the answer with {self.finish_reason!r} after {len(self.text)} characters"
            raise new_error(error_type, what, partial_text=self.text)

    def _check_content(self) -> None:
        if not self._has_content:
            raise new_error(GLMProtocolError, "the GLM API sent an answer without content")

    def _response(self, delta: str) -> ChatResponse:
        thoughts = [ThinkingBlock(content=self.reasoning)] if self.reasoning else []
        counts = {key: value for key, value in self.usage.items() if isinstance(value, int)}
        optional = {"boxed": self._marked.boxed, "content_filter": self.content_filter}
        # LlamaIndex's streams of structured output check ``tool_calls`` and then read the blocks.
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
                **{key: value for key, value in optional.items() if value},
            },
        )


@contextmanager
def _expected_form() -> Iterator[None]:
    """Turn errors of JSON that does not have the form of an answer into ``GLMProtocolError``."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError):
        raise new_error(GLMProtocolError, "the GLM API sent JSON that is not of the form of an answer") from None


def _text(content: Any) -> str:
    """Return content, which is a string, a list of text parts or null, as text."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return str(content or "")
