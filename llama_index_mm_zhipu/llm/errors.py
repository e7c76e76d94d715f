"""What can go wrong with the GLM API, by kind, from the business codes of its documentation."""

from __future__ import annotations

import re
from typing import Any, TypeVar

E = TypeVar("E", bound="GLMError")


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

    advice = (
        "check ZHIPUAI_API_KEY, ZAI_API_KEY or api_key, and that api_base is of the service that gave the key; Zhipu's "
        "keys are at https://open.bigmodel.cn/usercenter/apikeys"
    )


class GLMQuotaError(GLMError):
    """The account has no balance, or a daily or plan limit is reached: waiting a moment does not help."""

    advice = "check balance and plan of the account, or take a free model such as glm-4.6v-flash"


class GLMRateLimitError(GLMError):
    """Too many requests at a time, or the service is busy."""

    advice = "wait, or send fewer requests at a time"


class GLMInvalidRequestError(GLMError):
    """The API does not take the request as it is."""

    advice = "check model name, parameters and images; with inline_urls=True images are sent that the API cannot fetch"


class GLMContextTooLongError(GLMInvalidRequestError):
    """Prompt and images are longer than the model's context."""

    advice = "send fewer images or less text, or take a model with a larger context"


class GLMContentFilteredError(GLMError):
    """The API found the question, an image or the answer unsafe."""

    advice = "rephrase the question or leave the image out"


class GLMServerError(GLMError):
    """The service failed."""

    advice = "try again later"


class GLMConnectionError(GLMError):
    """The service could not be reached, or the connection was cut."""

    advice = "check the network and api_base"


class GLMTimeoutError(GLMConnectionError):
    """The service did not answer in time."""

    advice = "raise timeout or deadline: images can take two minutes at busy hours"


class GLMProtocolError(GLMError):
    """The answer is none that the API is documented to give."""

    advice = "check api_base; a proxy may have answered instead"


class GLMToolCallError(GLMError):
    """The model called a tool, but its arguments are cut off, or not one JSON object: no tool runs with a guess."""

    advice = "ask again; raise max_tokens where it cut the answer off"


class GLMBudgetError(GLMError):
    """The budget of ``max_cost`` or ``max_total_tokens`` is used up; nothing was sent."""

    advice = "raise max_cost or max_total_tokens, or count from zero with llm.usage.reset()"


ERROR_BY_CODE: dict[str, type[GLMError]] = {
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

# Images in base64, also in lines of 76 characters, should the API quote them; no message has words this long.
_LONG_RUN = re.compile(r"[A-Za-z0-9+/=_-]{60,}")
_LONGEST_MESSAGE = 500
# Where a message is cut: half a key would not be found and masked.
_CUT_WORD = re.compile(r"[!-~]{1,64}$")
_LONGEST_CODE = 64

_RETRYABLE_KINDS = (GLMRateLimitError, GLMServerError, GLMConnectionError)

# Gateways pass on the status of the server behind them in this form: 404 NOT_FOUND "No matching handler".
_STATUS_IN_MESSAGE = re.compile(r"\s*([45]\d\d) [A-Z][A-Z_]+\b")
# Servers of one's own have no code for this.
_CONTEXT_TOO_LONG = re.compile(r"(maximum|model's) context length|longer than the model's context", re.IGNORECASE)
_SUCCESS_CODES = (None, "0", "200")

_CODING_PLAN = "a key of the Coding Plan needs the api_base that ends in /api/coding/paas/v4"
_WRONG_PATH = (
    "check api_base: it ends before /chat/completions, as https://open.bigmodel.cn/api/paas/v4 and "
    "http://localhost:8000/v1 do"
)
_ADVICE_BY_MESSAGE = (
    (
        re.compile(r"messages\.content\.type.*\[\s*['\"]text['\"]\s*\]", re.DOTALL),
        "this model takes no images: choose a vision model such as glm-4.6v-flash, or leave the images out",
    ),
    (
        re.compile("always engages in thinking", re.IGNORECASE),
        'leave thinking out, or set how much it thinks: reasoning_effort="low", "high" or "max"',
    ),
)


def is_error(body: dict[str, Any]) -> bool:
    """Whether the JSON of an answer or an event says that the call failed, in the form of the API or of a gateway.

    Gateways answer ``{"code": 500, "msg": …, "success": false}`` with HTTP status 200.
    """
    if body.get("error") is not None:
        return True
    if body.get("choices"):
        return False
    has_message = bool(body.get("msg") or body.get("message"))
    return body.get("success") is False or (has_message and _as_code(body.get("code")) not in _SUCCESS_CODES)


def error_from_answer(http_status: int, body: Any, retry_after: float | None = None) -> GLMError:
    """Build the error that an answer stands for.

    The business code decides; where there is none, the HTTP status, which gateways also write as code or message.

    Args:
        http_status: Status of the answer.
        body: Its parsed JSON, expected as ``{"error": {"code": …, "message": …}}``.
        retry_after: Seconds that the answer asks to wait.
    """
    code, message = _code_and_message(body)
    status = _meant_status(http_status, code, message)
    kind = ERROR_BY_CODE.get(code or "") or _kind_by_status(status)
    if kind is GLMInvalidRequestError and _CONTEXT_TOO_LONG.search(message):
        kind = GLMContextTooLongError
    said = f": {message}" if message else ""
    named = f"HTTP {http_status}" + (f", code {code}" if code else "")
    return new_error(
        kind,
        f"the GLM API answered {named}{said}",
        advice=_advice(kind, code, status, message),
        code=code,
        http_status=http_status,
        retry_after=retry_after,
    )


def new_error(kind: type[E], what: str, *, advice: str | None = None, **attributes: Any) -> E:
    """Build an error of a kind with its advice, or another one; kinds that may pass are retryable."""
    return kind(f"{what}; {advice or kind.advice}", retryable=issubclass(kind, _RETRYABLE_KINDS), **attributes)


def _advice(kind: type[GLMError], code: str | None, status: int, message: str) -> str:
    for pattern, advice in _ADVICE_BY_MESSAGE:
        if pattern.search(message):
            return advice
    if code == "1113":
        return f"{_CODING_PLAN}; {kind.advice}"
    # 1211 is a model that does not exist, 1222 an API.
    if code == "1222" or (status == 404 and code != "1211"):
        return f"{_WRONG_PATH}; {kind.advice}"
    return kind.advice


def _code_and_message(body: Any) -> tuple[str | None, str]:
    """Find the code and the message of an error, which gateways in front of the API write in forms of their own."""
    outer = body if isinstance(body, dict) else {}
    error = outer.get("error")
    if isinstance(error, str):
        error = {"message": error}
    elif not isinstance(error, dict):
        error = {}
    code = next((code for part in (error, outer) if (code := _as_code(part.get("code"))) is not None), None)
    words = (part.get(name) for part in (error, outer) for name in ("message", "msg"))
    message = next((str(word) for word in words if word), "")
    message = _LONG_RUN.sub("…", message)
    if len(message) > _LONGEST_MESSAGE:
        message = _CUT_WORD.sub("", message[:_LONGEST_MESSAGE]) + "…"
    return code, message


def _as_code(value: Any) -> str | None:
    """Return a code as text: the API sends text, gateways also numbers."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value is None or isinstance(value, bool) else str(value)[:_LONGEST_CODE]


def _meant_status(http_status: int, code: str | None, message: str) -> int:
    """Return the HTTP status that an answer means: gateways answer 200 and write it into the message or the code."""
    named = _STATUS_IN_MESSAGE.match(message)
    if named is not None:
        return int(named[1])
    is_status = code is not None and re.fullmatch(r"[45]\d\d", code) is not None
    return int(code) if code is not None and is_status else http_status


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


class EmptyAnswerError(RuntimeError):
    """The model was asked and answered nothing."""
