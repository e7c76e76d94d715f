"""Every business code raises the right type of error, with the API's message and advice."""

from __future__ import annotations

import pickle

import pytest

from llama_index_mm_zhipu.llm import (
    GLMAuthenticationError,
    GLMContentFilteredError,
    GLMContextTooLongError,
    GLMError,
    GLMInvalidRequestError,
    GLMProtocolError,
    GLMQuotaError,
    GLMRateLimitError,
    GLMServerError,
    GLMTimeoutError,
)
from llama_index_mm_zhipu.llm.errors import error_from_answer, is_error

TABLE: list[tuple[int, str | None, type[GLMError], bool]] = [
    (401, "1000", GLMAuthenticationError, False),
    (401, "1003", GLMAuthenticationError, False),
    (403, None, GLMAuthenticationError, False),
    (429, "1113", GLMQuotaError, False),
    (429, "1304", GLMQuotaError, False),
    (429, "1310", GLMQuotaError, False),
    (429, "1321", GLMQuotaError, False),
    (429, "1302", GLMRateLimitError, True),
    (429, "1303", GLMRateLimitError, True),
    (429, "1305", GLMRateLimitError, True),
    (429, "1312", GLMRateLimitError, True),
    (429, None, GLMRateLimitError, True),
    (400, "1210", GLMInvalidRequestError, False),
    (400, "1211", GLMInvalidRequestError, False),
    (400, "1261", GLMContextTooLongError, False),
    (400, "1301", GLMContentFilteredError, False),
    (200, "1301", GLMContentFilteredError, False),
    (404, None, GLMInvalidRequestError, False),
    (408, None, GLMTimeoutError, True),
    (500, "1234", GLMServerError, True),
    (503, None, GLMServerError, True),
    (200, None, GLMProtocolError, False),
]


@pytest.mark.parametrize(("status", "code", "error_type", "retryable"), TABLE)
def test_error_types_by_code_and_status(
    status: int, code: str | None, error_type: type[GLMError], retryable: bool
) -> None:
    body = {"error": {"code": code, "message": "请检查文档。"}} if code else None

    error = error_from_answer(status, body, 3.0)

    assert type(error) is error_type
    assert (error.code, error.http_status, error.retry_after, error.retryable) == (code, status, 3.0, retryable)
    assert str(error).startswith(f"the GLM API answered HTTP {status}")
    assert str(error).endswith(f"; {error_type.advice}")
    assert ("请检查文档。" in str(error)) == bool(code)


@pytest.mark.parametrize("body", [None, [], "text", {"error": "text"}, {"error": {}}, {"error": {"code": 1302}}])
def test_malformed_bodies_still_make_an_error(body: object) -> None:
    assert isinstance(error_from_answer(429, body), GLMRateLimitError)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": "invalid key"}, ": invalid key;"),
        ({"code": 500, "msg": "gateway"}, "code 500: gateway;"),
        ({"error": {"message": "x" * 59 + " y " * 1000}}, "x" * 59),
    ],
)
def test_other_forms_of_errors_keep_their_text(body: object, said: str) -> None:
    assert said in str(error_from_answer(500, body))
    assert len(str(error_from_answer(500, body))) < 700


GATEWAY: list[tuple[object, type[GLMError], str | None, str]] = [
    ({"code": 500, "msg": "404 NOT_FOUND", "success": False}, GLMInvalidRequestError, "500", "check api_base: it ends"),
    ({"code": 500, "msg": '404 NOT_FOUND "x"'}, GLMInvalidRequestError, "500", "check api_base: it ends"),
    ({"code": 404, "msg": "no route"}, GLMInvalidRequestError, "404", "check api_base: it ends"),
    (
        {"code": 401, "msg": "令牌已过期或验证不正确", "success": False},
        GLMAuthenticationError,
        "401",
        "令牌已过期或验证不正确",
    ),
    ({"error": {"code": 401, "message": "无效的令牌"}}, GLMAuthenticationError, "401", "无效的令牌"),
    ({"error": {"code": 1302.0, "message": "慢"}}, GLMRateLimitError, "1302", "慢"),
    ({"code": 1113, "message": "欠费"}, GLMQuotaError, "1113", "欠费"),
    ({"code": 1113, "error": "欠费"}, GLMQuotaError, "1113", "欠费"),
    ({"success": False, "msg": "系统异常"}, GLMProtocolError, None, "系统异常"),
    ({"code": 503, "msg": "维护中"}, GLMServerError, "503", "维护中"),
]


@pytest.mark.parametrize(("body", "error_type", "code", "said"), GATEWAY)
def test_gateways_answer_errors_with_status_200(
    body: dict[str, object], error_type: type[GLMError], code: str | None, said: str
) -> None:
    assert is_error(body)
    error = error_from_answer(200, body)
    assert type(error) is error_type
    assert (error.code, error.http_status) == (code, 200)
    assert error.retryable == (error_type in (GLMRateLimitError, GLMServerError))
    assert said in str(error)


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{}], "code": 500, "msg": "x"},
        {"choices": [], "code": 200, "msg": "操作成功", "success": True},
        {"code": 0, "message": "ok"},
        {"type": "ping"},
        {"error": None},
        {},
    ],
)
def test_other_bodies_are_not_errors(body: dict[str, object]) -> None:
    assert not is_error(body)


@pytest.mark.parametrize(
    ("status", "code", "message", "advice"),
    [
        (429, "1113", "您的账户已欠费，请充值后重试。", "ends in /api/coding/paas/v4"),
        (404, None, "", "check api_base: it ends before /chat/completions"),
        (404, "1222", "API /v4/v4/chat/completions 不存在", "check api_base: it ends before /chat/completions"),
        (400, "1210", "messages.content.type 参数非法，取值范围 ['text']", "this model takes no images"),
        (400, 1210, 'messages.content.type 参数非法，取值范围 ["text"]', "this model takes no images"),
        (
            400,
            "1210",
            "[1210] This model always engages in thinking and cannot be disabled; please use low, high, or max",
            "leave thinking out",
        ),
    ],
)
def test_refusals_name_their_remedy(status: int, code: object, message: str, advice: str) -> None:
    assert advice in str(error_from_answer(status, {"error": {"code": code, "message": message}}))


def test_similar_refusals_get_the_general_advice() -> None:
    both = "messages.content.type 参数非法，取值范围 ['text', 'image_url']"
    assert "no images" not in str(error_from_answer(400, {"error": {"code": "1210", "message": both}}))
    missing = {"error": {"code": "1211", "message": "模型不存在"}}
    assert "check api_base" not in str(error_from_answer(404, missing))


def test_base64_in_messages_is_removed() -> None:
    lines = "\n".join(["/9j/" + "A" * 72] * 5)
    assert "AAAA" not in str(error_from_answer(400, {"error": {"code": "1210", "message": lines}}))


def test_errors_keep_their_attributes_when_pickled() -> None:
    error = error_from_answer(429, {"error": {"code": "1302", "message": "慢"}}, 3.0)
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is type(error)
    assert str(copied) == str(error)
    assert vars(copied) == vars(error)


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
    ],
)
def test_a_prompt_that_is_too_long_for_a_self_hosted_server_is_recognised(message: str) -> None:
    flat = {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}
    for body in (flat, {"error": {"message": message, "type": "BadRequestError", "code": 400}}):
        assert type(error_from_answer(400, body)) is GLMContextTooLongError
