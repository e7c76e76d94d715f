"""What the messages of a request say: their texts, and the question among them."""

from __future__ import annotations

from typing import Any

OBSERVATION = "Observation:"
"""How LlamaIndex's ReAct agent begins what a tool gave, in a message of the user."""

_QUESTION_LABELS = ("问题：", "Query:", "Question:")


def parts_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the content of a message as parts, whatever its form."""
    content = message.get("content") or ""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def text_of(message: dict[str, Any]) -> str:
    """Return all text of a message."""
    return "\n".join(part["text"] for part in parts_of(message) if part["type"] == "text")


def last_question(messages: list[dict[str, Any]]) -> str:
    """Return what the user asked last; observations of an agent are not asked."""
    for message in reversed(messages):
        if message["role"] == "user" and not text_of(message).startswith(OBSERVATION):
            return question_in(text_after_pictures(message))
    return ""


def text_after_pictures(message: dict[str, Any]) -> str:
    """Return the last text of a message, if no picture follows it: others are captions."""
    last = (parts_of(message) or [{"type": "text", "text": ""}])[-1]
    return str(last["text"]) if last["type"] == "text" else ""


def question_in(text: str) -> str:
    """Find the question in a prompt: its last line, less what prompts write around it ("Query: …", "Answer:")."""
    lines = [line for line in text.splitlines() if not line.strip().endswith((":", "："))]
    line = last_line("\n".join(lines))
    for label in _QUESTION_LABELS:
        line = line.removeprefix(label).strip()
    return line


def last_line(text: str) -> str:
    """Return the last line that is not blank."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
