"""Computes the answer to a request by rules, without a model.

The answer calls the first tool, fills a JSON schema, follows LlamaIndex's ReAct format, selects a choice, scores
candidates, or writes a caption or search words, whichever the request asks for. Otherwise it repeats the question and
describes the images.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from llama_index_mm_zhipu.testing.wire import (
    CHARACTERS_PER_EVENT,
    OBSERVATION,
    Answer,
    Delta,
    Message,
    OpenAIAnswer,
    base64_of,
    count_tokens,
    describe_image,
    holds_tool_images,
    last_line,
    last_question,
    parts_of,
    question_in,
    text_deltas,
    text_of,
)

GREETING = "（本地模拟服务，不是模型）"

# A description repeats the text before an image up to this length: enough for a caption, not for a whole page.
_MAX_CHARACTERS = 80


# Search words by the everyday words that questions use for them.
Synonyms = Mapping[str, Sequence[str]]


def answer_to(request: dict[str, Any], synonyms: Synonyms | None = None) -> Answer:
    """Return the answer to a request that has been checked.

    Args:
        request: The body of the request.
        synonyms: Answers to the prompt of ``QueryRewriter``, see ``search_words``.
    """
    messages = request["messages"]
    if request.get("tools") and not _ends_with_results(messages):
        choice = selected_choice(messages)
        # The number comes first because schemas are filled with the first number of the question.
        question = last_question(messages) if choice is None else f"{choice} {last_question(messages)}"
        deltas, finish_reason = _tool_call(request["tools"][0]["function"], question), "tool_calls"
        length = sum(len(delta["tool_calls"][0]["function"]["arguments"]) for delta in deltas)
    else:
        text, finish_reason = _limited(_text(messages, synonyms or {}), request.get("stop"), request.get("max_tokens"))
        deltas, length = text_deltas(text), len(text)
    prompt_length = _count_prompt_tokens(messages)
    return Answer(
        model=request["model"],
        deltas=deltas,
        finish_reason=finish_reason,
        usage={
            "prompt_tokens": prompt_length,
            "completion_tokens": length,
            "total_tokens": prompt_length + length,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
        request_id=request.get("request_id") or uuid.uuid4().hex,
    )


def openai_answer_to(request: dict[str, Any], synonyms: Synonyms | None = None) -> OpenAIAnswer:
    """Return the answer of an OpenAI-style server to a request that has been checked, as ``answer_to`` does."""
    answer = answer_to({**request, "messages": list(map(_with_base64_images, request["messages"]))}, synonyms)
    return OpenAIAnswer(
        **{part.name: getattr(answer, part.name) for part in fields(answer)},
        include_usage=bool((request.get("stream_options") or {}).get("include_usage")),
    )


def _with_base64_images(message: Message) -> Message:
    parts = [
        {**part, "image_url": {"url": base64_of(part["image_url"]["url"])}} if part["type"] == "image_url" else part
        for part in parts_of(message)
    ]
    return {**message, "content": parts}


def _count_prompt_tokens(messages: list[Message]) -> int:
    """Count the tokens of a prompt: one for each character of its JSON, and those of the images."""
    images = [part["image_url"]["url"] for message in messages for part in parts_of(message) if "image_url" in part]
    texts = [{**message, "content": text_of(message)} for message in messages]
    return len(json.dumps(texts, ensure_ascii=False)) + sum(map(count_tokens, images))


def _limited(text: str, stop: Sequence[str] | None, max_tokens: int | None) -> tuple[str, str]:
    """Cut a text at a stop string or after ``max_tokens`` characters; return it with the finish reason."""
    for mark in stop or ():
        text = text.partition(mark)[0]
    if max_tokens is not None and len(text) > max_tokens:
        return text[:max_tokens], "length"
    return text, "stop"


def _tool_call(function: dict[str, Any], question: str) -> tuple[Delta, ...]:
    """Return the deltas of a tool call: at least two, of which the first has the id and the name."""
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


def _text(messages: list[Message], synonyms: Synonyms) -> str:
    if _ends_with_results(messages):
        return _repeat_results(messages)
    if (words := search_words(messages, synonyms)) is not None:
        return words
    for rule in (_filled_schema, _react_step, selection, scores, caption):
        if (text := rule(messages)) is not None:
            return text
    return _describe(messages)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# Descriptions


def _describe(messages: list[Message]) -> str:
    """Repeat the question, then describe each image with the text before it."""
    return "\n".join([_greeting(messages), *_lines_of_images(messages)])


def _lines_of_images(messages: list[Message]) -> list[str]:
    images = [line for message in messages for line in _described_images(message)]
    numbered = [f"第{number}张图片：{line}" for number, line in enumerate(images, start=1)]
    return [f"收到 {len(images)} 张图片。", *numbered]


def _described_images(message: Message) -> list[str]:
    images: list[str] = []
    text = ""
    for part in parts_of(message):
        if part["type"] == "text":
            text = part["text"]
        elif part["type"] == "image_url":
            before = _shortened(last_line(text))
            images.append(describe_image(part["image_url"]["url"]) + (f"；说明：{before}" if before else ""))
            text = ""
    return images


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…"


def _greeting(messages: list[Message]) -> str:
    return f"{GREETING}问题：{last_question(messages)}"


def _ends_with_results(messages: list[Message]) -> bool:
    return messages[-1]["role"] == "tool" or holds_tool_images(messages[-1])


def _repeat_results(messages: list[Message]) -> str:
    """Repeat the question and the results of the tools that were called for it, and describe their images."""
    with_images = holds_tool_images(messages[-1])
    results: list[str] = []
    for message in reversed(messages[:-1] if with_images else messages):
        if message["role"] != "tool":
            break
        results.insert(0, f"工具结果：{text_of(message)}")
    images = _lines_of_images(messages[-1:]) if with_images else []
    return "\n".join([_greeting(messages), *results, *images])


# Prompts of this package and of LlamaIndex. Each rule returns None for prompts of other kinds.

_SELECTION = re.compile(r"Some choices are given below\..*?relevant to the question: '(.*)'", re.DOTALL)
_CHOICE = re.compile(r"^\((\d+)\) (.*)$", re.MULTILINE)
_SCORING = re.compile(r'\{"number": \d+, "score": ')
_CANDIDATE = re.compile(r"^(?:编号|Number )(\d+)[：:] *(.+)$", re.MULTILINE)
_SCORED_QUESTION = re.compile(r"^(?:问题：|Question: )(.*)$", re.MULTILINE)
_CAPTIONING = re.compile(r"^(说明：|Caption: ).*\n(文字：|Text: )", re.MULTILINE)
_REWRITING = re.compile(r"^(?:问题：|Question: )[「“](.*)[」”]\n(?:检索词：|Search words:)$", re.MULTILINE)
_SCHEMA_MARK = "Here's a JSON schema to follow:"
_REACT_MARK = "Action Input:"
_REACT_TOOL = re.compile(r"^> Tool Name: (\S+)$.*?^Tool Args: (?=\{)", re.MULTILINE | re.DOTALL)


def selected_choice(messages: list[Message]) -> int | None:
    """Return the number, from 1, of the choice that shares most characters with the question of a selector."""
    found = _SELECTION.search("\n".join(map(text_of, messages)))
    choices = _CHOICE.findall(found.group(0)) if found else []
    if not found or not choices:
        return None
    # Of equal choices the first wins, so its number must compare as the largest.
    return max((_overlap(found.group(1), text), -int(number)) for number, text in choices)[1] * -1


def selection(messages: list[Message]) -> str | None:
    """Answer the prompt of LlamaIndex's ``LLMSingleSelector``."""
    choice = selected_choice(messages)
    return None if choice is None else _json([{"choice": choice, "reason": "与问题相同的字最多"}])


def scores(messages: list[Message]) -> str | None:
    """Answer the prompt of ``ImageReranker``: score each candidate from 0 to 10."""
    text = text_of(messages[-1])
    question = _SCORED_QUESTION.search(text)
    if question is None or not _SCORING.search(text):
        return None
    judged = [(int(number), _overlap(question.group(1), caption)) for number, caption in _CANDIDATE.findall(text)]
    return _json(
        [
            {"number": number, "score": round(10 * share, 1), "reason": f"问题中{share:.0%}的字在说明里"}
            for number, share in judged
        ]
    )


def caption(messages: list[Message]) -> str | None:
    """Answer the prompt of ``ImageCaptioner``: describe the last image."""
    form = _CAPTIONING.search(text_of(messages[-1]))
    images = [part["image_url"]["url"] for part in parts_of(messages[-1]) if part["type"] == "image_url"]
    if form is None or not images:
        return None
    return f"{form.group(1)}{describe_image(images[-1])}\n{form.group(2)}无"


def search_words(messages: list[Message], synonyms: Synonyms) -> str | None:
    """Answer the prompt of ``QueryRewriter``: the synonyms of all words that the question contains, else the question.

    Args:
        messages: The messages of the request.
        synonyms: Search words by the words that questions use for them.
    """
    found = _REWRITING.search(text_of(messages[-1]))
    if found is None:
        return None
    words = dict.fromkeys(word for key in synonyms if key in found[1] for word in synonyms[key])
    return "、".join(words) or found[1]


def _overlap(question: str, text: str) -> float:
    """Return the share of the question's letters and digits that occur in a text, from 0 to 1."""
    characters = {character for character in question if character.isalnum()}
    return len(characters & set(text)) / len(characters) if characters else 0.0


def _filled_schema(messages: list[Message]) -> str | None:
    """Fill the schema that LlamaIndex's ``PydanticOutputParser`` adds to a prompt."""
    for message in (messages[-1], *_system_messages(messages)):
        before, mark, after = text_of(message).partition(_SCHEMA_MARK)
        schema = _leading_object(after) if mark else None
        if schema is not None:
            own_question = question_in(before) if message["role"] == "user" else ""
            return _json(fill(schema, own_question or last_question(messages)))
    return None


def _react_step(messages: list[Message]) -> str | None:
    """Take the next step of LlamaIndex's ``ReActAgent``: call its first tool, then answer with the result."""
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


def _system_messages(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message["role"] == "system"]


def _leading_object(text: str) -> dict[str, Any] | None:
    """Parse the JSON object at the beginning of a text; return None if there is none."""
    text = text.lstrip()
    # LlamaIndex escapes braces in templates, and sends some prompts with the braces still doubled.
    if text.startswith("{{"):
        text = text.replace("{{", "{").replace("}}", "}")
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


# JSON schemas

Schema = dict[str, Any]

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# A schema may contain itself. Below this depth only required values are filled in.
_MAX_DEPTH = 6


def fill(schema: Schema, question: str) -> Any:
    """Return a value that conforms to a schema.

    A string is the question, or the first value of an enumeration; a number is the first number in the question, or 0;
    a boolean is true; an array has one element; an object has its required properties, or all if none is required.
    """
    return _value(schema, question, {**schema.get("definitions", {}), **schema.get("$defs", {})}, 0)


def _value(schema: Schema, question: str, definitions: dict[str, Schema], depth: int) -> Any:
    schema = _resolved(schema, definitions, depth)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    value_type = _type_of(schema)
    if value_type == "object":
        return _object(schema, question, definitions, depth)
    if value_type == "array":
        return _array(schema, question, definitions, depth)
    if value_type in ("integer", "number"):
        return _number(schema, question)
    return {"boolean": True, "null": None}.get(value_type, question[: schema.get("maxLength")])


def _resolved(schema: Schema, definitions: dict[str, Schema], depth: int) -> Schema:
    """Follow references, merge ``allOf``, and take the first alternative that is not null.

    Below the maximum depth null is taken where it is allowed.
    """
    if reference := schema.get("$ref"):
        target = definitions.get(str(reference).rpartition("/")[2], {})
        return _resolved({**target, **_without(schema, "$ref")}, definitions, depth)
    for key in ("anyOf", "oneOf"):
        if choices := schema.get(key):
            nulls = [choice for choice in choices if choice.get("type") == "null"]
            others = [choice for choice in choices if choice not in nulls]
            chosen = nulls if nulls and (depth > _MAX_DEPTH or not others) else others
            return _resolved({**_without(schema, key), **chosen[0]}, definitions, depth)
    if parts := schema.get("allOf"):
        merged = _without(schema, "allOf")
        for part in parts:
            merged |= _resolved(part, definitions, depth)
        return _resolved(merged, definitions, depth)
    return schema


def _without(schema: Schema, key: str) -> Schema:
    return {name: value for name, value in schema.items() if name != key}


def _type_of(schema: Schema) -> str:
    value_type = schema.get("type")
    if isinstance(value_type, list):
        value_type = next((name for name in value_type if name != "null"), "null")
    return str(value_type or ("object" if "properties" in schema else "string"))


def _object(schema: Schema, question: str, definitions: dict[str, Schema], depth: int) -> dict[str, Any]:
    properties: dict[str, Schema] = schema.get("properties", {})
    names = schema.get("required") or (properties if depth <= _MAX_DEPTH else ())
    return {name: _value(properties.get(name, {}), question, definitions, depth + 1) for name in names}


def _array(schema: Schema, question: str, definitions: dict[str, Schema], depth: int) -> list[Any]:
    if items := schema.get("prefixItems"):
        return [_value(item, question, definitions, depth + 1) for item in items]
    min_items = schema.get("minItems", 0)
    count = min_items if depth > _MAX_DEPTH else max(1, min_items)
    return [_value(schema.get("items", {}), question, definitions, depth + 1) for _ in range(count)]


def _number(schema: Schema, question: str) -> int | float:
    found = _NUMBER.search(question)
    number = float(found.group()) if found else 0.0
    number = max(number, schema.get("minimum", number), schema.get("exclusiveMinimum", number - 1) + 1)
    number = min(number, schema.get("maximum", number), schema.get("exclusiveMaximum", number + 1) - 1)
    return int(number) if number == int(number) or schema.get("type") == "integer" else number
