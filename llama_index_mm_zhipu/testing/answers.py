"""Computes what is answered from what was asked, by rules: there is no model.

Tools are called, schemas filled and LlamaIndex's ReAct format kept; choices are made, candidates scored, captions
written; any other request is described.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from typing import Any

from llama_index_mm_zhipu.testing.judgements import caption, scores, selected_choice, selection
from llama_index_mm_zhipu.testing.message_texts import (
    OBSERVATION,
    last_line,
    last_question,
    parts_of,
    question_in,
    text_of,
)
from llama_index_mm_zhipu.testing.pictures import count_tokens, describe_picture
from llama_index_mm_zhipu.testing.schema_filling import fill
from llama_index_mm_zhipu.testing.wire import CHARACTERS_PER_EVENT, Answer, Delta, text_deltas

GREETING = "（本地替身，不是模型）"

_MOST_CHARACTERS = 80
"""Of what stood before a picture: captions are repeated, whole pages not."""

_SCHEMA_MARK = "Here's a JSON schema to follow:"
_REACT_MARK = "Action Input:"
_REACT_TOOL = re.compile(r"^> Tool Name: (\S+)$.*?^Tool Args: (?=\{)", re.MULTILINE | re.DOTALL)

Message = dict[str, Any]


def answer_to(request: dict[str, Any]) -> Answer:
    """Compute the answer to a request that has been checked."""
    messages = request["messages"]
    if request.get("tools") and messages[-1]["role"] != "tool":
        # Numbers of a schema are the first of the question.
        choice = selected_choice(messages)
        question = last_question(messages) if choice is None else f"{choice} {last_question(messages)}"
        deltas, finish_reason = _tool_call(request["tools"][0]["function"], question), "tool_calls"
        length = sum(len(delta["tool_calls"][0]["function"]["arguments"]) for delta in deltas)
    else:
        text, finish_reason = _limited(_text(messages), request.get("stop"), request.get("max_tokens"))
        deltas, length = text_deltas(text), len(text)
    asked = _count_prompt_tokens(messages)
    return Answer(
        model=request["model"],
        deltas=deltas,
        finish_reason=finish_reason,
        usage={
            "prompt_tokens": asked,
            "completion_tokens": length,
            "total_tokens": asked + length,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
        request_id=request.get("request_id") or uuid.uuid4().hex,
    )


def _count_prompt_tokens(messages: list[Message]) -> int:
    """Count the tokens of a prompt: every character is one, and an image is as many as its pixels make it."""
    urls = [part["image_url"]["url"] for message in messages for part in parts_of(message) if "image_url" in part]
    texts = [{**message, "content": text_of(message)} for message in messages]
    return len(json.dumps(texts, ensure_ascii=False)) + sum(map(count_tokens, urls))


def _limited(text: str, stop: Sequence[str] | None, max_tokens: int | None) -> tuple[str, str]:
    """Cut a text where the request wants it to end; every character is a token."""
    for mark in stop or ():
        text = text.partition(mark)[0]
    if max_tokens is not None and len(text) > max_tokens:
        return text[:max_tokens], "length"
    return text, "stop"


def _tool_call(function: dict[str, Any], question: str) -> tuple[Delta, ...]:
    """Call a function; the arguments come in two pieces or more, its name and the id with the first."""
    arguments = _json(fill(function.get("parameters") or {"type": "object"}, question))
    size = min(CHARACTERS_PER_EVENT, len(arguments) - 1)
    first, *others = [arguments[start : start + size] for start in range(0, len(arguments), size)]
    call = {
        "index": 0,
        "id": f"call_{uuid.uuid4().hex}",
        "type": "function",
        "function": {"name": function["name"], "arguments": first},
    }
    calls = [call, *({"index": 0, "function": {"arguments": piece}} for piece in others)]
    return tuple({"tool_calls": [part]} for part in calls)


def _text(messages: list[Message]) -> str:
    if messages[-1]["role"] == "tool":
        return _repeat_results(messages)
    for rule in (_filled_schema, _react_step, selection, scores, caption):
        if (text := rule(messages)) is not None:
            return text
    return _describe(messages)


def _repeat_results(messages: list[Message]) -> str:
    results: list[str] = []
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        results.insert(0, f"工具结果：{text_of(message)}")
    return "\n".join([_greeting(messages), *results])


def _filled_schema(messages: list[Message]) -> str | None:
    """Fill the schema that LlamaIndex's ``PydanticOutputParser`` puts into a prompt."""
    for message in (messages[-1], *_system_messages(messages)):
        before, mark, after = text_of(message).partition(_SCHEMA_MARK)
        schema = _leading_object(after) if mark else None
        if schema is not None:
            own_question = question_in(before) if message["role"] == "user" else ""
            return _json(fill(schema, own_question or last_question(messages)))
    return None


def _react_step(messages: list[Message]) -> str | None:
    """Take the next step of LlamaIndex's ``ReActAgent``: use its first tool, then answer with what the tool gave."""
    prompt = "\n".join(text_of(message) for message in _system_messages(messages))
    tool = _REACT_TOOL.search(prompt)
    if _REACT_MARK not in prompt or tool is None:
        return None
    question = last_question(messages)
    observed = text_of(messages[-1])
    if observed.startswith(OBSERVATION):
        result = observed.removeprefix(OBSERVATION).strip()
        return f"Thought: I can answer without using any more tools.\nAnswer: {result}\n{_greeting(messages)}"
    arguments = fill(_leading_object(prompt[tool.end() :]) or {"type": "object"}, question)
    return f"Thought: I need to use a tool.\nAction: {tool.group(1)}\nAction Input: {_json(arguments)}"


def _describe(messages: list[Message]) -> str:
    """Repeat the question, and say of each picture what it is and which text stood before it."""
    pictures = [line for message in messages for line in _described_pictures(message)]
    numbered = [f"第{number}张图片：{line}" for number, line in enumerate(pictures, start=1)]
    return "\n".join([_greeting(messages), f"收到 {len(pictures)} 张图片。", *numbered])


def _described_pictures(message: Message) -> list[str]:
    pictures: list[str] = []
    text = ""
    for part in parts_of(message):
        if part["type"] == "text":
            text = part["text"]
        elif part["type"] == "image_url":
            before = _shortened(last_line(text))
            pictures.append(describe_picture(part["image_url"]["url"]) + (f"；说明：{before}" if before else ""))
            text = ""
    return pictures


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def _greeting(messages: list[Message]) -> str:
    return f"{GREETING}问题：{last_question(messages)}"


def _system_messages(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message["role"] == "system"]


def _leading_object(text: str) -> dict[str, Any] | None:
    """Parse the JSON object that a text begins with, if it does."""
    text = text.lstrip()
    # LlamaIndex escapes braces for templates and sends some prompts with the escapes left in.
    if text.startswith("{{"):
        text = text.replace("{{", "{").replace("}}", "}")
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
