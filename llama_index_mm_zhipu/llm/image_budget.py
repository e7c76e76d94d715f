"""More images than a model takes: which ones go out, which ones share a contact sheet, which ones give way."""

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
    ASKED_ABOUT,
    MAX_SIDE,
    NumberedImageBlock,
    content_key,
    encode_within_limits,
    language_of_chat,
    remembered,
)
from llama_index_mm_zhipu.prompts.wording import Wording, wording_of

logger = logging.getLogger(__name__)

ImagePolicy: TypeAlias = Literal["auto", "grid", "newest", "error"]
"""What to do with more images than a model takes.

``"auto"``: images of older messages give way first, then those of the newest message that has any share contact
sheets, also to leave room for one of the user's own from an earlier message of a chat engine;
``"grid"``: images of every message share contact sheets, and none gives way unless more messages hold some than the
model takes images;
``"newest"``: the newest messages' images go out, of one message the first ones, and no contact sheet is made;
``"error"``: a ``GLMInvalidRequestError``, before anything is sent.
"""


@dataclass(frozen=True)
class ImageBudget:
    """How many images may go out, and how.

    Attributes:
        images: What the model takes over the whole history.
        policy: What to do with more.
        max_side: Pixels of a contact sheet.
        urls: Whether images given by address are fetched for one, and within which limits.
    """

    images: int
    policy: ImagePolicy = "auto"
    max_side: int = MAX_SIDE
    urls: UrlRules = NO_URLS

    def fit(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        """Return messages that hold no more images than the model takes; the given ones stay as they are.

        Args:
            messages: The whole history, oldest first.

        Raises:
            GLMInvalidRequestError: There are too many, and the policy is ``"error"``.
            ImageError: An image for a contact sheet cannot be read, or must be fetched and may not.
        """
        counts = [len(_images_in(message)) for message in messages]
        if sum(counts) <= self.images:
            return list(messages)
        if self.policy == "error":
            raise new_error(
                GLMInvalidRequestError,
                f"{sum(counts)} images, and the model takes {self.images} in one request; "
                'send fewer, or set image_policy="auto"',
            )
        slots = _slots(counts, self.images, self._kept_for_older(messages))
        on_sheets = [slot > 0 and self._may_share(place, counts) for place, slot in enumerate(slots)]
        _log(counts, slots, on_sheets, self.images)
        wording = wording_of(language_of_chat(messages))
        return [
            self._fit_message(message, slot, wording, sheets=sheets) if count > slot else message
            for message, count, slot, sheets in zip(messages, counts, slots, on_sheets, strict=True)
        ]

    def _kept_for_older(self, messages: Sequence[ChatMessage]) -> int:
        """Return how many of the older messages keep a slot, whatever the newest one holds."""
        if self.policy != "auto":
            return len(messages) if self.policy == "grid" else 0
        *older, newest = filter(None, map(_images_in, messages))
        can_share = len(newest) - _count_asked_about(newest) > 1
        return int(can_share and any(map(_count_asked_about, older)))

    def _may_share(self, place: int, counts: list[int]) -> bool:
        is_newest = not any(counts[place + 1 :])
        return self.policy == "grid" or (self.policy == "auto" and is_newest)

    def _fit_message(self, message: ChatMessage, slots: int, wording: Wording, *, sheets: bool) -> ChatMessage:
        blocks = self._on_sheets(message, slots, wording) if sheets else _first_images(message, slots, wording)
        return message.model_copy(update={"blocks": blocks})

    def _on_sheets(self, message: ChatMessage, slots: int, wording: Wording) -> list[Any]:
        """Replace the first image of each group by the group's sheet, and the others by a reference to it."""
        images = _images_in(message)
        names = _names(images)
        groups = {group[0]: group for group in _groups(len(images), _count_asked_about(images), slots)}
        place = -1
        blocks: list[Any] = []
        for block in message.blocks:
            if not isinstance(block, ImageBlock):
                blocks.append(block)
                continue
            place += 1
            group = groups.get(place)
            if group is None:
                blocks.append(TextBlock(text=wording.on_sheet.format(number=names[place])))
            elif len(group) == 1:
                blocks.append(block)
            else:
                on_sheet = [names[member] for member in group]
                blocks.append(TextBlock(text=_explanation(on_sheet, wording)))
                blocks.append(self._sheet([images[member] for member in group], on_sheet))
        return blocks

    def _sheet(self, images: list[ImageBlock], names: list[str]) -> ImageBlock:
        keys = [self._key_of(image) for image in images]
        encoded = remembered(
            (*keys, *names, self.max_side, self.urls),
            lambda: base64.b64encode(self._draw(images, names)).decode("ascii"),
        )
        return ImageBlock(image=base64.b64decode(encoded), image_mimetype="image/jpeg")

    def _draw(self, images: list[ImageBlock], names: list[str]) -> bytes:
        sheet = contact_sheet([self._small(image) for image in images], names, max_side=self.max_side)
        return encode_within_limits(sheet, self.max_side)

    def _key_of(self, image: ImageBlock) -> str:
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
        """Load an image no larger than a contact sheet shows it, so that only one is ever in memory whole."""
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
    """Divide what the model takes among messages, the newest first, with a slot for each of so many older ones."""
    slots = [0] * len(counts)
    left = images
    for place in range(len(counts) - 1, -1, -1):
        older = min(sum(count > 0 for count in counts[:place]), kept)
        slots[place] = min(counts[place], max(left - older, min(left, 1)))
        left -= slots[place]
        kept = max(kept - (slots[place] > 0), 0)
    return slots


def _names(images: list[ImageBlock]) -> list[str]:
    """Return what a sheet calls each image: its own number, else its place from 1.

    Several images that the question is about, which have no numbers, are called A, B and so on.
    """
    own = _count_asked_about(images)
    return [
        chr(ord("A") + place)
        if place < own and own > 1
        else str(image.number if isinstance(image, NumberedImageBlock) else place + 1)
        for place, image in enumerate(images)
    ]


def _count_asked_about(images: list[ImageBlock]) -> int:
    """Return how many images the question is about: these come first."""
    return [*map(_is_asked_about, images), False].index(False)


def _is_asked_about(block: Any) -> bool:
    return isinstance(block, NumberedImageBlock) and block.number == ASKED_ABOUT


def _groups(count: int, asked_about: int, slots: int) -> list[list[int]]:
    """Divide the places of images into groups, each for one slot; the images asked about get slots of their own."""
    alone = min(asked_about, slots - 1)
    shared = _even_groups(count - alone, slots - alone)
    return [[place] for place in range(alone)] + [[place + alone for place in group] for group in shared]


def _even_groups(count: int, groups: int) -> list[list[int]]:
    """Divide 0 … count - 1 into consecutive groups whose sizes differ by one at most."""
    bounds = [round(place * count / groups) for place in range(groups + 1)]
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
