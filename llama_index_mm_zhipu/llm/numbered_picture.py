"""Pictures that the text of a prompt names by number."""

from __future__ import annotations

from llama_index.core.base.llms.types import ImageBlock

from llama_index_mm_zhipu.wording import Language

ASKED_ABOUT = 0
"""Number of the picture that a question is about: the others are numbered from 1."""


class NumberedImageBlock(ImageBlock):
    """A picture with the number that the prompt calls it by, which a contact sheet then shows.

    Pictures without one are numbered by their place in the message.

    Attributes:
        number: From 1 on, or ``ASKED_ABOUT``.
        language: In which a contact sheet is explained.
    """

    number: int
    language: Language = "zh"
