"""As a server of one's own, the stand-in takes what vLLM takes, refuses what it refuses, and answers in its form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from raw_client import Client, choices_of, encoded, image, lines_of, text, tool

from llama_index_mm_zhipu.testing import MockGLMServer

RAW = encoded(Image.new("RGB", (4, 4)))


@pytest.fixture(params=[False, True], ids=["error", "object error"])
def own(request: pytest.FixtureRequest) -> Iterator[Client]:
    """Asks a server with each form of refusals."""
    with MockGLMServer(api_style="openai", flat_errors=request.param) as server:
        yield Client(server)


def refusal(own: Client, content: Any = "你好", **fields: Any) -> str:
    response = own.post(content, **fields)
    assert response.status_code == 400
    body = response.json()
    error = body if body.get("object") == "error" else body["error"]
    assert error["code"] == 400
    return str(error["message"])


@pytest.mark.parametrize("field", ["request_id", "do_sample", "user_id", "thinking"])
def test_fields_of_zhipu_are_refused(own: Client, field: str) -> None:
    message = refusal(own, **{field: "value"})
    assert f"('body', '{field}')" in message
    assert "Extra inputs are not permitted" in message


def test_images_are_data_uris_or_addresses(own: Client) -> None:
    assert "must be either a HTTP, data or file URL" in refusal(own, [image(RAW), text("?")])
    assert "cannot identify image file" in refusal(own, [image("data:image/png;base64,AAAA"), text("?")])
    for url in (f"data:image/png;base64,{RAW}", "https://example.org/a.png"):
        assert "收到 1 张图片" in own.message([image(url), text("?")])["content"]


def test_other_faults_are_refused(own: Client) -> None:
    assert "only be defined when `stream=True`" in refusal(own, stream_options={"include_usage": True})
    assert "Field required" in refusal(own, messages=[])
    assert "Unknown part type: file_url" in refusal(own, [{"type": "file_url", "file_url": {"url": "x"}}])


def test_calls_have_null_for_content(own: Client) -> None:
    message = own.message("苹果", tools=[tool(parameters={"type": "object", "properties": {"a": {"type": "string"}}})])
    (call,) = message["tool_calls"]
    assert (message["content"], set(call)) == (None, {"id", "type", "function"})


def test_the_usage_of_a_stream_comes_only_where_it_is_asked_for(own: Client) -> None:
    plain = choices_of(own.post(stream=True))
    assert [choice["finish_reason"] for choice in plain] == [None] * (len(plain) - 1) + ["stop"]
    *_, last, done = lines_of(own.post(stream=True, stream_options={"include_usage": True}))
    assert done == "[DONE]"
    assert json.loads(last)["choices"] == []
    assert json.loads(last)["usage"]["total_tokens"] > 0
