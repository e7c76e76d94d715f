"""Answers to prompts that ask for a judgement: by the characters that question and candidate have in common."""

from __future__ import annotations

import json
import re
from typing import Any

from llama_index_mm_zhipu.testing.message_texts import parts_of, text_of
from llama_index_mm_zhipu.testing.pictures import describe_picture

# Prompts of LlamaIndex's selectors, of GLMRerank and of ImageCaptioner.
_SELECTION = re.compile(r"Some choices are given below\..*?relevant to the question: '(.*)'", re.DOTALL)
_CHOICE = re.compile(r"^\((\d+)\) (.*)$", re.MULTILINE)
_SCORING = re.compile(r'\{"number": \d+, "score": ')
_CANDIDATE = re.compile(r"^(?:编号|Number )(\d+)[：:] *(.+)$", re.MULTILINE)
_SCORED_QUESTION = re.compile(r"^(?:问题：|Question: )(.*)$", re.MULTILINE)
_CAPTIONING = re.compile(r"^(说明：|Caption: ).*\n(文字：|Text: )", re.MULTILINE)

Message = dict[str, Any]


def selected_choice(messages: list[Message]) -> int | None:
    """Return the choice, from 1, that a selector's prompt asks for; None for other prompts."""
    found = _SELECTION.search("\n".join(map(text_of, messages)))
    choices = _CHOICE.findall(found.group(0)) if found else []
    if not found or not choices:
        return None
    return max((_overlap(found.group(1), text), -int(number)) for number, text in choices)[1] * -1


def selection(messages: list[Message]) -> str | None:
    """Answer the prompt of a selector."""
    choice = selected_choice(messages)
    return None if choice is None else _json([{"choice": choice, "reason": "与问题相同的字最多"}])


def scores(messages: list[Message]) -> str | None:
    """Answer a prompt that asks for scores from 0 to 10."""
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
    """Answer a prompt that asks for a caption and the text in a picture."""
    form = _CAPTIONING.search(text_of(messages[-1]))
    pictures = [part["image_url"]["url"] for part in parts_of(messages[-1]) if part["type"] == "image_url"]
    if form is None or not pictures:
        return None
    return f"{form.group(1)}{describe_picture(pictures[-1])}\n{form.group(2)}无"


def _overlap(question: str, text: str) -> float:
    """Return the share of the question's characters that a text has."""
    characters = {character for character in question if character.isalnum()}
    return len(characters & set(text)) / len(characters) if characters else 0.0


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
