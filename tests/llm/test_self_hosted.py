"""Self-hosted servers such as vLLM get only standard fields and data URIs, and their answers are understood."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from ways import CHAT, Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMAuthenticationError, GLMInvalidRequestError
from llama_index_mm_zhipu.llm.endpoint import openai_body, style_at
from llama_index_mm_zhipu.testing import MockGLMServer, RawAnswer, Reasoning, ToolCalls, Wrapped

MODEL = "zai-org/GLM-4.6V-Flash"
Connect = Callable[..., ZhipuMultiModal]


@pytest.fixture
def own_server() -> Iterator[MockGLMServer]:
    """A mock of a self-hosted server such as vLLM."""
    with MockGLMServer(api_style="openai") as running:
        yield running


@pytest.fixture
def connect_own(own_server: MockGLMServer) -> Connect:
    """Builds clients of the self-hosted server."""

    def build(**settings: Any) -> ZhipuMultiModal:
        return ZhipuMultiModal(**{"model": MODEL, "api_key": "EMPTY", "api_base": own_server.url, **settings})

    return build


def price(name: str) -> float:
    """Price of a product."""
    return len(name) / 2


PRICE = FunctionTool.from_defaults(price)


# Form of requests


@pytest.mark.parametrize(
    ("api_base", "style"),
    [
        ("https://open.bigmodel.cn/api/paas/v4", "glm"),
        ("https://open.bigmodel.cn/api/coding/paas/v4/", "glm"),
        ("https://api.z.ai/api/paas/v4", "glm"),
        ("https://OPEN.bigmodel.cn/other", "glm"),
        ("http://127.0.0.1:8000/api/paas/v4", "glm"),
        ("http://127.0.0.1:8000/v1", "openai"),
        ("https://gateway.example/v1/", "openai"),
        ("https://notbigmodel.cn/v1", "openai"),
        ("http://localhost:30000", "openai"),
    ],
)
def test_the_url_determines_the_form_of_requests(api_base: str, style: str) -> None:
    assert style_at("auto", api_base) == style
    assert style_at("glm", api_base) == "glm"
    assert style_at("openai", api_base) == "openai"


def test_unknown_forms_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="api_style"):
        ZhipuMultiModal(api_key=key, api_style="claude")


def test_the_form_can_be_changed(connect: Connect, server: MockGLMServer) -> None:
    llm = connect()
    llm.chat(CHAT)
    llm.api_style = "openai"
    llm.chat(CHAT)
    assert ["request_id" in request for request in server.requests] == [True, False]


# Requests


async def test_images_are_data_uris(
    way: Way, connect_own: Connect, own_server: MockGLMServer, photos: list[Path]
) -> None:
    blocks = [ImageBlock(path=photos[0]), ImageBlock(url="https://example.org/a.jpg"), TextBlock(text="图里是什么？")]
    response = await way.ask(connect_own(), [ChatMessage(role="user", blocks=blocks)])
    image, address, _ = own_server.requests[0]["messages"][0]["content"]
    expected = base64.b64encode(photos[0].read_bytes()).decode()
    assert image == {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{expected}"}}
    assert address == {"type": "image_url", "image_url": {"url": "https://example.org/a.jpg"}}
    assert "收到 2 张图片" in (response.message.content or "")


async def test_only_standard_fields_are_sent(way: Way, connect_own: Connect, own_server: MockGLMServer) -> None:
    llm = connect_own(
        do_sample=False, temperature=0.5, top_p=0.5, user_id="user-1", request_id="request-1", max_tokens=100
    )
    await way.ask(llm, thinking={"type": "disabled"}, additional_kwargs={"top_k": 5})
    (request,) = own_server.requests
    del request["messages"]
    assert request == {
        "model": MODEL,
        "temperature": 0,
        "max_tokens": 100,
        "user": "user-1",
        "top_k": 5,
        "chat_template_kwargs": {"enable_thinking": False},
        **({"stream": True, "stream_options": {"include_usage": True}} if way.streams else {}),
    }


def test_given_standard_fields_are_kept() -> None:
    body = {
        "thinking": {"type": "enabled"},
        "chat_template_kwargs": {"enable_thinking": False, "x": 1},
        "do_sample": True,
        "temperature": 0.5,
        "user": "a",
        "user_id": "user-1",
        "stream": True,
        "stream_options": {"include_usage": False},
    }
    assert openai_body(body) == {
        "chat_template_kwargs": {"enable_thinking": False, "x": 1},
        "temperature": 0.5,
        "user": "a",
        "stream": True,
        "stream_options": {"include_usage": False},
    }
    assert "thinking" in body


async def test_any_key_is_sent_and_a_wrong_one_is_an_error(way: Way) -> None:
    with MockGLMServer(api_style="openai", api_key="sk-of-my-server") as server:
        await way.ask(ZhipuMultiModal(MODEL, api_key="sk-of-my-server", api_base=server.url))
        with pytest.raises(GLMAuthenticationError, match="HTTP 401, code 401: Unauthorized; check "):
            await way.ask(ZhipuMultiModal(MODEL, api_key="EMPTY", api_base=server.url))
        server.script(RawAnswer('{"error": "Unauthorized"}', status=401, content_type="application/json"))
        with pytest.raises(GLMAuthenticationError, match="HTTP 401: Unauthorized; check "):
            await way.ask(ZhipuMultiModal(MODEL, api_key="EMPTY", api_base=server.url))
        assert server.authorizations == ["Bearer sk-of-my-server", "Bearer EMPTY", "Bearer EMPTY"]


@pytest.mark.parametrize("flat", [True, False], ids=["object error", "error"])
async def test_errors_for_fields_of_zhipu_quote_the_server(flat: bool, way: Way, photos: list[Path]) -> None:
    with MockGLMServer(api_style="openai", flat_errors=flat) as server:
        llm = ZhipuMultiModal(MODEL, api_key="EMPTY", api_base=server.url, api_style="glm")
        with pytest.raises(
            GLMInvalidRequestError, match=r"HTTP 400, code 400: .*'request_id'.*not permitted"
        ) as caught:
            await way.ask(llm)
        assert caught.value.request_id is not None
        llm.api_style = "openai"
        with pytest.raises(GLMInvalidRequestError, match="'watermark'") as caught:
            await way.ask(llm, additional_kwargs={"watermark": True})
        assert caught.value.request_id is None


# Answers


async def test_the_usage_of_a_stream_comes_after_its_end(way: Way, connect_own: Connect) -> None:
    response = await way.ask(connect_own())
    assert response.additional_kwargs["finish_reason"] == "stop"
    assert response.additional_kwargs["total_tokens"] > 0
    assert (response.message.content or "").startswith("（本地模拟服务，不是模型）")


async def test_tool_calls_come_without_content_and_in_fragments(way: Way, connect_own: Connect) -> None:
    llm = connect_own()
    assert llm.metadata.is_function_calling_model
    prepared = llm._prepare_chat_with_tools([PRICE], user_msg="苹果")
    response = await way.ask(llm, prepared.pop("messages"), **prepared)
    (call,) = llm.get_tool_calls_from_response(response)
    assert (call.tool_name, call.tool_kwargs) == ("price", {"name": "苹果"})
    assert response.additional_kwargs["finish_reason"] == "tool_calls"
    assert not response.message.content


async def test_parallel_tool_calls_are_distinguished_by_index(
    way: Way, connect_own: Connect, own_server: MockGLMServer
) -> None:
    own_server.script(ToolCalls([("price", '{"name": "苹果"}'), ("price", '{"name": "梨"}')]))
    llm = connect_own()
    calls = llm.get_tool_calls_from_response(await way.ask(llm))
    assert [call.tool_kwargs for call in calls] == [{"name": "苹果"}, {"name": "梨"}]


async def test_reasoning_is_read_from_its_own_field_or_the_text(
    way: Way, connect_own: Connect, own_server: MockGLMServer
) -> None:
    own_server.script(Reasoning("先看图"), Reasoning("先看图", key="reasoning"), Wrapped("先看图</think>"))
    for _ in range(3):
        response = await way.ask(connect_own())
        thought, text = response.message.blocks
        assert thought.content == "先看图"
        assert text.text.startswith("（本地模拟服务，不是模型）")
