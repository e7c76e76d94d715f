"""What each GLM vision model takes and gives: one table, from Zhipu's documentation and reports of live behaviour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelLimits:
    """Limits of one model.

    Attributes:
        context_window: Tokens of prompt and answer together.
        default_max_tokens: Longest answer in tokens where ``max_tokens`` is not given.
        max_tokens: Largest ``max_tokens`` that the API takes; None where none is documented.
        pictures: Pictures in one request, over the whole history, that are known to work; where nothing is known, what
            the sibling models take.
        documented_pictures: What the documentation promises; None where it says nothing.
        tools: Whether the model calls functions.
        thinking: Whether the model can reason before it answers.
        free: Whether Zhipu gives it away.
    """

    context_window: int
    default_max_tokens: int
    max_tokens: int | None
    pictures: int
    documented_pictures: int | None
    tools: bool = False
    thinking: bool = False
    free: bool = False


MODELS: dict[str, ModelLimits] = {
    # Documented for one picture; one to five are answered in practice, six are refused.
    "glm-4v-flash": ModelLimits(16_384, 1_024, 1_024, 5, 1, free=True),
    "glm-4v": ModelLimits(2_048, 1_024, None, 5, 1),
    "glm-4v-plus": ModelLimits(8_192, 1_024, None, 5, 5),
    "glm-4v-plus-0111": ModelLimits(8_192, 1_024, 8_192, 5, 5),
    "glm-4.1v-thinking-flash": ModelLimits(65_536, 16_384, 16_384, 50, None, thinking=True, free=True),
    "glm-4.1v-thinking-flashx": ModelLimits(65_536, 16_384, 16_384, 50, None, thinking=True),
    "glm-4.5v": ModelLimits(65_536, 16_384, 16_384, 50, 50, thinking=True),
    "glm-4.6v": ModelLimits(131_072, 16_384, 32_768, 50, 50, tools=True, thinking=True),
    "glm-4.6v-flash": ModelLimits(131_072, 16_384, 32_768, 50, 50, tools=True, thinking=True, free=True),
    "glm-4.6v-flashx": ModelLimits(131_072, 16_384, 32_768, 50, 50, tools=True, thinking=True),
    # Sources disagree on its tools.
    "glm-5v-turbo": ModelLimits(204_800, 65_536, 131_072, 50, 50, thinking=True),
}

UNKNOWN_MODEL = ModelLimits(65_536, 1_024, None, 50, None)
"""Assumed of a model that is not in the table: the API says where this is wrong."""


def limits_of(model: str) -> ModelLimits:
    """Return the limits of a model, known or not.

    Args:
        model: Its name; servers of one's own have an organization or a path in front: ``zai-org/GLM-4.6V-Flash``.
    """
    return MODELS.get(_name(model), UNKNOWN_MODEL)


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
    return _name(model) not in _WITHOUT_VIDEO


def takes_files(model: str) -> bool:
    """Whether a model takes documents by their URL."""
    return _name(model) not in _WITHOUT_FILES


def _name(model: str) -> str:
    return model.lower().rstrip("/").rpartition("/")[2]
