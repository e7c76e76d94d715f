"""Bodies of requests, their parameters, learned limits of models, and thinking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from ways import CHAT, Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.images import NO_URLS
from llama_index_mm_zhipu.llm import GLMInvalidRequestError
from llama_index_mm_zhipu.llm.images import MAX_SIDE
from llama_index_mm_zhipu.llm.models import MODELS, UNKNOWN_GLM, limits_of
from llama_index_mm_zhipu.llm.requests import (
    GLMParameters,
    Messages,
    RequestBody,
    chosen_parameters,
    fit_to_model,
    learn_limits,
    limits_at,
    prompt_messages,
)
from llama_index_mm_zhipu.testing import ErrorAnswer, MockGLMServer


def request_body(messages: Messages = CHAT, image_policy: Any = "auto", **parameters: Any) -> RequestBody:
    return RequestBody(parameters, messages, "http://api", "glm", image_policy, MAX_SIDE, NO_URLS)


@pytest.fixture
def ten_images(photos: list[Path]) -> Sequence[ChatMessage]:
    return [ChatMessage(role="user", blocks=[*(ImageBlock(path=photo) for photo in photos), TextBlock(text="?")])]


def test_every_model_gets_its_own_limits(ten_images: Sequence[ChatMessage]) -> None:
    asked = request_body(ten_images, max_tokens=5_000)
    bodies = [asked.build(model) for model in ("glm-4.6v", "glm-4v-flash", "glm-4.6v")]
    assert [built["max_tokens"] for built in bodies] == [5_000, 1_024, 5_000]
    images = [sum(part["type"] == "image_url" for part in built["messages"][0]["content"]) for built in bodies]
    assert images == [10, 5, 10]
    assert asked.parameters == {"max_tokens": 5_000}


def test_too_many_images_for_one_model_may_be_few_for_another(ten_images: Sequence[ChatMessage]) -> None:
    asked = request_body(ten_images, image_policy="error")
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
    assert request_body(**parameters).models("glm-4.6v", fallbacks) == expected


def test_images_of_a_prompt_are_read_once_and_only_when_needed(tmp_path: Path, photos: list[Path]) -> None:
    image = tmp_path / "late.jpg"
    messages = prompt_messages("什么颜色？", [image])
    assert request_body(messages).holds_images
    image.write_bytes(photos[0].read_bytes())
    first = request_body(messages).build("glm-4v-flash")
    image.unlink()
    assert request_body(messages).build("glm-4v-flash") == first


def test_a_chat_of_texts_holds_no_images(ten_images: Sequence[ChatMessage]) -> None:
    assert not request_body().holds_images
    assert not request_body(prompt_messages("你好", None)).holds_images
    assert request_body(ten_images).holds_images


# Parameters


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0),
        ("temperature", 1),
        ("temperature", 0.333),
        ("top_p", 0.01),
        ("top_p", 1.0),
        ("do_sample", False),
        ("max_tokens", 1),
        ("stop", ["一", "二", "三", "四"]),
        ("request_id", "r" * 6),
        ("user_id", "u" * 128),
        ("thinking", {"type": "disabled"}),
        ("reasoning_effort", "low"),
        ("reasoning_effort", "max"),
    ],
)
def test_values_are_sent_as_given(name: str, value: Any) -> None:
    assert chosen_parameters(GLMParameters(**{name: value}), {}, {}) == {name: value}
    assert chosen_parameters(GLMParameters(), {}, {name: value}) == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 1.01),
        ("top_p", 0),
        ("top_p", 1.1),
        ("max_tokens", 0),
        ("stop", []),
        ("stop", ["1", "2", "3", "4", "5"]),
        ("request_id", "short"),
        ("request_id", "r" * 65),
        ("user_id", "u" * 129),
        ("do_sample", "perhaps"),
        ("thinking", "sometimes"),
        ("thinking", 1),
        ("reasoning_effort", "medium"),
        ("reasoning_effort", "none"),
        ("reasoning_effort", True),
        ("temperature", True),
        ("temperature", "0.5"),
        ("max_tokens", True),
        ("do_sample", "no"),
    ],
)
def test_values_out_of_range_are_errors(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        GLMParameters(**{name: value})
    with pytest.raises(ValueError, match=name):
        chosen_parameters(GLMParameters(), {}, {name: value})


def test_a_single_stop_becomes_a_list() -> None:
    assert chosen_parameters(GLMParameters(), {}, {"stop": "。"}) == {"stop": ["。"]}


@pytest.mark.parametrize(
    ("thinking", "kind"), [("enabled", "enabled"), ("disabled", "disabled"), (True, "enabled"), (False, "disabled")]
)
def test_short_forms_of_thinking_become_the_form_of_the_api(thinking: Any, kind: str) -> None:
    assert chosen_parameters(GLMParameters(thinking=thinking), {}, {}) == {"thinking": {"type": kind}}
    assert chosen_parameters(GLMParameters(), {}, {"thinking": thinking}) == {"thinking": {"type": kind}}


OFF, ON = {"thinking": {"type": "disabled"}}, {"thinking": {"type": "enabled"}}


@pytest.mark.parametrize(
    ("model", "parameters", "sent", "warning"),
    [
        ("glm-5.3-flash", OFF, {"reasoning_effort": "low"}, "glm-5.3-flash always thinks; reasoning_effort='low'"),
        ("glm-5.3-flash", {**OFF, "reasoning_effort": "max"}, {"reasoning_effort": "low"}, "always thinks"),
        ("glm-5.3-flash", ON, ON, ""),
        ("glm-5.3-flash", {"reasoning_effort": "high"}, {"reasoning_effort": "high"}, ""),
        ("glm-4.6v", OFF, OFF, ""),
        ("glm-4.6v", {**ON, "reasoning_effort": "high"}, ON, "reasoning_effort 'high' is left out: glm-4.6v does not"),
        ("glm-4v-flash", {**ON, "reasoning_effort": "high"}, {}, "glm-4v-flash cannot think"),
        ("glm-9v", {**OFF, "reasoning_effort": "high"}, {**OFF, "reasoning_effort": "high"}, ""),
        ("some-model", {**OFF, "reasoning_effort": "high"}, {**OFF, "reasoning_effort": "high"}, ""),
    ],
)
def test_thinking_is_adapted_to_the_model(
    model: str, parameters: dict[str, Any], sent: dict[str, Any], warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    limits = limits_of(model)
    caplog.clear()
    body = dict(parameters)
    fit_to_model(body, limits, model)
    assert body == sent
    assert warning in caplog.text
    assert bool(caplog.records) == bool(warning)


def test_max_tokens_are_lowered_only_to_a_known_limit() -> None:
    for limits, model, sent in [(limits_of("glm-4.6v"), "glm-4.6v", 32_768), (UNKNOWN_GLM, "glm-9v", 99_999)]:
        body = {"max_tokens": 99_999}
        fit_to_model(body, limits, model)
        assert body == {"max_tokens": sent}


def test_later_values_win_and_none_removes_a_field() -> None:
    settings = GLMParameters(temperature=0.1, top_p=0.2, max_tokens=3, user_id="user-1")
    additional = {"top_p": 0.3, "seed": 1}
    overrides = {"temperature": 0.4, "seed": 2, "max_tokens": None, "additional_kwargs": {"temperature": 0.5}}
    assert chosen_parameters(settings, additional, overrides) == {
        "temperature": 0.5,
        "top_p": 0.3,
        "user_id": "user-1",
        "seed": 2,
    }


def test_additional_fields_are_not_checked() -> None:
    assert chosen_parameters(GLMParameters(), {"temperature": 2}, {}) == {"temperature": 2}


# Learned limits


BASE = "http://api"
RANGE = GLMInvalidRequestError("max_tokens参数非法：限制数值范围[1,512]", code="1210")
TOO_MANY = GLMInvalidRequestError("输入图片数量超过限制", code="1210")


def body(model: str = "glm-4v-flash", images: int = 0, **fields: Any) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": "/9j/"}}] * images
    return {
        "model": model,
        "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": "?"}]}],
        **fields,
    }


def test_limits_are_those_of_the_table_until_one_is_learned() -> None:
    assert limits_at(BASE, "glm-9v") is UNKNOWN_GLM
    assert limits_at(BASE, "GLM-4V-Flash") is MODELS["glm-4v-flash"]


def test_the_range_of_max_tokens_is_learned() -> None:
    assert learn_limits(RANGE, BASE, body(max_tokens=1000))
    assert limits_at(BASE, "glm-4v-flash").max_tokens == 512
    assert limits_at("http://other", "glm-4v-flash").max_tokens == 1024
    assert limits_at(BASE, "glm-4v").max_tokens is None


def test_later_refusals_never_raise_a_limit() -> None:
    model = "glm-4.1v-thinking-flash"
    assert learn_limits(TOO_MANY, BASE, body(model, 5))
    assert limits_at(BASE, model).images == 1
    # A concurrent request with fifty images was refused too, and only has to be built again.
    assert learn_limits(TOO_MANY, BASE, body(model, 50))
    assert limits_at(BASE, model).images == 1


@pytest.mark.parametrize("fields", [{}, {"max_tokens": 512}, {"max_tokens": "5000"}])
def test_a_range_that_the_request_respects_is_not_learned(fields: dict[str, int]) -> None:
    assert not learn_limits(RANGE, BASE, body(**fields))


@pytest.mark.parametrize(
    ("model", "sent", "expected"),
    [
        ("glm-4v-flash", 5, 1),
        ("glm-4v-flash", 2, 1),
        ("glm-4v-flash", 1, None),
        ("glm-4.5v", 60, 50),
        ("glm-4.5v", 50, None),
        ("glm-4.1v-thinking-flash", 50, 5),
        ("glm-4.1v-thinking-flash", 5, 1),
        ("glm-9v", 7, 5),
    ],
)
def test_refused_images_lower_the_limit_to_the_documented_number(model: str, sent: int, expected: int | None) -> None:
    assert learn_limits(TOO_MANY, BASE, body(model, sent)) == (expected is not None)
    if expected is not None:
        assert limits_at(BASE, model).images == expected


@pytest.mark.parametrize(
    "message", ["The number of images exceeds the limit", "Image count exceeded", "Too many images"]
)
def test_refusals_of_the_international_service_are_recognised(message: str) -> None:
    assert learn_limits(GLMInvalidRequestError(message, code="1210"), BASE, body(images=5))


@pytest.mark.parametrize(("limit", "expected"), [(4, 4), (1, 1), (60, None)])
def test_the_limit_that_a_self_hosted_server_names_is_learned(limit: int, expected: int | None) -> None:
    refusal = GLMInvalidRequestError(f"At most {limit} image(s) may be provided in one request.", code="400")
    assert learn_limits(refusal, BASE, body("glm-4.6v", 10)) == (expected is not None)
    assert limits_at(BASE, "glm-4.6v").images == (expected or MODELS["glm-4.6v"].images)


def test_a_model_that_always_thinks_is_learned() -> None:
    refusal = GLMInvalidRequestError("This model always engages in thinking and cannot be disabled", code="1210")
    assert not learn_limits(refusal, BASE, body("glm-9v", reasoning_effort="none"))
    assert learn_limits(refusal, BASE, body("glm-9v", thinking={"type": "disabled"}))
    assert limits_at(BASE, "glm-9v").always_thinks


def test_other_refusals_change_no_limit() -> None:
    refusal = GLMInvalidRequestError("API 调用参数有误，请检查文档。", code="1210")
    assert not learn_limits(refusal, BASE, body(images=5, max_tokens=1000))


# Thinking


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


async def test_a_model_that_always_thinks_gets_a_low_effort_if_thinking_is_disabled(
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


async def test_efforts_in_additional_kwargs_are_not_checked(way: Way, connect: Connect) -> None:
    llm = connect(model="glm-5.3-flash", additional_kwargs={"reasoning_effort": "medium"})
    with pytest.raises(GLMInvalidRequestError, match="always engages in thinking"):
        await way.ask(llm)
