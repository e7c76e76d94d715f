"""Gateways: their words and codes reach the user, a wrong path is named, and what they leave out can be accepted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ways import Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMAuthenticationError, GLMConnectionError, GLMInvalidRequestError
from llama_index_mm_zhipu.testing import Cut, GatewayError, MockGLMServer, NoFinishReason

ANSWER_TEXT = "（本地模拟服务，不是模型）问题：图里的飞机是什么颜色？\n收到 0 张图片。"


async def test_the_words_of_a_gateway_reach_the_user(
    way: Way, connect: Callable[..., ZhipuMultiModal], server: MockGLMServer
) -> None:
    server.script(GatewayError(500, "404 NOT_FOUND"), GatewayError(401, "令牌已过期或验证不正确"))
    with pytest.raises(GLMInvalidRequestError, match="code 500: 404 NOT_FOUND; check api_base: it ends before"):
        await way.ask(connect())
    with pytest.raises(GLMAuthenticationError, match="code 401: 令牌已过期或验证不正确; check ZHIPUAI_API_KEY"):
        await way.ask(connect())


async def test_a_wrong_path_says_to_check_the_address(
    way: Way, connect: Callable[..., ZhipuMultiModal], server: MockGLMServer
) -> None:
    with pytest.raises(GLMInvalidRequestError, match=r"HTTP 404.*check api_base: it ends before /chat/completions"):
        await way.ask(connect(api_base=f"{server.url}/v4"))


async def test_a_gateway_may_never_send_a_finish_reason(
    way: Way, connect: Callable[..., ZhipuMultiModal], server: MockGLMServer
) -> None:
    llm = connect(require_finish_reason=False, max_retries=0)
    server.script(NoFinishReason(), NoFinishReason(after=2), Cut(after=3))
    assert (await way.ask(llm)).message.content == ANSWER_TEXT
    assert ANSWER_TEXT.startswith((await way.ask(llm)).message.content or "-")
    with pytest.raises(GLMConnectionError):
        await way.ask(llm)
