"""The body of a request: parameters and messages of a call, within the limits of the model that is asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock

from llama_index_mm_zhipu.images import UrlRules
from llama_index_mm_zhipu.llm.api_style import ApiStyle, data_uri, style_at
from llama_index_mm_zhipu.llm.messages import Receiver, holds_media, plain_messages
from llama_index_mm_zhipu.llm.limits import limits_at
from llama_index_mm_zhipu.llm.messages_old import api_messages
from llama_index_mm_zhipu.llm.requests import fit_to_model
from llama_index_mm_zhipu.llm.image_budget import ImagePolicy, PictureBudget
from llama_index_mm_zhipu.llm.images import Images, blocks_of_documents, image_list, picture_url

logger = logging.getLogger(__name__)

Messages: TypeAlias = "Sequence[ChatMessage] | Callable[[], Sequence[ChatMessage]]"
"""A chat, or a function that makes it: that may have to read images."""


@dataclass(frozen=True)
class RequestBody:
    """What goes into a request, whichever model is asked.

    Attributes:
        parameters: Fields other than ``model`` and ``messages``.
        messages: The chat.
        api_base: Address of the API: deployments differ in their limits.
        api_style: Form of requests.
        image_policy: What to do with more images than the model takes.
        max_image_side: Pixels.
        urls: Whether images given by address are fetched.
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
        """Whether building it may take its time."""
        if callable(self.messages):
            return True
        return holds_media(self.messages)

    def build(self, model: str) -> dict[str, Any]:
        """Return the body for a model, within its limits as far as they are known.

        Raises:
            GLMInvalidRequestError: There are too many images, and the policy is ``"error"``.
            ImageError: An image cannot be read.
        """
        limits = limits_at(self.api_base, model)
        body = {"model": model, **self.parameters}
        fit_to_model(body, limits, model)
        budget = PictureBudget(limits.pictures, self.image_policy, self.max_image_side, self.urls)
        style = style_at(self.api_style, self.api_base)

        def encode(block: ImageBlock) -> str:
            url = picture_url(block, max_side=self.max_image_side, urls=self.urls)
            return data_uri(url) if style == "openai" else url

        chat = plain_messages(self.messages() if callable(self.messages) else self.messages)
        return {**body, "messages": api_messages(budget.fit(chat), Receiver(model, style, encode))}

    def models(self, first: str, fallbacks: Iterable[str]) -> tuple[str, ...]:
        """Return the models to ask in turn: each once, and none that cannot call the functions of the request.

        Args:
            first: Asked in any case.
            fallbacks: Asked after it.
        """
        others = [model for model in dict.fromkeys(fallbacks) if model != first]
        if not self.parameters.get("tools"):
            return (first, *others)
        able = [model for model in others if limits_at(self.api_base, model).tools]
        if able != others:
            logger.info("%s are not asked: they call no functions", [model for model in others if model not in able])
        return (first, *able)


def prompt_messages(prompt: str, image_documents: Images | None) -> Messages:
    """Return the chat of a prompt with images; they are read once, when the chat is needed."""
    question = TextBlock(text=prompt)
    images = image_list(image_documents)
    if not images:
        return [ChatMessage(role=MessageRole.USER, blocks=[question])]

    @cache
    def chat() -> list[ChatMessage]:
        return [ChatMessage(role=MessageRole.USER, blocks=[*blocks_of_documents(images), question])]

    return chat
