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
from llama_index_mm_zhipu.llm.tools import ToolCalls, api_tool_call
from llama_index_mm_zhipu.text import SurrogateReplacer

THINK = ("<think>", "</think>")
BOX = ("<|begin_of_box|>", "<|end_of_box|>")


@dataclass
class MarkedText:
    """Text that comes in pieces, taken apart; a mark may be cut between two pieces.

    Attributes:
        text: Without marks and without reasoning.
        reasoning: What stood in ``<think>`` at the beginning of the text, or before a ``</think>`` that no ``<think>``
            came before: some servers leave the first mark out. Elsewhere these words are text.
        boxed: What stood in the last box; it is in the text, too.
    """

    text: str = ""
    reasoning: str = ""
    boxed: str = ""
    _held: str = ""
    _place: str = "start"
    _in_box: bool = False
    _may_end_thinking: bool = True
    _passed_on: int = 0

    def add(self, piece: str, *, last: bool) -> str:
        """Take a piece and return what it adds to the text.

        Text that a later ``</think>`` turns into reasoning was already returned: it cannot be taken back, but ``text``
        and ``reasoning`` are right from then on.

        Args:
            piece: The next piece, as it came.
            last: Whether it is the last one: then nothing is held back for a mark that may follow.
        """
        self._held += piece
        self._passed_on = len(self.text)
        while self._step(last):
            pass
        return self.text[self._passed_on :]

    def _step(self, last: bool) -> bool:
        """Take the next stretch off what is held; return whether there may be another."""
        if self._place == "start":
            return self._step_at_start(last)
        if self._place == "thinking":
            return self._step_in_thinking(last)
        if self._place == "after thinking":
            self._held = self._held.lstrip()
            if self._held:
                self._place = "text"
            return bool(self._held)
        return self._step_in_text(last)

    def _step_at_start(self, last: bool) -> bool:
        begun = self._held.lstrip()
        if begun.startswith(THINK[0]):
            self._held = begun.removeprefix(THINK[0])
            self._place = "thinking"
            self._may_end_thinking = False
            return True
        if last or not THINK[0].startswith(begun):
            self._place = "text"
            return True
        return False

    def _step_in_thinking(self, last: bool) -> bool:
        thought, mark, rest = self._held.partition(THINK[1])
        if mark:
            self._think(thought)
            self._held, self._place = rest, "after thinking"
            return True
        kept = 0 if last else _length_of_cut_mark(self._held, THINK[1:])
        self._think(self._held[: len(self._held) - kept])
        self._held = self._held[len(self._held) - kept :]
        return False

    def _step_in_text(self, last: bool) -> bool:
        marks = (*BOX, *THINK) if self._may_end_thinking else BOX
        found = [(place, mark) for mark in marks if (place := self._held.find(mark)) >= 0]
        if found:
            place, mark = min(found)
            self._take(self._held[:place])
            self._held = self._held[place + len(mark) :]
            self._take_mark(mark)
            return True
        kept = 0 if last else _length_of_cut_mark(self._held, marks)
        self._take(self._held[: len(self._held) - kept])
        self._held = self._held[len(self._held) - kept :]
        return False

    def _take_mark(self, mark: str) -> None:
        if mark in BOX:
            self._in_box = mark == BOX[0]
            self.boxed = "" if self._in_box else self.boxed
            return
        self._may_end_thinking = False
        if mark == THINK[0]:
            # The text speaks of the marks.
            self._take(mark)
            return
        self._think(self.text)
        self.text, self.boxed, self._in_box, self._passed_on = "", "", False, 0
        self._place = "after thinking"

    def _think(self, thought: str) -> None:
        self.reasoning += thought if self.reasoning else thought.lstrip()

    def _take(self, text: str) -> None:
        self.text += text
        if self._in_box:
            self.boxed += text


def _length_of_cut_mark(text: str, marks: tuple[str, ...]) -> int:
    """Return the length of the longest end of the text that one of the marks begins with."""
    lengths = range(min(len(text), max(map(len, marks)) - 1), 0, -1)
    return next((length for length in lengths if any(mark.startswith(text[-length:]) for mark in marks)), 0)


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
    _characters: SurrogateReplacer = field(default_factory=SurrogateReplacer)
    _reasoning_characters: SurrogateReplacer = field(default_factory=SurrogateReplacer)
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
