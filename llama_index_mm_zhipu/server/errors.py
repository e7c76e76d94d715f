"""Errors as HTTP responses: a status, a code that does not change, and one line that says what to do."""

from __future__ import annotations

import errno
import logging

from starlette.responses import Response

from llama_index_mm_zhipu.server.guard import error_response
from llama_index_mm_zhipu.service.errors import class_names, is_expected, message_of
from llama_index_mm_zhipu.text import replace_lone_surrogates

logger = logging.getLogger(__name__)

_BY_CLASS = {
    "UnknownNodeError": (404, "not_found"),
    "MissingKeyError": (503, "no_key"),
    "GLMError": (502, "model"),
    "EmptyAnswerError": (502, "model"),
    "StoreError": (503, "store"),
    "StoreFileError": (503, "store"),
    "ModelMismatchError": (503, "store"),
    "ImportError": (501, "unsupported"),
    "ValueError": (400, "bad_request"),
    "OSError": (503, "store"),
    "RuntimeError": (500, "unexpected"),
}
"""Statuses and codes by the name of a class, the first that an error has."""


class ServerError(RuntimeError):
    """Raised by endpoints for requests that cannot be answered; the message says what to do.

    Args:
        status: HTTP status.
        code: Short name, see ``error_response``.
        message: What happened and what to do, in one line.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def bad_request(message: str) -> ServerError:
    """Return the error for a request that is not understood."""
    return ServerError(400, "bad_request", message)


def response_to(error: Exception) -> Response:
    """Return an error as a response."""
    status, code, message = described(error)
    return error_response(status, code, message)


def described(error: Exception) -> tuple[int, str, str]:
    """Return the status, the code and the message of an error; faults of this package are logged."""
    if isinstance(error, ServerError):
        return error.status, error.code, message_of(error)
    # Paths that are not UTF-8 hold surrogates, which cannot be sent.
    message = replace_lone_surrogates(message_of(error))
    if not is_expected(error):
        logger.error("unexpected %s: %s", type(error).__name__, message, exc_info=error)
        return 500, "unexpected", f"unexpected {type(error).__name__}: {message}; please report it"
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return 507, "store", f"the disk is full; free some space, and send the request again ({message})"
    status, code = next(_BY_CLASS[name] for name in class_names(error) if name in _BY_CLASS)
    return status, code, message
