"""Fallback models: if a model cannot answer, the next one is asked, within its own limits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from ways import Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMConnectionError, GLMError, GLMInvalidRequestError, GLMRateLimitError
from llama_index_mm_zhipu.testing import Cut, ErrorAnswer, ErrorEvent, MockGLMServer

Connect = Callable[..., ZhipuMultiModal]

CHAIN: dict[str, Any] = {"model": "glm-4.6v", "fallback_models": ("glm-4.6v-flash", "glm-4v-flash"), "max_retries": 0}
UNAVAILABLE = [
    ErrorAnswer(400, "1211", "模型不存在，请检查模型代码。"),
    ErrorAnswer(429, "1302", "您的账户已达到速率限制，请您控制请求频率"),
    ErrorAnswer(429, "1305", "该模型当前访问量过大，请您稍后再试"),
    ErrorAnswer(429, "1312", "该模型当前访问量过大，请您稍后再试"),
    ErrorAnswer(429, "1113", "您的账户已欠费，请充值后重试。"),
]


def asked(server: MockGLMServer) -> list[str]:
    return [request["model"] for request in server.requests]


def sent_images(request: dict[str, Any]) -> int:
    return sum(part["type"] == "image_url" for part in request["messages"][-1]["content"])


@pytest.mark.parametrize("fault", UNAVAILABLE, ids=lambda fault: fault.code)
async def test_the_next_model_answers(
    way: Way, connect: Connect, server: MockGLMServer, fault: ErrorAnswer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    server.script(fault, fault)
    response = await way.ask(connect(**CHAIN))
    assert asked(server) == ["glm-4.6v", "glm-4.6v-flash", "glm-4v-flash"]
    assert response.message.content
    assert response.raw["model"] == response.additional_kwargs["model"] == "glm-4v-flash"
    assert [record.getMessage().split()[0] for record in caplog.records] == ["glm-4.6v", "glm-4.6v-flash"]


async def test_a_model_that_answers_is_the_only_one_asked(way: Way, connect: Connect, server: MockGLMServer) -> None:
    response = await way.ask(connect(**CHAIN))
    assert asked(server) == ["glm-4.6v"]
    assert response.raw["model"] == response.additional_kwargs["model"] == "glm-4.6v"


@pytest.mark.usefixtures("no_backoff")
async def test_a_busy_model_is_retried_before_the_next_is_asked(
    way: Way, connect: Connect, server: MockGLMServer
) -> None:
    server.script(*[UNAVAILABLE[1]] * 2)
    await way.ask(connect(**{**CHAIN, "max_retries": 1}), request_id="my-request")
    assert asked(server) == ["glm-4.6v", "glm-4.6v", "glm-4.6v-flash"]
    assert [request["request_id"] for request in server.requests] == ["my-request", "my-request-2", "my-request-3"]


async def test_other_errors_are_raised_without_fallback(way: Way, connect: Connect, server: MockGLMServer) -> None:
    for fault in (ErrorAnswer(400, "1210", "API 调用参数有误，请检查文档。"), ErrorAnswer(400, "1301", "敏感")):
        server.script(fault)
        with pytest.raises(GLMError, match=f"code {fault.code}"):
            await way.ask(connect(**CHAIN))
    assert asked(server) == ["glm-4.6v"] * 2


async def test_the_error_of_the_last_model_names_the_failed_ones(
    way: Way, connect: Connect, server: MockGLMServer
) -> None:
    server.script(UNAVAILABLE[4], UNAVAILABLE[0], UNAVAILABLE[1])
    earlier = r"\(asked glm-4v-flash after glm-4\.6v: code 1113, glm-4\.6v-flash: code 1211\)"
    with pytest.raises(GLMRateLimitError, match=f"code 1302.*{earlier}"):
        await way.ask(connect(**CHAIN))


async def test_images_and_max_tokens_follow_the_limits_of_the_model_that_is_asked(
    way: Way, connect: Connect, server: MockGLMServer, photos: list[Path]
) -> None:
    chat = [ChatMessage(role="user", blocks=[*(ImageBlock(path=photo) for photo in photos), TextBlock(text="？")])]
    server.script(UNAVAILABLE[0], UNAVAILABLE[0])
    await way.ask(connect(**CHAIN, max_tokens=20_000, thinking="enabled"), chat)
    assert [sent_images(request) for request in server.requests] == [10, 10, 5]
    assert [request["max_tokens"] for request in server.requests] == [20_000, 20_000, 1_024]
    assert ["thinking" in request for request in server.requests] == [True, True, False]


@pytest.mark.parametrize("streams", [False, True])
async def test_a_stream_falls_back_only_before_its_first_token(
    connect: Connect, server: MockGLMServer, streams: bool
) -> None:
    way = Way(is_async=True, streams=True)
    server.script(ErrorEvent("1305", "该模型当前访问量过大，请您稍后再试", after=1 if streams else 0))
    if streams:
        with pytest.raises(GLMRateLimitError) as caught:
            await way.ask(connect(**CHAIN))
        assert caught.value.partial_text
    else:
        assert (await way.ask(connect(**CHAIN))).additional_kwargs["model"] == "glm-4.6v-flash"
    assert len(server.requests) == 2 - streams


async def test_a_cut_connection_causes_no_fallback(way: Way, connect: Connect, server: MockGLMServer) -> None:
    server.script(Cut())
    with pytest.raises(GLMConnectionError):
        await way.ask(connect(**CHAIN))
    assert asked(server) == ["glm-4.6v"]


async def test_the_model_of_a_call_is_asked_before_the_fallbacks(
    way: Way, connect: Connect, server: MockGLMServer
) -> None:
    server.script(UNAVAILABLE[0])
    await way.ask(connect(**CHAIN), model="glm-4.6v-flash")
    assert asked(server) == ["glm-4.6v-flash", "glm-4v-flash"]


async def test_requests_with_tools_skip_models_without_functions(connect: Connect, server: MockGLMServer) -> None:
    def price(name: str) -> float:
        """Price of a product."""
        return len(name) / 2

    server.script(*[UNAVAILABLE[0]] * 2)
    with pytest.raises(GLMInvalidRequestError, match=r"\(asked glm-4\.6v-flash after glm-4\.6v: code 1211\)"):
        await connect(**CHAIN).achat_with_tools([FunctionTool.from_defaults(price)], "苹果多少钱？")
    assert asked(server) == ["glm-4.6v", "glm-4.6v-flash"]


def test_a_string_is_refused_as_fallback_models(connect: Connect) -> None:
    with pytest.raises(ValueError, match="fallback_models"):
        connect(fallback_models="glm-4v-flash")
