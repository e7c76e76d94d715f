"""Limits and abilities of the GLM vision models, from Zhipu's documentation and reports of live behaviour."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import cache

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelLimits:
    """Limits and abilities of one model.

    Attributes:
        context_window: Maximum number of tokens of prompt and answer together.
        default_max_tokens: Maximum length of an answer in tokens if ``max_tokens`` is not set.
        max_tokens: Largest ``max_tokens`` that the API accepts; None if none is documented.
        images: Maximum number of images in one request, including the history, that is known to work. If nothing is
            known, that of similar models.
        documented_images: Maximum number of images according to the documentation; None if it does not say.
        video: Whether the model accepts videos.
        tools: Whether the model calls functions.
        thinking: Whether the model can reason before it answers.
        always_thinks: Whether thinking cannot be disabled. Such models accept a ``reasoning_effort`` instead.
        free: Whether the model costs nothing.
    """

    context_window: int
    default_max_tokens: int
    max_tokens: int | None
    images: int
    documented_images: int | None
    video: bool = False
    tools: bool = False
    thinking: bool = False
    always_thinks: bool = False
    free: bool = False


MODELS: dict[str, ModelLimits] = {
    # Documented for one image. In practice the API answers up to five and refuses six.
    "glm-4v-flash": ModelLimits(16_384, 1_024, 1_024, 5, 1, free=True),
    "glm-4v": ModelLimits(2_048, 1_024, None, 5, 1),
    "glm-4v-plus": ModelLimits(8_192, 1_024, None, 5, 5, video=True),
    "glm-4v-plus-0111": ModelLimits(8_192, 1_024, 8_192, 5, 5, video=True),
    "glm-4.1v-thinking-flash": ModelLimits(65_536, 16_384, 16_384, 50, None, video=True, thinking=True, free=True),
    "glm-4.1v-thinking-flashx": ModelLimits(65_536, 16_384, 16_384, 50, None, video=True, thinking=True),
    "glm-4.5v": ModelLimits(65_536, 16_384, 16_384, 50, 50, video=True, thinking=True),
    "glm-4.6v": ModelLimits(131_072, 16_384, 32_768, 50, 50, video=True, tools=True, thinking=True),
    "glm-4.6v-flash": ModelLimits(131_072, 16_384, 32_768, 50, 50, video=True, tools=True, thinking=True, free=True),
    "glm-4.6v-flashx": ModelLimits(131_072, 16_384, 32_768, 50, 50, video=True, tools=True, thinking=True),
    # Sources disagree about its tools, which are listed by gateways that forward requests to Zhipu.
    "glm-5v-turbo": ModelLimits(204_800, 65_536, 131_072, 50, 50, video=True, tools=True, thinking=True),
    "glm-5.3-flash": ModelLimits(
        1_000_000, 16_384, 128_000, 50, None, video=True, tools=True, thinking=True, always_thinks=True
    ),
    "glm-5.3-flashx": ModelLimits(
        1_000_000, 16_384, 128_000, 50, None, video=True, tools=True, thinking=True, always_thinks=True
    ),
}

UNKNOWN_GLM = ModelLimits(131_072, 16_384, None, 50, None, video=True, tools=True, thinking=True)
"""Assumed limits of a GLM model that is not in ``MODELS``, which is probably newer. The API refuses what is wrong."""

UNKNOWN_MODEL = ModelLimits(16_384, 1_024, None, 5, None)
"""Assumed limits of any other model: those of the smallest GLM vision model."""

# Names of published weights that differ from the name of the API's model.
_PUBLISHED_AS = {"glm-4.1v-9b-thinking": "glm-4.1v-thinking-flash"}

_GLM = re.compile(r"(?<![a-z0-9])glm[-_ ]?([^/]+)")
# A tag, date, size or number format. Any other suffix makes it another model: glm-4v-plus is not glm-4v.
_SUFFIX = re.compile(r"[:@]|[-.](\d|[a-z]{0,2}fp[48]|bf16|int[48]|[qw]\d|awq|gptq|gguf|mlx|exl\d|latest|preview|free)")


def limits_of(model: str) -> ModelLimits:
    """Return the limits of a model, assumed ones if it is unknown.

    Args:
        model: Name of the model. Case, an owner before it and a date or number format after it are ignored:
            ``zai-org/GLM-4.6V-Flash-FP8`` is ``glm-4.6v-flash``.
    """
    name = table_name(model)
    if name is not None:
        return MODELS[name]
    if _GLM.search(model.lower()):
        return UNKNOWN_GLM
    _warn_of_assumed_limits(model)
    return UNKNOWN_MODEL


def table_name(model: str) -> str | None:
    """Return the key of a model in ``MODELS``, or None if it is not there."""
    if model.lower() in MODELS:
        return model.lower()
    found = _GLM.findall(model.lower())
    if not found:
        return None
    name = "glm-" + re.sub(r"[_ ]", "-", found[-1])
    names = {**{known: known for known in MODELS}, **_PUBLISHED_AS}
    matching = [known for known in names if name == known or _SUFFIX.match(name.removeprefix(known))]
    # If the prefix does not match, ``removeprefix`` returns the whole name, which no suffix matches.
    return names[max(matching, key=len)] if matching else None


# Cached, so that each model is logged once per process.
@cache
def _warn_of_assumed_limits(model: str) -> None:
    logger.warning(
        "the limits of the model %r are not known; assumed are %d images in a request, a context of %d tokens and no "
        "function calls",
        model,
        UNKNOWN_MODEL.images,
        UNKNOWN_MODEL.context_window,
    )


# For all other models, including unknown ones, videos and files are sent and the API decides.
_WITHOUT_VIDEO = ("glm-4v", "glm-4v-flash")
_WITHOUT_FILES = (
    *_WITHOUT_VIDEO,
    "glm-4v-plus",
    "glm-4v-plus-0111",
    "glm-4.1v-thinking-flash",
    "glm-4.1v-thinking-flashx",
)


def takes_video(model: str) -> bool:
    """Return whether videos may be sent to a model."""
    return table_name(model) not in _WITHOUT_VIDEO


def takes_files(model: str) -> bool:
    """Return whether URLs of documents may be sent to a model."""
    return table_name(model) not in _WITHOUT_FILES
