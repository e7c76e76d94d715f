"""What each GLM vision model takes and gives: one table, from Zhipu's documentation and reports of live behaviour."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import cache

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelLimits:
    """Limits of one model.

    Attributes:
        context_window: Tokens of prompt and answer together.
        default_max_tokens: Longest answer in tokens where ``max_tokens`` is not given.
        max_tokens: Largest ``max_tokens`` that the API takes; None where none is documented.
        images: Images in one request, over the whole history, that are known to work; where nothing is known, what
            the sibling models take.
        documented_images: What the documentation promises; None where it says nothing.
        video: Whether the model takes videos.
        tools: Whether the model calls functions.
        thinking: Whether the model can reason before it answers.
        always_thinks: Whether this cannot be switched off; such models take a ``reasoning_effort`` instead.
        free: Whether Zhipu gives it away.
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
    # Documented for one image; one to five are answered in practice, six are refused.
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
    # Sources disagree on its tools; gateways that pass requests on to Zhipu list them.
    "glm-5v-turbo": ModelLimits(204_800, 65_536, 131_072, 50, 50, video=True, tools=True, thinking=True),
    "glm-5.3-flash": ModelLimits(
        1_000_000, 16_384, 128_000, 50, None, video=True, tools=True, thinking=True, always_thinks=True
    ),
    "glm-5.3-flashx": ModelLimits(
        1_000_000, 16_384, 128_000, 50, None, video=True, tools=True, thinking=True, always_thinks=True
    ),
}

UNKNOWN_GLM = ModelLimits(131_072, 16_384, None, 50, None, video=True, tools=True, thinking=True)
"""Assumed of a GLM model that is not in the table: it is probably newer than the table. The API says where this is
wrong."""

UNKNOWN_MODEL = ModelLimits(16_384, 1_024, None, 5, None)
"""Assumed of any other model: what the smallest GLM vision model takes."""

# Weights that were published under a name of their own.
_PUBLISHED_AS = {"glm-4.1v-9b-thinking": "glm-4.1v-thinking-flash"}

_GLM = re.compile(r"(?<![a-z0-9])glm[-_ ]?([^/]+)")
# A tag, a date, a size or a number format. Any other word makes it another model: glm-4v-plus is no glm-4v.
_SUFFIX = re.compile(r"[:@]|[-.](\d|[a-z]{0,2}fp[48]|bf16|int[48]|[qw]\d|awq|gptq|gguf|mlx|exl\d|latest|preview|free)")


def limits_of(model: str) -> ModelLimits:
    """Return the limits of a model, known or not.

    Args:
        model: Its name. Upper case, the owner before it and a date or a number format after it do not matter:
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
    """Return the name under which a model stands in ``MODELS``; None if it does not."""
    if model.lower() in MODELS:
        return model.lower()
    found = _GLM.findall(model.lower())
    if not found:
        return None
    name = "glm-" + re.sub(r"[_ ]", "-", found[-1])
    names = {**{known: known for known in MODELS}, **_PUBLISHED_AS}
    matching = [known for known in names if name == known or _SUFFIX.match(name.removeprefix(known))]
    # removeprefix leaves a name alone that does not begin so, and no name begins like a suffix.
    return names[max(matching, key=len)] if matching else None


# Cached, so that each model is warned of once in a process.
@cache
def _warn_of_assumed_limits(model: str) -> None:
    logger.warning(
        "the limits of the model %r are not known; assumed are %d images in a request, a context of %d tokens and no "
        "function calls",
        model,
        UNKNOWN_MODEL.images,
        UNKNOWN_MODEL.context_window,
    )


# Whatever is not named here, unknown models too, is left to the API to refuse.
_WITHOUT_VIDEO = ("glm-4v", "glm-4v-flash")
_WITHOUT_FILES = (
    *_WITHOUT_VIDEO,
    "glm-4v-plus",
    "glm-4v-plus-0111",
    "glm-4.1v-thinking-flash",
    "glm-4.1v-thinking-flashx",
)


def takes_video(model: str) -> bool:
    """Whether a model takes videos."""
    return table_name(model) not in _WITHOUT_VIDEO


def takes_files(model: str) -> bool:
    """Whether a model takes documents by their URL."""
    return table_name(model) not in _WITHOUT_FILES
