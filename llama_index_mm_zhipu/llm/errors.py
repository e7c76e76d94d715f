"""Errors of the GLM API by type, from the business codes in its documentation and the forms that gateways use."""

from __future__ import annotations

import re
from typing import Any, TypeVar

E = TypeVar("E", bound="GLMError")


class GLMError(Exception):
    """Raised when a call of the GLM API fails.

    Attributes:
        code: Business code of the API, such as ``"1302"``; None if it sent none.
        http_status: HTTP status of the answer; None if there was no answer.
        request_id: Id of the request, for the API's support.
        retryable: Whether the same call may succeed later.
        retry_after: Seconds after which the API asks to try again; None if it does not say.
        partial_text: Text that a stream had delivered before it failed.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.fail_next(429, "1302", "您当前使用该API的并发数过高")
        ...     try:
        ...         ZhipuMultiModal(api_base=server.url, max_retries=0).complete("你好")
        ...     except GLMError as error:
        ...         print(type(error).__name__, error.code, error.http_status, error.retryable)
        GLMRateLimitError 1302 429 True
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
        """Pickle the attributes as well, which ``Exception`` does not pass to the constructor."""
        return _rebuilt, (type(self), str(self), dict(vars(self)))


class GLMAuthenticationError(GLMError):
    """Raised when the key is wrong or expired, or its account is locked.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer
        >>> with MockGLMServer(api_key="id.secret") as server:
        ...     ZhipuMultiModal(api_key="id.wrong", api_base=server.url).complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMAuthenticationError: the GLM API answered HTTP 401, code 1002:
        Authorization Token非法，请确认Authorization Token正确传递。; check ZHIPUAI_API_KEY, ZAI_API_KEY or
        api_key, and that api_base is of the service that gave the key; Zhipu's keys are at
        https://open.bigmodel.cn/usercenter/apikeys
    """

    advice = (
        "check ZHIPUAI_API_KEY, ZAI_API_KEY or api_key, and that api_base is of the service that gave the key; Zhipu's "
        "keys are at https://open.bigmodel.cn/usercenter/apikeys"
    )


class GLMQuotaError(GLMError):
    """Raised when the account has no balance or its daily or plan limit is reached. Retrying soon does not help.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.fail_next(429, "1113", "您的账户已欠费")
        ...     ZhipuMultiModal(api_base=server.url).complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMQuotaError: the GLM API answered HTTP 429, code 1113: 您的账户已欠费;
        a key of the Coding Plan needs the api_base that ends in /api/coding/paas/v4; check balance and plan of
        the account, or take a free model such as glm-4.6v-flash
    """

    advice = "check balance and plan of the account, or take a free model such as glm-4.6v-flash"


class GLMRateLimitError(GLMError):
    """Raised when there are too many concurrent requests or the service is busy.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.fail_next(429, "1302", "并发数过高")
        ...     ZhipuMultiModal(api_base=server.url, max_retries=0).complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMRateLimitError: the GLM API answered HTTP 429, code 1302: 并发数过高;
        wait, or send fewer requests at a time
    """

    advice = "wait, or send fewer requests at a time"


class GLMInvalidRequestError(GLMError):
    """Raised when the API, or this package on its behalf, refuses the request.

    Examples:
        >>> llm.complete("你好", model="glm-5v")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMInvalidRequestError: the GLM API answered HTTP 400, code 1211:
        模型不存在，请检查模型代码。; check model name, parameters and images; if the API cannot fetch an image
        URL, set inline_urls=True
    """

    advice = "check model name, parameters and images; if the API cannot fetch an image URL, set inline_urls=True"


class GLMContextTooLongError(GLMInvalidRequestError):
    """Raised when prompt and images exceed the model's context window.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.fail_next(400, "1261", "Prompt 超长")
        ...     ZhipuMultiModal(api_base=server.url).complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMContextTooLongError: the GLM API answered HTTP 400, code 1261: Prompt
        超长; send fewer images or less text, or take a model with a larger context
    """

    advice = "send fewer images or less text, or take a model with a larger context"


class GLMContentFilteredError(GLMError):
    """Raised when the API considers the question, an image or the answer unsafe.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.fail_next(400, "1301", "系统检测到输入或生成内容可能包含不安全或敏感内容")
        ...     ZhipuMultiModal(api_base=server.url).complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMContentFilteredError: the GLM API answered HTTP 400, code 1301:
        系统检测到输入或生成内容可能包含不安全或敏感内容; rephrase the question or leave the image out
    """

    advice = "rephrase the question or leave the image out"


class GLMServerError(GLMError):
    """Raised when the service fails.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer
        >>> with MockGLMServer() as server:
        ...     server.fail_next(500, "500", "内部错误")
        ...     ZhipuMultiModal(api_base=server.url, max_retries=0).complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMServerError: the GLM API answered HTTP 500, code 500: 内部错误; try
        again later
    """

    advice = "try again later"


class GLMConnectionError(GLMError):
    """Raised when the service cannot be reached or the connection is cut.

    Examples:
        >>> ZhipuMultiModal(api_base="http://127.0.0.1:9/v4", max_retries=0).complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMConnectionError: no connection to the GLM API (...); check the
        network and api_base
    """

    advice = "check the network and api_base"


class GLMTimeoutError(GLMConnectionError):
    """Raised when the service does not answer in time.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, Stall
        >>> with MockGLMServer() as server:
        ...     server.script(Stall())
        ...     ZhipuMultiModal(api_base=server.url, timeout=0.05, max_retries=0).complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMTimeoutError: the GLM API did not answer in time (...); raise timeout
        or deadline: images can take two minutes at busy hours
    """

    advice = "raise timeout or deadline: images can take two minutes at busy hours"


class GLMProtocolError(GLMError):
    """Raised when an answer does not have the documented form.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, RawAnswer
        >>> with MockGLMServer() as server:
        ...     server.script(RawAnswer("<html>welcome</html>"))
        ...     ZhipuMultiModal(api_base=server.url, max_retries=0).complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMProtocolError: the GLM API sent 20 characters that are no JSON
        object; check api_base; a proxy may have answered instead
    """

    advice = "check api_base; a proxy may have answered instead"


class GLMToolCallError(GLMError):
    """Raised when the arguments of a tool call are cut off or not one JSON object. Arguments are never guessed.

    Examples:
        >>> from llama_index.core.llms import ChatMessage
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, ToolCalls
        >>> with MockGLMServer() as server:
        ...     server.script(ToolCalls([("search", '{"query": "红')]))
        ...     llm = ZhipuMultiModal(api_base=server.url)
        ...     llm.chat([ChatMessage("找红苹果")])
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMToolCallError: the model called 'search' with arguments that are not
        one JSON object: '{"query": "红'; ask again; raise max_tokens where it cut the answer off
    """

    advice = "ask again; raise max_tokens where it cut the answer off"


class GLMBudgetError(GLMError):
    """Raised before a request is sent when the budget of ``max_cost`` or ``max_total_tokens`` is used up.

    Examples:
        >>> llm = ZhipuMultiModal(max_total_tokens=10)
        >>> _ = llm.complete("你好")
        >>> llm.complete("你好")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.GLMBudgetError: 63 tokens are used of max_total_tokens=10; raise
        max_cost or max_total_tokens, or count from zero with llm.usage.reset()
    """

    advice = "raise max_cost or max_total_tokens, or count from zero with llm.usage.reset()"


ACCOUNT_ERRORS = (GLMAuthenticationError, GLMQuotaError, GLMBudgetError)
"""Errors that every further call would raise: runs over many images end with them, whatever ``on_error`` is."""


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
"""Error types by the API's business codes."""

# Base64 of images that the API may quote, also in lines of 76 characters. No word in a message is this long.
_LONG_RUN = re.compile(r"[A-Za-z0-9+/=_-]{60,}")
_MAX_MESSAGE_LENGTH = 500
# The last word of a message that is cut: part of a key would not be recognised and masked.
_CUT_WORD = re.compile(r"[!-~]{1,64}$")
_MAX_CODE_LENGTH = 64

_RETRYABLE_TYPES = (GLMRateLimitError, GLMServerError, GLMConnectionError)

# Form in which gateways pass on the status of the server behind them: 404 NOT_FOUND "No matching handler".
_STATUS_IN_MESSAGE = re.compile(r"\s*([45]\d\d) [A-Z][A-Z_]+\b")
# Self-hosted servers have no code for this.
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
    """Return whether the JSON of an answer or event is an error, in the form of the API or of a gateway.

    Gateways answer ``{"code": 500, "msg": …, "success": false}`` with HTTP status 200.
    """
    if body.get("error") is not None:
        return True
    if body.get("choices"):
        return False
    has_message = bool(body.get("msg") or body.get("message"))
    return body.get("success") is False or (has_message and _as_code(body.get("code")) not in _SUCCESS_CODES)


def error_from_answer(http_status: int, body: Any, retry_after: float | None = None) -> GLMError:
    """Return the error for an answer.

    Its type depends on the business code, else on the HTTP status, which gateways also write as code or message.

    Args:
        http_status: HTTP status of the answer.
        body: Parsed JSON of the answer, normally ``{"error": {"code": …, "message": …}}``.
        retry_after: Seconds that the answer asks to wait.
    """
    code, message = _code_and_message(body)
    status = _meant_status(http_status, code, message)
    error_type = ERROR_BY_CODE.get(code or "") or _type_by_status(status)
    if error_type is GLMInvalidRequestError and _CONTEXT_TOO_LONG.search(message):
        error_type = GLMContextTooLongError
    answered = f"HTTP {http_status}" + (f", code {code}" if code else "") + (f": {message}" if message else "")
    return new_error(
        error_type,
        f"the GLM API answered {answered}",
        advice=_advice(error_type, code, status, message),
        code=code,
        http_status=http_status,
        retry_after=retry_after,
    )


def new_error(error_type: type[E], what: str, *, advice: str | None = None, **attributes: Any) -> E:
    """Return an error of a type, with the given advice or that of the type, retryable if the failure may pass."""
    retryable = issubclass(error_type, _RETRYABLE_TYPES)
    return error_type(f"{what}; {advice or error_type.advice}", retryable=retryable, **attributes)


def _advice(error_type: type[GLMError], code: str | None, status: int, message: str) -> str:
    for pattern, advice in _ADVICE_BY_MESSAGE:
        if pattern.search(message):
            return advice
    if code == "1113":
        return f"{_CODING_PLAN}; {error_type.advice}"
    # 1211: the model does not exist. 1222: the API does not exist.
    if code == "1222" or (status == 404 and code != "1211"):
        return f"{_WRONG_PATH}; {error_type.advice}"
    return error_type.advice


def _code_and_message(body: Any) -> tuple[str | None, str]:
    """Return the code and the message of an error in the form of the API or of a gateway."""
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
    if len(message) > _MAX_MESSAGE_LENGTH:
        message = _CUT_WORD.sub("", message[:_MAX_MESSAGE_LENGTH]) + "…"
    return code, message


def _as_code(value: Any) -> str | None:
    """Return a code as text. The API sends text, gateways also send numbers."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value is None or isinstance(value, bool) else str(value)[:_MAX_CODE_LENGTH]


def _meant_status(http_status: int, code: str | None, message: str) -> int:
    """Return the actual HTTP status: gateways answer 200 and write the status into the message or the code."""
    found = _STATUS_IN_MESSAGE.match(message)
    if found is not None:
        return int(found[1])
    is_status = code is not None and re.fullmatch(r"[45]\d\d", code) is not None
    return int(code) if code is not None and is_status else http_status


def _type_by_status(status: int) -> type[GLMError]:
    if status in (401, 403):
        return GLMAuthenticationError
    if status == 429:
        return GLMRateLimitError
    if status == 408:
        return GLMTimeoutError
    if status >= 500:
        return GLMServerError
    return GLMInvalidRequestError if status >= 400 else GLMProtocolError


def _rebuilt(error_type: type[GLMError], message: str, attributes: dict[str, Any]) -> GLMError:
    error = error_type(message)
    vars(error).update(attributes)
    return error


class EmptyAnswerError(RuntimeError):
    """Raised when a model answers with empty text.

    Examples:
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, Says
        >>> with MockGLMServer() as server:
        ...     server.script(Says(""))
        ...     index.as_query_engine(ZhipuMultiModal(api_base=server.url)).query("红苹果")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.errors.EmptyAnswerError: the model answered nothing to a question with 2
        sources; ask again, or raise max_tokens (if LlamaIndex logged a structured response error before, that
        is the cause)
    """
