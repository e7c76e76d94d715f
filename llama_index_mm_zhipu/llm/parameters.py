"""The parameters of a request: their ranges, and which of several values goes out."""

from __future__ import annotations

import logging
from typing import Any

from llama_index.core.bridge.pydantic import BaseModel, Field, field_validator

from llama_index_mm_zhipu.llm.models import ModelLimits

logger = logging.getLogger(__name__)


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

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_is_a_list(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop


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


def clamp_max_tokens(parameters: dict[str, Any], limits: ModelLimits, model: str) -> None:
    """Lower ``max_tokens`` to what the model gives, with a warning."""
    wanted = parameters.get("max_tokens")
    if limits.max_tokens is not None and exceeds(wanted, limits.max_tokens):
        logger.warning("max_tokens %s lowered to %d: %s gives no more", wanted, limits.max_tokens, model)
        parameters["max_tokens"] = limits.max_tokens


def exceeds(max_tokens: Any, highest: int) -> bool:
    """Whether a ``max_tokens`` of any type is a number above another."""
    return isinstance(max_tokens, (int, float)) and max_tokens > highest
