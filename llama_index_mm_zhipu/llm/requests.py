"""The body of a request: its parameters and their ranges, and limits of models that refusals of the API reveal."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, TypeAlias

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.bridge.pydantic import BaseModel, Field, field_validator

from llama_index_mm_zhipu.arguments import require_known
from llama_index_mm_zhipu.images import UrlRules
from llama_index_mm_zhipu.llm.endpoint import ApiStyle, data_uri, style_at
from llama_index_mm_zhipu.llm.errors import GLMError
from llama_index_mm_zhipu.llm.image_budget import ImageBudget, ImagePolicy
from llama_index_mm_zhipu.llm.images import Images, blocks_of_documents, image_list, image_url
from llama_index_mm_zhipu.llm.messages import Receiver, api_messages, holds_media, plain_messages
from llama_index_mm_zhipu.llm.models import ModelLimits, limits_of, table_name
from llama_index_mm_zhipu.llm.tool_images import with_images_after_tools

logger = logging.getLogger(__name__)

FURTHER_FIELDS = "further fields of the request go into additional_kwargs={…}"
"""Advice in errors about unknown arguments."""

_IMAGES = "image_documents"


# Parameters


def _parameter(description: str, **limits: Any) -> Any:
    # Strict, because pydantic would accept True as a temperature and "no" for ``do_sample``.
    return Field(default=None, strict=True, description=description, **limits)


class GLMParameters(BaseModel):
    """Parameters of a request, with the ranges in the API's documentation. None stands for the API's default."""

    temperature: float | None = _parameter("Sampling temperature; the API's default is 0.8.", ge=0, le=1)
    top_p: float | None = _parameter("Nucleus sampling; the API's default is 0.6.", ge=0.01, le=1)
    do_sample: bool | None = _parameter("False to always choose the likeliest token.")
    max_tokens: int | None = _parameter("Maximum length of the answer in tokens.", gt=0)
    stop: list[str] | None = _parameter("Texts that end the answer.", min_length=1, max_length=4)
    request_id: str | None = _parameter("Id of the request.", min_length=6, max_length=64)
    user_id: str | None = _parameter("Id of the end user.", min_length=6, max_length=128)
    thinking: dict[str, Any] | None = _parameter('{"type": "enabled"} or {"type": "disabled"}.')
    reasoning_effort: Literal["low", "high", "max"] | None = Field(
        default=None, description="How much a model thinks that always thinks."
    )

    @field_validator("stop", mode="before")
    @classmethod
    def _stop_as_list(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    @field_validator("thinking", mode="before")
    @classmethod
    def _thinking_as_dict(cls, thinking: Any) -> Any:
        if isinstance(thinking, bool):
            return {"type": "enabled" if thinking else "disabled"}
        return {"type": thinking} if thinking in ("enabled", "disabled") else thinking


_FIELDS_OF_CALLS = {
    *GLMParameters.model_fields,
    "additional_kwargs",
    "model",
    "response_format",
    "tool_choice",
    "tools",
}


def require_known_fields(fields: dict[str, Any]) -> None:
    """Refuse unknown fields of a call, which the API would ignore silently.

    Raises:
        TypeError: A field is unknown.
    """
    require_known("ZhipuMultiModal", fields, {*_FIELDS_OF_CALLS, _IMAGES}, FURTHER_FIELDS)
    if _IMAGES in fields:
        raise TypeError(f"a chat takes no {_IMAGES}; put an ImageBlock into a message, or call complete")


def chosen_parameters(settings: GLMParameters, additional: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the merged parameters of a request.

    Later ones win: settings, additional fields of the LLM, parameters of the call, additional fields of the call.

    Args:
        settings: Parameters of the LLM.
        additional: ``additional_kwargs`` of the LLM, which are not checked.
        overrides: Parameters of the call, checked like the settings. None removes a field.

    Raises:
        ValueError: A parameter of the call is out of range; pydantic's error names it.
    """
    names = GLMParameters.model_fields
    checked = GLMParameters.model_validate({name: value for name, value in overrides.items() if name in names})
    merged = {
        **{name: getattr(settings, name) for name in names},
        **additional,
        **overrides,
        **checked.model_dump(include=set(overrides)),
        **(overrides.get("additional_kwargs") or {}),
    }
    return {name: value for name, value in merged.items() if value is not None and name != "additional_kwargs"}


def fit_to_model(parameters: dict[str, Any], limits: ModelLimits, model: str) -> None:
    """Change parameters that a model is known to refuse, and log a warning for each.

    Args:
        parameters: Fields of a request, which are changed in place.
        limits: Limits of the model.
        model: Name of the model.
    """
    _clamp_max_tokens(parameters, limits, model)
    if limits.always_thinks:
        _lower_effort_instead_of_disabling(parameters, model)
    # For a model that is not in the table, the API decides.
    elif table_name(model) is not None:
        _leave_out(parameters, "reasoning_effort", f"{model} does not know it")
        if not limits.thinking:
            _leave_out(parameters, "thinking", f"{model} cannot think")


def disables_thinking(parameters: dict[str, Any]) -> bool:
    """Return whether a request disables thinking."""
    thinking = parameters.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") == "disabled"


def _lower_effort_instead_of_disabling(parameters: dict[str, Any], model: str) -> None:
    if disables_thinking(parameters):
        del parameters["thinking"]
        parameters["reasoning_effort"] = "low"
        logger.warning("%s always thinks; reasoning_effort='low' is sent instead of thinking disabled", model)


def _leave_out(parameters: dict[str, Any], name: str, reason: str) -> None:
    if name in parameters:
        logger.warning("%s %r is left out: %s", name, parameters.pop(name), reason)


def _clamp_max_tokens(parameters: dict[str, Any], limits: ModelLimits, model: str) -> None:
    """Lower ``max_tokens`` to the model's limit, with a warning."""
    wanted = parameters.get("max_tokens")
    if limits.max_tokens is not None and exceeds(wanted, limits.max_tokens):
        logger.warning("max_tokens %s lowered to %d: %s gives no more", wanted, limits.max_tokens, model)
        parameters["max_tokens"] = limits.max_tokens


def exceeds(max_tokens: Any, limit: int) -> bool:
    """Return whether a ``max_tokens`` of any type is a number above a limit."""
    return isinstance(max_tokens, (int, float)) and max_tokens > limit


# Learned limits


_MAX_TOKENS_RANGE = re.compile(r"max_tokens.*?\[\s*\d+\s*,\s*(\d+)\s*\]")
# In Chinese, or in English from the international service.
_TOO_MANY_IMAGES = re.compile(
    r"图片数量|(number|count) of (images|pictures)|(image|picture) (number|count)|too many (images|pictures)",
    re.IGNORECASE,
)
# vLLM also names the limit: "At most 4 image(s) may be provided in one request."
_AT_MOST_IMAGES = re.compile(r"at most (\d+) image", re.IGNORECASE)
_ALWAYS_THINKS = re.compile("always engages in thinking", re.IGNORECASE)
# Tried in order if no number of images is documented: the limits of older models.
_FEWER_IMAGES = (5, 1)

_learned: dict[tuple[str, str], ModelLimits] = {}


def limits_at(api_base: str, model: str) -> ModelLimits:
    """Return the limits of a model at a URL, including those that this process has learned."""
    return _learned.get((api_base, model.lower())) or limits_of(model)


def learn_limits(error: GLMError, api_base: str, body: dict[str, Any]) -> bool:
    """Learn a limit from a refusal for the rest of the process.

    Args:
        error: The API's refusal. It names the range of ``max_tokens``, says that there are too many images (but not
            how many it accepts), or that the model always thinks.
        api_base: URL of the API.
        body: The request that was refused.

    Returns:
        Whether the same request would differ if it was built again.
    """
    model = str(body["model"])
    limits = limits_at(api_base, model)
    lessons = (_lower_max_tokens, _fewer_images, _always_thinks)
    learned = next(filter(None, (lesson(limits, str(error), body) for lesson in lessons)), None)
    if learned is None:
        return False
    _learned[api_base, model.lower()] = learned
    logger.warning(
        "%s takes less here than expected; from now on max_tokens up to %s, %d images in a request%s",
        model,
        learned.max_tokens,
        learned.images,
        ", and it always thinks" if learned.always_thinks else "",
    )
    return True


def _lower_max_tokens(limits: ModelLimits, message: str, body: dict[str, Any]) -> ModelLimits | None:
    found = _MAX_TOKENS_RANGE.search(message)
    if found is None or not exceeds(body.get("max_tokens"), limit := int(found[1])):
        return None
    return replace(limits, max_tokens=limit, default_max_tokens=min(limits.default_max_tokens, limit))


def _fewer_images(limits: ModelLimits, message: str, body: dict[str, Any]) -> ModelLimits | None:
    sent = _count_images(body)
    if (found := _AT_MOST_IMAGES.search(message)) is not None and int(found[1]) < sent:
        return replace(limits, images=int(found[1]))
    if not _TOO_MANY_IMAGES.search(message):
        return None
    if limits.images < sent:
        # A concurrent call has learned the limit already.
        return limits
    candidates = (limits.documented_images,) if limits.documented_images else _FEWER_IMAGES
    fewer = next((number for number in candidates if number < sent), None)
    return None if fewer is None else replace(limits, images=fewer)


def _always_thinks(limits: ModelLimits, message: str, body: dict[str, Any]) -> ModelLimits | None:
    if not _ALWAYS_THINKS.search(message) or not disables_thinking(body):
        return None
    return replace(limits, thinking=True, always_thinks=True)


def _count_images(body: dict[str, Any]) -> int:
    contents = [message["content"] for message in body["messages"]]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return sum(part["type"] == "image_url" for part in parts)


# Body

Messages: TypeAlias = "Sequence[ChatMessage] | Callable[[], Sequence[ChatMessage]]"
"""A chat, or a function that returns it and may read images."""


@dataclass(frozen=True)
class RequestBody:
    """The content of a request, from which the body for each model is built.

    Attributes:
        parameters: Fields other than ``model`` and ``messages``.
        messages: The chat.
        api_base: URL of the API, which the limits depend on.
        api_style: Form of requests.
        image_policy: What to do with more images than the model accepts.
        max_image_side: Maximum width and height of images in pixels.
        urls: Whether, and within which limits, images given by URL are fetched.
    """

    parameters: dict[str, Any]
    messages: Messages
    api_base: str
    api_style: ApiStyle
    image_policy: ImagePolicy
    max_image_side: int
    urls: UrlRules

    @property
    def holds_images(self) -> bool:
        """Whether the body may have to read images, which takes time."""
        if callable(self.messages):
            return True
        return holds_media(self.messages)

    def build(self, model: str) -> dict[str, Any]:
        """Return the body for a model, within its known limits.

        Raises:
            GLMInvalidRequestError: There are too many images and the policy is ``"error"``.
            ImageError: An image cannot be read.
        """
        limits = limits_at(self.api_base, model)
        body = {"model": model, **self.parameters}
        fit_to_model(body, limits, model)
        budget = ImageBudget(limits.images, self.image_policy, self.max_image_side, self.urls)
        style = style_at(self.api_style, self.api_base)

        def encode(block: ImageBlock) -> str:
            url = image_url(block, max_side=self.max_image_side, urls=self.urls)
            return data_uri(url) if style == "openai" else url

        # Before the budget, so that the images of tools count like those of the user.
        chat = with_images_after_tools(plain_messages(self.messages() if callable(self.messages) else self.messages))
        return {**body, "messages": api_messages(budget.fit(chat), Receiver(model, style, encode))}

    def models(self, first: str, fallbacks: Iterable[str]) -> tuple[str, ...]:
        """Return the models to ask in order, each once, without fallbacks that cannot call the request's functions.

        Args:
            first: Model to ask in any case.
            fallbacks: Models to ask after it.
        """
        others = [model for model in dict.fromkeys(fallbacks) if model != first]
        if not self.parameters.get("tools"):
            return (first, *others)
        able = [model for model in others if limits_at(self.api_base, model).tools]
        if able != others:
            logger.info("%s are not asked: they call no functions", [model for model in others if model not in able])
        return (first, *able)


def prompt_messages(prompt: str, image_documents: Images | None) -> Messages:
    """Return the chat for a prompt with images, which are read once and only when the chat is needed."""
    question = TextBlock(text=prompt)
    images = image_list(image_documents)
    if not images:
        return [ChatMessage(role=MessageRole.USER, blocks=[question])]

    @cache
    def chat() -> list[ChatMessage]:
        return [ChatMessage(role=MessageRole.USER, blocks=[*blocks_of_documents(images), question])]

    return chat
