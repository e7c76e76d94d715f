"""Fits the images of a chat into the number that a model accepts: keeps, drops or merges them into contact sheets."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from PIL import Image

from llama_index_mm_zhipu.images import (
    CELL_SIDE,
    NO_URLS,
    ImageError,
    UrlRules,
    contact_sheet,
    describe,
    load_image,
    read_bytes,
    resolve_source,
)
from llama_index_mm_zhipu.llm.errors import GLMInvalidRequestError, new_error
from llama_index_mm_zhipu.llm.images import (
    MAX_SIDE,
    QUERY_IMAGE_NUMBER,
    NumberedImageBlock,
    cached_encoding,
    content_key,
    encode_within_limits,
    language_of_chat,
)
from llama_index_mm_zhipu.prompts.wording import Wording, wording_of

logger = logging.getLogger(__name__)

ImagePolicy: TypeAlias = Literal["auto", "grid", "newest", "error"]
"""What to do with more images than a model accepts.

``"auto"``: images of older messages are dropped first, then those of the newest message with images are merged into
contact sheets, which also leaves room for one image that the user attached to an earlier message of a chat engine;
``"grid"``: images of every message are merged into contact sheets, and an image is dropped only if more messages
contain images than the model accepts;
``"newest"``: the newest images are sent, of one message the first ones, without contact sheets;
``"error"``: a ``GLMInvalidRequestError`` is raised before anything is sent.
"""


@dataclass(frozen=True)
class ImageBudget:
    """The number of images that may be sent, and what to do with more.

    Attributes:
        images: Maximum number of images in the whole history.
        policy: What to do with more images.
        max_side: Maximum width and height of a contact sheet in pixels.
        urls: Whether, and within which limits, images given by URL are fetched for a contact sheet.
    """

    images: int
    policy: ImagePolicy = "auto"
    max_side: int = MAX_SIDE
    urls: UrlRules = NO_URLS

    def fit(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        """Return messages with no more images than the model accepts. The given messages are not changed.

        Args:
            messages: The whole history, oldest first.

        Raises:
            GLMInvalidRequestError: There are too many images and the policy is ``"error"``.
            ImageError: An image for a contact sheet cannot be read, or is not allowed to be fetched.
        """
        counts = [len(_images_in(message)) for message in messages]
        if sum(counts) <= self.images:
            return list(messages)
        if self.policy == "error":
            raise new_error(
                GLMInvalidRequestError,
                f"{sum(counts)} images, and the model takes {self.images} in one request",
                advice='send fewer, or set image_policy="auto"',
            )
        slots = _slots(counts, self.images, self._kept_for_older(messages))
        on_sheets = [slot > 0 and self._may_share(index, counts) for index, slot in enumerate(slots)]
        _log(counts, slots, on_sheets, self.images)
        wording = wording_of(language_of_chat(messages))
        return [
            self._fit_message(message, slot, wording, sheets=sheets) if count > slot else message
            for message, count, slot, sheets in zip(messages, counts, slots, on_sheets, strict=True)
        ]

    def _kept_for_older(self, messages: Sequence[ChatMessage]) -> int:
        """Return how many of the older messages keep a slot regardless of the newest message."""
        if self.policy != "auto":
            return len(messages) if self.policy == "grid" else 0
        *older, newest = filter(None, map(_images_in, messages))
        can_share = len(newest) - _count_asked_about(newest) > 1
        return int(can_share and any(map(_count_asked_about, older)))

    def _may_share(self, index: int, counts: list[int]) -> bool:
        """Return whether the images of a message may share contact sheets."""
        is_newest = not any(counts[index + 1 :])
        return self.policy == "grid" or (self.policy == "auto" and is_newest)

    def _fit_message(self, message: ChatMessage, slots: int, wording: Wording, *, sheets: bool) -> ChatMessage:
        blocks = self._on_sheets(message, slots, wording) if sheets else _first_images(message, slots, wording)
        return message.model_copy(update={"blocks": blocks})

    def _on_sheets(self, message: ChatMessage, slots: int, wording: Wording) -> list[Any]:
        """Replace the first image of each group with the contact sheet of the group, the others with references."""
        images = _images_in(message)
        names = _names(images)
        groups = {group[0]: group for group in _groups(len(images), _count_asked_about(images), slots)}
        index = -1
        blocks: list[Any] = []
        for block in message.blocks:
            if not isinstance(block, ImageBlock):
                blocks.append(block)
                continue
            index += 1
            group = groups.get(index)
            if group is None:
                blocks.append(TextBlock(text=wording.on_sheet.format(number=names[index])))
            elif len(group) == 1:
                blocks.append(block)
            else:
                on_sheet = [names[member] for member in group]
                blocks.append(TextBlock(text=_explanation(on_sheet, wording)))
                blocks.append(self._sheet([images[member] for member in group], on_sheet))
        return blocks

    def _sheet(self, images: list[ImageBlock], names: list[str]) -> ImageBlock:
        keys = [self._key_of(image) for image in images]
        encoded = cached_encoding(
            (*keys, *names, self.max_side, self.urls),
            lambda: base64.b64encode(self._draw(images, names)).decode("ascii"),
        )
        return ImageBlock(image=base64.b64decode(encoded), image_mimetype="image/jpeg")

    def _draw(self, images: list[ImageBlock], names: list[str]) -> bytes:
        sheet = contact_sheet([self._small(image) for image in images], names, max_side=self.max_side)
        return encode_within_limits(sheet, self.max_side)

    def _key_of(self, image: ImageBlock) -> str:
        """Return the part of the cache key for one image."""
        source = resolve_source(image)
        if not isinstance(source, str):
            return content_key(read_bytes(source))
        if not self.urls.allowed:
            raise ImageError(
                f"{describe(source)} would have to be fetched for a contact sheet; set inline_urls=True, or "
                'image_policy="newest" to send the first images alone'
            )
        return source

    def _small(self, block: ImageBlock) -> Image.Image:
        """Load an image in the size of a contact sheet's cell, so that only one full-size image is in memory."""
        image = load_image(block, urls=self.urls)
        image.thumbnail((CELL_SIDE, CELL_SIDE), Image.Resampling.LANCZOS)
        return image


def _images_in(message: ChatMessage) -> list[ImageBlock]:
    return [block for block in message.blocks if isinstance(block, ImageBlock)]


def _log(counts: list[int], slots: list[int], on_sheets: list[bool], limit: int) -> None:
    short = [
        (count, slot, sheets) for count, slot, sheets in zip(counts, slots, on_sheets, strict=True) if count > slot
    ]
    shared = sum(count for count, _, sheets in short if sheets)
    left_out = sum(count - slot for count, slot, sheets in short if not sheets)
    logger.warning(
        "%d images, and the model takes %d in one request: %d share contact sheets, %d are left out",
        sum(counts),
        limit,
        shared,
        left_out,
    )


def _slots(counts: list[int], images: int, kept: int) -> list[int]:
    """Return how many images each message may send, the newest message first.

    Args:
        counts: Number of images of each message.
        images: Number of images that the model accepts.
        kept: How many of the older messages keep a slot.
    """
    slots = [0] * len(counts)
    left = images
    for index in range(len(counts) - 1, -1, -1):
        older = min(sum(count > 0 for count in counts[:index]), kept)
        slots[index] = min(counts[index], max(left - older, min(left, 1)))
        left -= slots[index]
        kept = max(kept - (slots[index] > 0), 0)
    return slots


def _names(images: list[ImageBlock]) -> list[str]:
    """Return the name of each image on a contact sheet: its number in the prompt, else its position from 1.

    If the question is about several images, which have no numbers, these are called A, B and so on. Images of several
    tool results may have the same numbers; all are then named by their positions.
    """
    own = _count_asked_about(images)
    numbers = [image.number if isinstance(image, NumberedImageBlock) else None for image in images]
    are_unique = len({*numbers[own:]}) == len(numbers[own:])
    return [
        chr(ord("A") + index)
        if index < own and own > 1
        else str(number if number is not None and (are_unique or index < own) else index + 1)
        for index, number in enumerate(numbers)
    ]


def _count_asked_about(images: list[ImageBlock]) -> int:
    """Return how many images the question is about. They come first."""
    return [*map(_is_asked_about, images), False].index(False)


def _is_asked_about(block: Any) -> bool:
    return isinstance(block, NumberedImageBlock) and block.number == QUERY_IMAGE_NUMBER


def _groups(count: int, asked_about: int, slots: int) -> list[list[int]]:
    """Divide the indexes of images into one group per slot. Images that the question is about get their own slots."""
    alone = min(asked_about, slots - 1)
    shared = _even_groups(count - alone, slots - alone)
    return [[index] for index in range(alone)] + [[index + alone for index in group] for group in shared]


def _even_groups(count: int, groups: int) -> list[list[int]]:
    """Divide 0 … count - 1 into consecutive groups whose sizes differ by at most one."""
    bounds = [round(number * count / groups) for number in range(groups + 1)]
    return [list(range(start, end)) for start, end in pairwise(bounds)]


def _explanation(names: list[str], wording: Wording) -> str:
    return wording.sheet.format(count=len(names), numbers=wording.comma.join(names), number=names[0])


def _first_images(message: ChatMessage, slots: int, wording: Wording) -> list[Any]:
    left = slots
    blocks: list[Any] = []
    for block in message.blocks:
        if isinstance(block, ImageBlock):
            left -= 1
            blocks.append(block if left >= 0 else TextBlock(text=wording.left_out))
        else:
            blocks.append(block)
    return blocks
