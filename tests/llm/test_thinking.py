"""How much a model thinks is said once or for each call, and models that always think are asked to think little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ways import Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMInvalidRequestError
from llama_index_mm_zhipu.testing import ErrorAnswer, MockGLMServer

Connect = Callable[..., ZhipuMultiModal]

ALWAYS = "This model always engages in thinking and cannot be disabled; please use low, high, or max"


def sent(server: MockGLMServer) -> list[tuple[Any, Any]]:
    return [(request.get("thinking"), request.get("reasoning_effort")) for request in server.requests]


async def test_effort_is_set_per_object_and_per_call(way: Way, connect: Connect, server: MockGLMServer) -> None:
    llm = connect(model="glm-5.3-flash", reasoning_effort="high")
    await way.ask(llm)
    await way.ask(llm, reasoning_effort="max")
    await way.ask(llm, reasoning_effort=None)
    assert sent(server) == [(None, "high"), (None, "max"), (None, None)]


async def test_thinking_is_set_per_object_and_per_call(way: Way, connect: Connect, server: MockGLMServer) -> None:
    llm = connect(model="glm-4.6v-flash", thinking=False)
    await way.ask(llm)
    await way.ask(llm, thinking="enabled")
    assert sent(server) == [({"type": "disabled"}, None), ({"type": "enabled"}, None)]


async def test_a_model_that_always_thinks_thinks_little_instead_of_not(
    way: Way, connect: Connect, server: MockGLMServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await way.ask(connect(model="glm-5.3-flashx", thinking="disabled"))).message.content
    assert sent(server) == [(None, "low")]
    assert "glm-5.3-flashx always thinks" in caplog.text


async def test_that_a_model_always_thinks_is_learned_once(way: Way, connect: Connect, server: MockGLMServer) -> None:
    llm = connect(model="glm-4.6v", thinking="disabled")
    server.script(ErrorAnswer(400, "1210", ALWAYS))
    for _ in range(2):
        assert (await way.ask(llm)).message.content
    assert sent(server) == [({"type": "disabled"}, None), (None, "low"), (None, "low")]


async def test_other_efforts_are_refused_before_anything_is_sent(
    way: Way, connect: Connect, server: MockGLMServer
) -> None:
    with pytest.raises(ValueError, match="reasoning_effort"):
        connect(reasoning_effort="medium")
    with pytest.raises(ValueError, match="reasoning_effort"):
        await way.ask(connect(model="glm-5.3-flash"), reasoning_effort="medium")
    assert server.requests == []


async def test_efforts_in_additional_kwargs_are_the_api_s_to_refuse(way: Way, connect: Connect) -> None:
    llm = connect(model="glm-5.3-flash", additional_kwargs={"reasoning_effort": "medium"})
    with pytest.raises(GLMInvalidRequestError, match="always engages in thinking"):
        await way.ask(llm)
