"""The five kinds of service that a client may be given: each takes its own key, path, header and form of request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from ways import Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMAuthenticationError, GLMConnectionError, GLMInvalidRequestError
from llama_index_mm_zhipu.llm.endpoint import ApiStyle, Style
from llama_index_mm_zhipu.testing import Cut, GatewayError, MockGLMServer, NoFinishReason


@dataclass(frozen=True)
class Door:
    """A kind of service.

    Attributes:
        base_path: Path of its API.
        key: Key that it takes.
        model: Name of a model there.
        style: Form of requests that it takes.
        api_style: What a user sets.
    """

    base_path: str
    key: str
    model: str
    style: Style
    api_style: ApiStyle = "auto"


DOORS = {
    "Zhipu": Door("/api/paas/v4", "0123456789abcdef.s3cr3tpart", "glm-4.6v-flash", "glm"),
    "Coding Plan": Door("/api/coding/paas/v4", "fedcba9876543210.Pl4nSecret", "glm-4.6v", "glm"),
    "Z.ai": Door("/api/paas/v4/", "00112233445566778899.Z41Secret", "glm-4.5v", "glm"),
    "own server": Door("/v1", "EMPTY", "zai-org/GLM-4.6V-Flash", "openai"),
    "gateway": Door("/zhipu/v1", "sk-0123456789abcdefABCDEF", "glm-4.6v-flash", "glm", api_style="glm"),
}


@pytest.fixture(params=DOORS.values(), ids=DOORS)
def door(request: pytest.FixtureRequest) -> Door:
    """Each kind of service."""
    return request.param


@pytest.fixture
def service(door: Door) -> Iterator[MockGLMServer]:
    """One that stands in for it."""
    with MockGLMServer(api_style=door.style, base_path=door.base_path.rstrip("/"), api_key=door.key) as running:
        yield running


def client(door: Door, service: MockGLMServer, key: str) -> ZhipuMultiModal:
    base = service.url + ("/" if door.base_path.endswith("/") else "")
    return ZhipuMultiModal(door.model, api_key=key, api_base=base, api_style=door.api_style)


async def test_a_question_about_an_image_passes_each_door(
    door: Door, service: MockGLMServer, way: Way, photos: list[Path]
) -> None:
    llm = client(door, service, f"“{door.key}”\n")
    chat = [ChatMessage(role="user", blocks=[ImageBlock(path=photos[0]), TextBlock(text="图里是什么？")])]
    response = await way.ask(llm, chat)
    assert "收到 1 张图片" in (response.message.content or "")
    assert response.additional_kwargs["total_tokens"] > 0
    assert service.authorizations == [f"Bearer {door.key}"]
    (request,) = service.requests
    url = request["messages"][0]["content"][0]["image_url"]["url"]
    assert request["model"] == door.model
    assert ("request_id" in request, url.startswith("/9j/")) == (door.style == "glm", door.style == "glm")


async def test_a_wrong_key_is_an_error_that_does_not_show_it(door: Door, service: MockGLMServer, way: Way) -> None:
    with pytest.raises(GLMAuthenticationError) as caught:
        await way.ask(client(door, service, "sk-of-another-service"))
    assert "sk-of-another-service" not in str(caught.value)


# Gateways


ANSWER_TEXT = "（本地替身，不是模型）问题：图里的飞机是什么颜色？\n收到 0 张图片。"


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
