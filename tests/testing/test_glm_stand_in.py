"""The stand-in refuses what the API refuses, and computes its answers from what it was sent."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from llama_index_mm_zhipu.images import encode_image, load_image
from llama_index_mm_zhipu.testing import GLMStandIn


@pytest.fixture
def server() -> Iterator[GLMStandIn]:
    with GLMStandIn() as running:
        yield running


@pytest.fixture(scope="module")
def red() -> str:
    from PIL import Image

    return base64.b64encode(encode_image(Image.new("RGB", (30, 20), "red"), "PNG")).decode()


def picture(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def post(server: GLMStandIn, content: Any, key: str = "id.secret", **fields: Any) -> httpx.Response:
    body = {"model": "glm-4v-flash", "messages": [{"role": "user", "content": content}], **fields}
    return httpx.post(f"{server.url}/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"})


def test_answers_describe_what_was_sent(server: GLMStandIn, red: str) -> None:
    body = post(server, [text("图1：红旗"), picture(red), text("资料如上\n问题：什么颜色？")]).json()

    answer = body["choices"][0]["message"]["content"]
    assert answer.splitlines() == [
        "（本地替身，不是模型）问题：什么颜色？",
        "收到 1 张图片。",
        "第1张图片：PNG 30×20，平均颜色 #ff0000；说明：图1：红旗",
    ]
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    assert server.requests[0]["messages"][0]["content"][1] == picture(red)


@pytest.mark.parametrize(
    ("content", "fields", "status", "code"),
    [
        ("你好", {"model": "gpt"}, 400, "1211"),
        ("你好", {"max_tokens": 1025}, 400, "1210"),
        ("你好", {"messages": []}, 400, "1214"),
        ("你好", {"messages": [{"role": "bot", "content": "x"}]}, 400, "1214"),
        ([{"type": "audio"}], {}, 400, "1210"),
        ([{"type": "text", "text": "x", "detail": "high"}], {}, 400, "1210"),
        ([picture("not base64!")], {}, 400, "1210"),
        ([picture(base64.b64encode(b"no picture").decode())], {}, 400, "1210"),
    ],
)
def test_what_the_api_refuses_is_refused(
    server: GLMStandIn, content: Any, fields: dict[str, Any], status: int, code: str
) -> None:
    response = post(server, content, **fields)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_six_pictures_are_too_many(server: GLMStandIn, red: str) -> None:
    assert post(server, [*[picture(red)] * 5, text("?")]).status_code == 200
    refused = post(server, [*[picture(red)] * 6, text("?")])
    assert refused.json()["error"] == {"code": "1210", "message": "输入图片数量超过限制"}


@pytest.mark.parametrize("key", ["nodot", "."])
def test_bad_keys_are_refused(server: GLMStandIn, key: str) -> None:
    assert post(server, "你好", key=key).status_code == 401


def test_streams_carry_usage_last(server: GLMStandIn) -> None:
    lines = [line for line in post(server, "你好", stream=True).text.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    assert '"usage"' in lines[-2]
    assert not any('"usage"' in line for line in lines[:-2])


def test_pictures_by_address_are_not_fetched(server: GLMStandIn) -> None:
    body = post(server, [picture("https://example.com/a.jpg"), text("?")]).json()
    assert "网址 https://example.com/a.jpg" in body["choices"][0]["message"]["content"]


def test_the_red_picture_is_what_it_seems(red: str) -> None:
    assert load_image(red).getpixel((0, 0)) == (255, 0, 0)
