"""Limits are the table's until the API says otherwise, then the API's for the rest of the process."""

from __future__ import annotations

from typing import Any

import pytest

from llama_index_mm_zhipu.llm import GLMInvalidRequestError
from llama_index_mm_zhipu.llm.models import MODELS, UNKNOWN_GLM
from llama_index_mm_zhipu.llm.requests import learn_limits, limits_at

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


def test_unknown_models_have_stated_defaults() -> None:
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
    # A request that was under way with fifty needs only be built again.
    assert learn_limits(TOO_MANY, BASE, body(model, 50))
    assert limits_at(BASE, model).images == 1


@pytest.mark.parametrize("fields", [{}, {"max_tokens": 512}, {"max_tokens": "5000"}])
def test_a_range_that_was_kept_teaches_nothing(fields: dict[str, int]) -> None:
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
def test_too_many_images_fall_back_on_what_is_documented(model: str, sent: int, expected: int | None) -> None:
    assert learn_limits(TOO_MANY, BASE, body(model, sent)) == (expected is not None)
    if expected is not None:
        assert limits_at(BASE, model).images == expected


@pytest.mark.parametrize(
    "message", ["The number of images exceeds the limit", "Image count exceeded", "Too many images"]
)
def test_the_international_service_is_understood(message: str) -> None:
    assert learn_limits(GLMInvalidRequestError(message, code="1210"), BASE, body(images=5))


@pytest.mark.parametrize(("most", "expected"), [(4, 4), (1, 1), (60, None)])
def test_a_server_of_one_s_own_says_how_many_images_it_takes(most: int, expected: int | None) -> None:
    refusal = GLMInvalidRequestError(f"At most {most} image(s) may be provided in one request.", code="400")
    assert learn_limits(refusal, BASE, body("glm-4.6v", 10)) == (expected is not None)
    assert limits_at(BASE, "glm-4.6v").images == (expected or MODELS["glm-4.6v"].images)


def test_a_model_that_always_thinks_is_learned() -> None:
    refusal = GLMInvalidRequestError("This model always engages in thinking and cannot be disabled", code="1210")
    assert not learn_limits(refusal, BASE, body("glm-9v", reasoning_effort="none"))
    assert learn_limits(refusal, BASE, body("glm-9v", thinking={"type": "disabled"}))
    assert limits_at(BASE, "glm-9v").always_thinks


def test_other_refusals_teach_nothing() -> None:
    refusal = GLMInvalidRequestError("API 调用参数有误，请检查文档。", code="1210")
    assert not learn_limits(refusal, BASE, body(images=5, max_tokens=1000))
