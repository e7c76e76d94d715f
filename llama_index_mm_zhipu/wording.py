"""The words that prompts put around pictures, in Chinese and in English."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Language: TypeAlias = Literal["zh", "en"]
"""Of prompts and labels; questions and answers may be in any."""


@dataclass(frozen=True)
class Wording:
    """Words of one language.

    Attributes:
        metadata_key: Under it, copies of retrieved pictures carry their label.
        name: What a picture is called; ``{number}`` is from 1.
        similarity: Stands behind the name where the score is a cosine.
        score: Stands there where it is another score.
        colon: Between name and caption.
        own_picture: Stands before the picture that a question is about.
        no_caption: Stands for a picture without caption where only captions are sent.
    """

    metadata_key: str
    name: str
    similarity: str
    score: str
    colon: str
    own_picture: str
    no_caption: str


WORDING: dict[Language, Wording] = {
    "zh": Wording(
        metadata_key="图片",
        name="图{number}",
        similarity="（相似度 {score:.3g}）",
        score="（得分 {score:.3g}）",
        colon="：",
        own_picture="用户提供的图片（问题所指，没有编号）：",
        no_caption="（没有说明）",
    ),
    "en": Wording(
        metadata_key="picture",
        name="Picture {number}",
        similarity=" (similarity {score:.3g})",
        score=" (score {score:.3g})",
        colon=": ",
        own_picture="The user's picture, which the question is about (it has no number):",
        no_caption="(no caption)",
    ),
}


def wording_of(language: Language) -> Wording:
    """Return the words of a language.

    Raises:
        ValueError: There are none.
    """
    if language not in WORDING:
        raise ValueError(f"language {language!r} is not known; use one of {', '.join(map(repr, WORDING))}")
    return WORDING[language]
