"""Every business code becomes the right kind of error, with the API's own words and an advice."""

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
from llama_index_mm_zhipu.llm.errors import error_of_answer

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


@pytest.mark.parametrize(("status", "code", "kind", "retryable"), TABLE)
def test_kinds_by_code_and_status(status: int, code: str | None, kind: type[GLMError], retryable: bool) -> None:
    body = {"error": {"code": code, "message": "请检查文档。"}} if code else None

    error = error_of_answer(status, body, 3.0)

    assert type(error) is kind
    assert (error.code, error.http_status, error.retry_after, error.retryable) == (code, status, 3.0, retryable)
    assert str(error).startswith(f"the GLM API answered HTTP {status}")
    assert str(error).endswith(f"; {kind.advice}")
    assert ("请检查文档。" in str(error)) == bool(code)


@pytest.mark.parametrize("body", [None, [], "text", {"error": "text"}, {"error": {}}, {"error": {"code": 1302}}])
def test_odd_bodies_are_no_crash(body: object) -> None:
    assert isinstance(error_of_answer(429, body), GLMRateLimitError)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": "invalid key"}, ": invalid key;"),
        ({"code": 500, "msg": "gateway"}, "code 500: gateway;"),
        ({"error": {"message": "x" * 59 + " y " * 1000}}, "x" * 59),
    ],
)
def test_other_forms_of_errors_keep_their_text(body: object, said: str) -> None:
    assert said in str(error_of_answer(500, body))
    assert len(str(error_of_answer(500, body))) < 700


def test_pictures_in_lines_of_base64_are_left_out() -> None:
    lines = "\n".join(["/9j/" + "A" * 72] * 5)
    assert "AAAA" not in str(error_of_answer(400, {"error": {"code": "1210", "message": lines}}))


def test_errors_pickle_whole() -> None:
    error = error_of_answer(429, {"error": {"code": "1302", "message": "慢"}}, 3.0)
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is type(error)
    assert str(copied) == str(error)
    assert vars(copied) == vars(error)
