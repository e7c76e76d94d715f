"""The parameters of a request: their ranges, and which of several values goes out."""

from __future__ import annotations

import logging
from typing import Any, Literal

from llama_index.core.bridge.pydantic import BaseModel, Field, field_validator

from llama_index_mm_zhipu.arguments import require_known
from llama_index_mm_zhipu.llm.models import ModelLimits, table_name

logger = logging.getLogger(__name__)

FURTHER_FIELDS = "further fields of the request go into additional_kwargs={…}"
"""What to do with an argument that is not known."""

_IMAGES = "image_documents"


def _parameter(description: str, **limits: Any) -> Any:
    # Strict: True is no temperature, and "no" no answer to do_sample.
    return Field(default=None, strict=True, description=description, **limits)


class GLMParameters(BaseModel):
    """What the API lets one choose, within the ranges of its documentation; None leaves a choice to the API."""

    temperature: float | None = _parameter("Sampling temperature; the API takes 0.8.", ge=0, le=1)
    top_p: float | None = _parameter("Nucleus sampling; the API takes 0.6.", ge=0.01, le=1)
    do_sample: bool | None = _parameter("False: always the likeliest token.")
    max_tokens: int | None = _parameter("Longest answer in tokens.", gt=0)
    stop: list[str] | None = _parameter("Texts that end the answer.", min_length=1, max_length=4)
    request_id: str | None = _parameter("Name of the request.", min_length=6, max_length=64)
    user_id: str | None = _parameter("Name of the end user.", min_length=6, max_length=128)
    thinking: dict[str, Any] | None = _parameter('{"type": "enabled"} or {"type": "disabled"}.')
    reasoning_effort: Literal["low", "high", "max"] | None = Field(
        default=None, description="How much a model thinks that always does."
    )

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_is_a_list(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    @field_validator("thinking", mode="before")
    @classmethod
    def _a_word_for_thinking_is_its_type(cls, thinking: Any) -> Any:
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
    """Refuse fields of a call that are not known: the API would ignore them in silence.

    Raises:
        TypeError: One is not known.
    """
    require_known("ZhipuMultiModal", fields, {*_FIELDS_OF_CALLS, _IMAGES}, FURTHER_FIELDS)
    if _IMAGES in fields:
        raise TypeError(f"a chat takes no {_IMAGES}; put an ImageBlock into a message, or call complete")


def chosen_parameters(settings: GLMParameters, additional: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Merge parameters: settings, then additional fields, then those of the call with its own additional fields last.

    Args:
        settings: Of the LLM.
        additional: Its ``additional_kwargs``, which go out as they are.
        overrides: Of the call, checked like the settings; None takes a field out.

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
    """Change parameters that a model is known to refuse, each with a warning.

    Args:
        parameters: Fields of a request; they are changed in place.
        limits: Of the model.
        model: Its name.
    """
    _clamp_max_tokens(parameters, limits, model)
    if limits.always_thinks:
        _think_little_instead_of_not(parameters, model)
    # Of a model that is not in the table nothing is known: the API decides.
    elif table_name(model) is not None:
        _leave_out(parameters, "reasoning_effort", f"{model} does not know it")
        if not limits.thinking:
            _leave_out(parameters, "thinking", f"{model} cannot think")


def disables_thinking(parameters: dict[str, Any]) -> bool:
    """Whether a request asks the model not to think."""
    thinking = parameters.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") == "disabled"


def _think_little_instead_of_not(parameters: dict[str, Any], model: str) -> None:
    if disables_thinking(parameters):
        del parameters["thinking"]
        parameters["reasoning_effort"] = "low"
        logger.warning("%s always thinks; reasoning_effort='low' is sent instead of thinking disabled", model)


def _leave_out(parameters: dict[str, Any], name: str, reason: str) -> None:
    if name in parameters:
        logger.warning("%s %r is left out: %s", name, parameters.pop(name), reason)


def _clamp_max_tokens(parameters: dict[str, Any], limits: ModelLimits, model: str) -> None:
    """Lower ``max_tokens`` to what the model gives, with a warning."""
    wanted = parameters.get("max_tokens")
    if limits.max_tokens is not None and exceeds(wanted, limits.max_tokens):
        logger.warning("max_tokens %s lowered to %d: %s gives no more", wanted, limits.max_tokens, model)
        parameters["max_tokens"] = limits.max_tokens


def exceeds(max_tokens: Any, highest: int) -> bool:
    """Whether a ``max_tokens`` of any type is a number above another."""
    return isinstance(max_tokens, (int, float)) and max_tokens > highest
