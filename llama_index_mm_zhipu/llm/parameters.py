"""The parameters of a request: their ranges, and which of several values goes out."""

from __future__ import annotations

import logging
from typing import Any

from llama_index.core.bridge.pydantic import BaseModel, Field, field_validator

from llama_index_mm_zhipu.llm.models import ModelLimits

logger = logging.getLogger(__name__)


class GLMParameters(BaseModel):
    """What the API lets one choose, within the ranges of its documentation; None leaves a choice to the API."""

    temperature: float | None = Field(default=None, ge=0, le=1, description="Sampling temperature; the API takes 0.8.")
    top_p: float | None = Field(default=None, ge=0.01, le=1, description="Nucleus sampling; the API takes 0.6.")
    do_sample: bool | None = Field(default=None, description="False: always the likeliest token.")
    max_tokens: int | None = Field(default=None, gt=0, description="Longest answer in tokens.")
    stop: list[str] | None = Field(default=None, min_length=1, max_length=4, description="Texts that end the answer.")
    request_id: str | None = Field(default=None, min_length=6, max_length=64, description="Name of the request.")
    user_id: str | None = Field(default=None, min_length=6, max_length=128, description="Name of the end user.")
    thinking: dict[str, Any] | None = Field(default=None, description='{"type": "enabled"} or {"type": "disabled"}.')

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
    last = dict(overrides.get("additional_kwargs") or {})
    given = {name: value for name, value in overrides.items() if name != "additional_kwargs"}
    checked = GLMParameters.model_validate({name: value for name, value in given.items() if name in names})
    given.update({name: getattr(checked, name) for name in given if name in names})
    merged = {**{name: getattr(settings, name) for name in names}, **additional, **given, **last}
    return {name: value for name, value in merged.items() if value is not None}


def clamp_max_tokens(parameters: dict[str, Any], limits: ModelLimits, model: str) -> None:
    """Lower ``max_tokens`` to what the model gives, with a warning."""
    wanted = parameters.get("max_tokens")
    if isinstance(wanted, int) and limits.max_tokens is not None and wanted > limits.max_tokens:
        logger.warning("max_tokens %d lowered to %d: %s gives no more", wanted, limits.max_tokens, model)
        parameters["max_tokens"] = limits.max_tokens
