"""The limits of a model as the deployment in use has shown them: the table's, until the API said otherwise."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import Any

from llama_index_mm_zhipu.llm.errors import GLMError
from llama_index_mm_zhipu.llm.models import ModelLimits, limits_of
from llama_index_mm_zhipu.llm.requests import disables_thinking, exceeds

logger = logging.getLogger(__name__)

_MAX_TOKENS_RANGE = re.compile(r"max_tokens.*?\[\s*\d+\s*,\s*(\d+)\s*\]")
# The international service answers in English.
_TOO_MANY_PICTURES = re.compile(
    r"图片数量|(number|count) of (images|pictures)|(image|picture) (number|count)|too many (images|pictures)",
    re.IGNORECASE,
)
# vLLM says how many: "At most 4 image(s) may be provided in one request."
_AT_MOST_PICTURES = re.compile(r"at most (\d+) image", re.IGNORECASE)
_ALWAYS_THINKS = re.compile("always engages in thinking", re.IGNORECASE)
# Tried in turn where no number of pictures is documented: what the older models take.
_FEWER_PICTURES = (5, 1)

_learned: dict[tuple[str, str], ModelLimits] = {}


def limits_at(api_base: str, model: str) -> ModelLimits:
    """Return the limits of a model at an address, with what this process learned about them."""
    return _learned.get((api_base, model.lower())) or limits_of(model)


def learn_limits(error: GLMError, api_base: str, body: dict[str, Any]) -> bool:
    """Take a limit from a refusal, for the rest of the process.

    Args:
        error: The API's refusal: it names the range of ``max_tokens``, says that there are too many pictures, and not
            how many it takes, or that the model always thinks.
        api_base: Address of the API.
        body: The request that was refused.

    Returns:
        Whether the same request, built again, now differs.
    """
    model = str(body["model"])
    limits = limits_at(api_base, model)
    lessons = (_lower_max_tokens, _fewer_pictures, _always_thinks)
    learned = next(filter(None, (lesson(limits, str(error), body) for lesson in lessons)), None)
    if learned is None:
        return False
    _learned[api_base, model.lower()] = learned
    logger.warning(
        "%s takes less here than expected; from now on max_tokens up to %s, %d pictures in a request%s",
        model,
        learned.max_tokens,
        learned.pictures,
        ", and it always thinks" if learned.always_thinks else "",
    )
    return True


def _lower_max_tokens(limits: ModelLimits, message: str, body: dict[str, Any]) -> ModelLimits | None:
    named = _MAX_TOKENS_RANGE.search(message)
    if named is None or not exceeds(body.get("max_tokens"), int(named[1])):
        return None
    highest = int(named[1])
    return replace(limits, max_tokens=highest, default_max_tokens=min(limits.default_max_tokens, highest))


def _fewer_pictures(limits: ModelLimits, message: str, body: dict[str, Any]) -> ModelLimits | None:
    sent = _count_pictures(body)
    if (named := _AT_MOST_PICTURES.search(message)) is not None and int(named[1]) < sent:
        return replace(limits, pictures=int(named[1]))
    if not _TOO_MANY_PICTURES.search(message):
        return None
    if limits.pictures < sent:
        # Another call was faster to learn.
        return limits
    candidates = (limits.documented_pictures,) if limits.documented_pictures else _FEWER_PICTURES
    fewer = next((number for number in candidates if number < sent), None)
    return None if fewer is None else replace(limits, pictures=fewer)


def _always_thinks(limits: ModelLimits, message: str, body: dict[str, Any]) -> ModelLimits | None:
    if not _ALWAYS_THINKS.search(message) or not disables_thinking(body):
        return None
    return replace(limits, thinking=True, always_thinks=True)


def _count_pictures(body: dict[str, Any]) -> int:
    contents = [message["content"] for message in body["messages"]]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return sum(part["type"] == "image_url" for part in parts)
