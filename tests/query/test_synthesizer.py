"""Packing: images together with their labels, texts in as few requests as they need."""

from __future__ import annotations

from pathlib import Path

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock

from llama_index_mm_zhipu.query import PROMPTS
from llama_index_mm_zhipu.query.synthesizer import WholeImagesPromptHelper

QA = PROMPTS["zh"].qa


@pytest.fixture
def images(photos: list[Path]) -> list[ChatMessage]:
    return [
        ChatMessage(blocks=[TextBlock(text=f"图{n}"), ImageBlock(path=photo)])
        for n, photo in enumerate(photos, start=1)
    ]


@pytest.mark.parametrize("context_window", [2560, 8192])
def test_images_go_out_together(images: list[ChatMessage], context_window: int) -> None:
    helper = WholeImagesPromptHelper(context_window=context_window, num_output=1024)
    (packed,) = helper.repack(QA, images)
    assert packed.blocks == [block for image in images for block in image.blocks]


def test_texts_fill_requests_and_images_join_the_last(images: list[ChatMessage]) -> None:
    texts = [ChatMessage(content=f"第{number}段：" + "轮胎气压。" * 60) for number in range(20)]
    helper = WholeImagesPromptHelper(context_window=4096, num_output=256)
    packed = helper.repack(QA, [*texts, *images])
    assert len(packed) > 1
    assert [block for message in packed for block in message.blocks] == [
        *(block for text in texts for block in text.blocks),
        *(block for image in images for block in image.blocks),
    ]
    assert not any(isinstance(block, ImageBlock) for message in packed[:-1] for block in message.blocks)


def test_a_text_longer_than_a_request_is_split() -> None:
    helper = WholeImagesPromptHelper(context_window=1024, num_output=256)
    packed = helper.repack(QA, [ChatMessage(content="轮胎气压。" * 1000)])
    assert len(packed) > 2
    assert "".join(str(message.content) for message in packed).count("轮胎气压") >= 1000


def test_only_texts_are_shortened(images: list[ChatMessage]) -> None:
    helper = WholeImagesPromptHelper(context_window=1024, num_output=256)
    whole, cut = helper.truncate(QA, [images[0], ChatMessage(content="轮胎气压。" * 1000)])
    assert whole is images[0]
    assert 0 < len(str(cut.content)) < 4000


def test_labels_that_fill_a_request_take_another(photos: list[Path]) -> None:
    label = TextBlock(text="轮胎气压。" * 300)
    messages = [ChatMessage(blocks=[label, ImageBlock(path=photo)]) for photo in photos[:3]]
    packed = WholeImagesPromptHelper(context_window=4096, num_output=256).repack(QA, messages)
    assert len(packed) > 1
    assert [block for message in packed for block in message.blocks] == [b for m in messages for b in m.blocks]
    assert all(isinstance(message.blocks[-1], ImageBlock) for message in packed)


def test_nothing_packs_to_nothing() -> None:
    assert WholeImagesPromptHelper(context_window=1024).repack(QA, []) == []
