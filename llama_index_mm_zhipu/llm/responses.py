"""The API's answers, whole or in pieces, to LlamaIndex's chat responses."""

from __future__ import annotations

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
    GLMError,
    GLMProtocolError,
    GLMServerError,
    new_error,
)

_FAILURES: dict[str, type[GLMError]] = {"sensitive": GLMContentFilteredError, "network_error": GLMServerError}


@dataclass
class Answer:
    """An answer as it grows: text, reasoning and tool calls of all pieces so far.

    A whole answer is one piece.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: dict[int, dict[str, str]] = field(default_factory=dict)
    finish_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)

    def add(self, body: dict[str, Any], part: str) -> ChatResponse:
        """Take a piece and return the answer so far, with the piece's text as ``delta``.

        Args:
            body: Parsed JSON of the answer or of one event of a stream.
            part: Where the piece is in a choice: ``"message"`` or ``"delta"``.

        Raises:
            GLMError: The piece says that the answer failed, or holds no choice and no usage.
        """
        choices = body.get("choices") or []
        if not choices and not body.get("usage"):
            raise new_error(GLMProtocolError, "the GLM API sent an answer without choices")
        delta = ""
        for choice in choices[:1]:
            piece = choice.get(part) or {}
            delta = _text(piece.get("content"))
            self.text += delta
            self.reasoning += piece.get("reasoning_content") or ""
            self._add_tool_calls(piece.get("tool_calls") or [])
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        self.usage = body.get("usage") or self.usage
        self._check_finish(body)
        return self._response(body, delta)

    def _add_tool_calls(self, calls: list[dict[str, Any]]) -> None:
        for place, call in enumerate(calls):
            known = self.tool_calls.setdefault(call.get("index", place), {"id": "", "name": "", "arguments": ""})
            function = call.get("function") or {}
            known["id"] = call.get("id") or known["id"]
            known["name"] += function.get("name") or ""
            known["arguments"] += function.get("arguments") or ""

    def _check_finish(self, body: dict[str, Any]) -> None:
        kind = _FAILURES.get(self.finish_reason or "")
        if kind is not None:
            raise new_error(
                kind,
                f"the GLM API ended the answer with {self.finish_reason!r} after {len(self.text)} characters",
                request_id=body.get("request_id"),
            )

    def _response(self, body: dict[str, Any], delta: str) -> ChatResponse:
        blocks: list[Any] = []
        if self.reasoning:
            blocks.append(ThinkingBlock(content=self.reasoning))
        blocks.append(TextBlock(text=self.text))
        blocks.extend(
            ToolCallBlock(tool_call_id=call["id"], tool_name=call["name"], tool_kwargs=call["arguments"])
            for call in self.tool_calls.values()
        )
        counts = {key: value for key, value in self.usage.items() if isinstance(value, int)}
        return ChatResponse(
            message=ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks),
            delta=delta,
            raw=body,
            additional_kwargs={**counts, "finish_reason": self.finish_reason},
        )


def _text(content: Any) -> str:
    """Content comes as a string, a list of text parts, or null."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content or ""
