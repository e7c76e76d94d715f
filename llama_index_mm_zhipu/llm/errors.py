"""What can go wrong with the GLM API, by kind, from the business codes of its documentation."""

from __future__ import annotations

import re
from typing import Any


class GLMError(Exception):
    """A call of the GLM API failed.

    Attributes:
        code: The API's business code, such as ``"1302"``, if it sent one.
        http_status: Status of the answer, if there was one.
        request_id: Name of the request, for the API's support.
        retryable: Whether the same call may succeed later.
        retry_after: Seconds after which the API asks to try again, if it does.
        partial_text: What came of the answer before a stream failed.
    """

    advice = "see the message of the API"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        http_status: int | None = None,
        request_id: str | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        partial_text: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = http_status
        self.request_id = request_id
        self.retryable = retryable
        self.retry_after = retry_after
        self.partial_text = partial_text

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the attributes, which ``Exception`` would not pass to the constructor."""
        return _rebuilt, (type(self), str(self), dict(vars(self)))


class GLMAuthenticationError(GLMError):
    """The key is wrong, expired, or its account is locked."""

    advice = "check ZHIPUAI_API_KEY at https://open.bigmodel.cn/usercenter/apikeys"


class GLMQuotaError(GLMError):
    """The account has no balance, or a daily or plan limit is reached: waiting a moment does not help."""

    advice = "check balance and plan of the account, or take a free model such as glm-4.6v-flash"


class GLMRateLimitError(GLMError):
    """Too many requests at a time, or the service is busy."""

    advice = "wait, or send fewer requests at a time"


class GLMInvalidRequestError(GLMError):
    """The API does not take the request as it is."""

    advice = (
        "check model name, parameters and pictures; with inline_urls=True pictures are sent that the API cannot fetch"
    )


class GLMContextTooLongError(GLMInvalidRequestError):
    """Prompt and pictures are longer than the model's context."""

    advice = "send fewer pictures or less text, or take a model with a larger context"


class GLMContentFilteredError(GLMError):
    """The API found the question, a picture or the answer unsafe."""

    advice = "rephrase the question or leave the picture out"


class GLMServerError(GLMError):
    """The service failed."""

    advice = "try again later"


class GLMConnectionError(GLMError):
    """The service could not be reached, or the connection was cut."""

    advice = "check the network and api_base"


class GLMTimeoutError(GLMConnectionError):
    """The service did not answer in time."""

    advice = "raise timeout or deadline: pictures can take two minutes at busy hours"


class GLMProtocolError(GLMError):
    """The answer is none that the API is documented to give."""

    advice = "check api_base; a proxy may have answered instead"


KIND_BY_CODE: dict[str, type[GLMError]] = {
    **dict.fromkeys(
        ("1000", "1001", "1002", "1003", "1004", "1005", "1110", "1111", "1112", "1121"), GLMAuthenticationError
    ),
    **dict.fromkeys(("1113", "1304", "1308", "1309", "1310", "1311"), GLMQuotaError),
    **dict.fromkeys((str(code) for code in range(1313, 1322)), GLMQuotaError),
    **dict.fromkeys(("1302", "1303", "1305", "1312"), GLMRateLimitError),
    **dict.fromkeys(
        ("1210", "1211", "1212", "1213", "1214", "1215", "1220", "1221", "1222", "1231"), GLMInvalidRequestError
    ),
    "1261": GLMContextTooLongError,
    "1301": GLMContentFilteredError,
    **dict.fromkeys(("1120", "1200", "1230", "1234"), GLMServerError),
}
"""Kinds of error by the API's business codes."""

# Pictures in base64, also in lines of 76 characters, should the API quote them; no message has words this long.
_LONG_RUN = re.compile(r"[A-Za-z0-9+/=_-]{60,}")
_LONGEST_MESSAGE = 500

_RETRYABLE_KINDS = (GLMRateLimitError, GLMServerError, GLMConnectionError)


def error_of_answer(http_status: int, body: Any, retry_after: float | None = None) -> GLMError:
    """Build the error that an answer stands for.

    The business code decides; the HTTP status only where there is none.

    Args:
        http_status: Status of the answer.
        body: Its parsed JSON, expected as ``{"error": {"code": …, "message": …}}``.
        retry_after: Seconds that the answer asks to wait.
    """
    code, message = _code_and_message(body)
    kind = KIND_BY_CODE.get(code or "") or _kind_by_status(http_status)
    said = f": {message}" if message else ""
    named = f"HTTP {http_status}" + (f", code {code}" if code else "")
    return new_error(
        kind, f"the GLM API answered {named}{said}", code=code, http_status=http_status, retry_after=retry_after
    )


def new_error(kind: type[GLMError], what: str, **attributes: Any) -> GLMError:
    """Build an error of a kind with its advice; kinds that may pass are retryable."""
    return kind(f"{what}; {kind.advice}", retryable=issubclass(kind, _RETRYABLE_KINDS), **attributes)


def _code_and_message(body: Any) -> tuple[str | None, str]:
    """Find the code and the message of an error, which gateways in front of the API write in forms of their own."""
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    elif not isinstance(error, dict):
        error = body if isinstance(body, dict) else {}
    code = error.get("code")
    message = str(error.get("message") or error.get("msg") or "")
    return None if code is None else str(code), _LONG_RUN.sub("…", message)[:_LONGEST_MESSAGE]


def _kind_by_status(status: int) -> type[GLMError]:
    if status in (401, 403):
        return GLMAuthenticationError
    if status == 429:
        return GLMRateLimitError
    if status == 408:
        return GLMTimeoutError
    if status >= 500:
        return GLMServerError
    return GLMInvalidRequestError if status >= 400 else GLMProtocolError


def _rebuilt(kind: type[GLMError], message: str, attributes: dict[str, Any]) -> GLMError:
    error = kind(message)
    vars(error).update(attributes)
    return error
