"""Calls work with each kind of service: Zhipu, Coding Plan, Z.ai, self-hosted servers and gateways."""

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
class Service:
    """A service that clients may be configured for.

    Attributes:
        base_path: Path of the API.
        key: Key that the service accepts.
        model: Name of a model of the service.
        style: Form of requests that the service accepts.
        api_style: ``api_style`` that a user sets.
    """

    base_path: str
    key: str
    model: str
    style: Style
    api_style: ApiStyle = "auto"


SERVICES = {
    "Zhipu": Service("/api/paas/v4", "0123456789abcdef.s3cr3tpart", "glm-4.6v-flash", "glm"),
    "Coding Plan": Service("/api/coding/paas/v4", "fedcba9876543210.Pl4nSecret", "glm-4.6v", "glm"),
    "Z.ai": Service("/api/paas/v4/", "00112233445566778899.Z41Secret", "glm-4.5v", "glm"),
    "own server": Service("/v1", "EMPTY", "zai-org/GLM-4.6V-Flash", "openai"),
    "gateway": Service("/zhipu/v1", "sk-0123456789abcdefABCDEF", "glm-4.6v-flash", "glm", api_style="glm"),
}


@pytest.fixture(params=SERVICES.values(), ids=SERVICES)
def service(request: pytest.FixtureRequest) -> Service:
    """Each service."""
    return request.param


@pytest.fixture
def mock(service: Service) -> Iterator[MockGLMServer]:
    """A mock of the service."""
    with MockGLMServer(
        api_style=service.style, base_path=service.base_path.rstrip("/"), api_key=service.key
    ) as running:
        yield running


def client(service: Service, mock: MockGLMServer, key: str) -> ZhipuMultiModal:
    base = mock.url + ("/" if service.base_path.endswith("/") else "")
    return ZhipuMultiModal(service.model, api_key=key, api_base=base, api_style=service.api_style)


async def test_a_question_about_an_image_is_answered_by_each_service(
    service: Service, mock: MockGLMServer, way: Way, photos: list[Path]
) -> None:
    llm = client(service, mock, f"“{service.key}”\n")
    chat = [ChatMessage(role="user", blocks=[ImageBlock(path=photos[0]), TextBlock(text="图里是什么？")])]
    response = await way.ask(llm, chat)
    assert "收到 1 张图片" in (response.message.content or "")
    assert response.additional_kwargs["total_tokens"] > 0
    assert mock.authorizations == [f"Bearer {service.key}"]
    (request,) = mock.requests
    url = request["messages"][0]["content"][0]["image_url"]["url"]
    assert request["model"] == service.model
    assert ("request_id" in request, url.startswith("/9j/")) == (service.style == "glm", service.style == "glm")


async def test_a_wrong_key_is_an_error_that_does_not_show_it(service: Service, mock: MockGLMServer, way: Way) -> None:
    with pytest.raises(GLMAuthenticationError) as caught:
        await way.ask(client(service, mock, "sk-of-another-service"))
    assert "sk-of-another-service" not in str(caught.value)


# Gateways


ANSWER_TEXT = "（本地模拟服务，不是模型）问题：图里的飞机是什么颜色？\n收到 0 张图片。"


async def test_errors_quote_the_message_of_a_gateway(
    way: Way, connect: Callable[..., ZhipuMultiModal], server: MockGLMServer
) -> None:
    server.script(GatewayError(500, "404 NOT_FOUND"), GatewayError(401, "令牌已过期或验证不正确"))
    with pytest.raises(GLMInvalidRequestError, match="code 500: 404 NOT_FOUND; check api_base: it ends before"):
        await way.ask(connect())
    with pytest.raises(GLMAuthenticationError, match="code 401: 令牌已过期或验证不正确; check ZHIPUAI_API_KEY"):
        await way.ask(connect())


async def test_a_wrong_path_is_an_error_that_says_to_check_api_base(
    way: Way, connect: Callable[..., ZhipuMultiModal], server: MockGLMServer
) -> None:
    with pytest.raises(GLMInvalidRequestError, match=r"HTTP 404.*check api_base: it ends before /chat/completions"):
        await way.ask(connect(api_base=f"{server.url}/v4"))


async def test_streams_without_a_finish_reason_can_be_accepted(
    way: Way, connect: Callable[..., ZhipuMultiModal], server: MockGLMServer
) -> None:
    llm = connect(require_finish_reason=False, max_retries=0)
    server.script(NoFinishReason(), NoFinishReason(after=2), Cut(after=3))
    assert (await way.ask(llm)).message.content == ANSWER_TEXT
    assert ANSWER_TEXT.startswith((await way.ask(llm)).message.content or "-")
    with pytest.raises(GLMConnectionError):
        await way.ask(llm)
