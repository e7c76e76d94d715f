"""Pictures that the text of a prompt names by number."""

from __future__ import annotations

from collections.abc import Sequence

from llama_index.core.base.llms.types import ChatMessage, ImageBlock

from llama_index_mm_zhipu.prompts.wording import Language, language_of_text

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


def language_of_chat(messages: Sequence[ChatMessage]) -> Language:
    """Return the language for texts that are added to a chat.

    It is that of numbered images, which engines set; else that of the chat's texts, Chinese if there are none.
    """
    blocks = (block for message in messages for block in message.blocks)
    set_by_engine = (block.language for block in blocks if isinstance(block, NumberedImageBlock))
    return next(set_by_engine, None) or language_of_text("\n".join(message.content or "" for message in messages))
