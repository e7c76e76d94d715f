"""The API's refusal of a request."""

from __future__ import annotations

from llama_index_mm_zhipu.testing.wire import Reply, error_body, json_reply


class Refusal(Exception):  # noqa: N818  # it is an answer, not a fault of this server
    """An error answer: HTTP status, business code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def reply(self) -> Reply:
        """Return how it is sent."""
        return json_reply(self.status, error_body(self.code, self.message))


def used_request_id(request_id: str) -> Refusal:
    """Return the refusal of a ``request_id`` that an earlier request had."""
    return Refusal(400, "1231", f"您已有请求：{request_id}")


def bad_parameter() -> Refusal:
    """Return the refusal of a parameter that the API does not name."""
    return Refusal(400, "1210", "API 调用参数有误，请检查文档。")
