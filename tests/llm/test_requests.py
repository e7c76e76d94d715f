"""The body of a request is made for the model that is asked, and a chain of models holds none in vain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from ways import CHAT

from llama_index_mm_zhipu.images import NO_URLS
from llama_index_mm_zhipu.llm import GLMInvalidRequestError
from llama_index_mm_zhipu.llm.images import MAX_SIDE
from llama_index_mm_zhipu.llm.requests import Messages, RequestBody, prompt_messages


def body(messages: Messages = CHAT, image_policy: Any = "auto", **parameters: Any) -> RequestBody:
    return RequestBody(parameters, messages, "http://api", "glm", image_policy, MAX_SIDE, NO_URLS)


@pytest.fixture
def ten_images(photos: list[Path]) -> Sequence[ChatMessage]:
    return [ChatMessage(role="user", blocks=[*(ImageBlock(path=photo) for photo in photos), TextBlock(text="?")])]


def test_every_model_gets_its_own_limits(ten_images: Sequence[ChatMessage]) -> None:
    asked = body(ten_images, max_tokens=5_000)
    bodies = [asked.build(model) for model in ("glm-4.6v", "glm-4v-flash", "glm-4.6v")]
    assert [built["max_tokens"] for built in bodies] == [5_000, 1_024, 5_000]
    images = [sum(part["type"] == "image_url" for part in built["messages"][0]["content"]) for built in bodies]
    assert images == [10, 5, 10]
    assert asked.parameters == {"max_tokens": 5_000}


def test_too_many_images_for_one_model_may_be_few_for_another(ten_images: Sequence[ChatMessage]) -> None:
    asked = body(ten_images, image_policy="error")
    assert asked.build("glm-4.6v")
    with pytest.raises(GLMInvalidRequestError, match="the model takes 5"):
        asked.build("glm-4v-flash")


@pytest.mark.parametrize(
    ("fallbacks", "parameters", "expected"),
    [
        ((), {}, ("glm-4.6v",)),
        (("glm-4v-flash", "glm-4.6v", "glm-4v-flash"), {}, ("glm-4.6v", "glm-4v-flash")),
        (("glm-4v-flash", "glm-9v"), {"tools": [{}]}, ("glm-4.6v", "glm-9v")),
        (("glm-4v-flash",), {"tools": []}, ("glm-4.6v", "glm-4v-flash")),
    ],
)
def test_each_model_is_asked_once(
    fallbacks: tuple[str, ...], parameters: dict[str, Any], expected: tuple[str, ...]
) -> None:
    assert body(**parameters).models("glm-4.6v", fallbacks) == expected


def test_images_of_a_prompt_are_read_once_and_late(tmp_path: Path, photos: list[Path]) -> None:
    image = tmp_path / "late.jpg"
    messages = prompt_messages("什么颜色？", [image])
    assert body(messages).holds_images
    image.write_bytes(photos[0].read_bytes())
    first = body(messages).build("glm-4v-flash")
    image.unlink()
    assert body(messages).build("glm-4v-flash") == first


def test_a_chat_of_texts_holds_no_images(ten_images: Sequence[ChatMessage]) -> None:
    assert not body().holds_images
    assert not body(prompt_messages("你好", None)).holds_images
    assert body(ten_images).holds_images
