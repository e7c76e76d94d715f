"""Raw requests to a deployment of the GLM API, and short descriptions of failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

# Five images can take two minutes at busy hours.
_TIMEOUT = httpx.Timeout(180.0, connect=15.0)
_MAX_MESSAGE_LENGTH = 160


class NoAnswer(Exception):  # noqa: N818  # a refusal is an expected outcome
    """Raised when the API does not answer; the message describes what it did instead."""


@dataclass
class Api:
    """A deployment of the API and a key for it.

    Attributes:
        base: URL of the API.
        key: Key in the form ``id.secret``.
    """

    base: str
    key: str = field(repr=False)
    _http: httpx.Client = field(init=False, repr=False, default_factory=lambda: httpx.Client(timeout=_TIMEOUT))

    def send(
        self, body: Mapping[str, Any], headers: Mapping[str, str] | None = None, path: str = "chat/completions"
    ) -> httpx.Response:
        """Send a request.

        Args:
            body: Body of the request.
            headers: Headers to send instead of the one with the key.
            path: Path of the part of the API.
        """
        headers = self.bearer(self.key) if headers is None else headers
        return self._http.post(f"{self.base.rstrip('/')}/{path}", json=dict(body), headers=dict(headers))

    def post(
        self, body: Mapping[str, Any], headers: Mapping[str, str] | None = None, path: str = "chat/completions"
    ) -> dict[str, Any]:
        """Send a request and return the parsed answer.

        Raises:
            NoAnswer: The request was refused.
        """
        return answer_in(self.send(body, headers, path))

    def stream(self, body: Mapping[str, Any]) -> list[str]:
        """Send a request for a stream and return the data of its events.

        Raises:
            NoAnswer: The request was refused.
        """
        response = self.send({**body, "stream": True})
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            answer_in(response)
            raise NoAnswer("a whole answer instead of a stream")
        lines = response.text.split("\n")
        return [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]

    def hide_key(self, text: str) -> str:
        """Return a text without the key, which the API may quote."""
        for part in (self.key, self.key.rpartition(".")[2]):
            text = text.replace(part, "***")
        return text

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    @staticmethod
    def bearer(token: str) -> dict[str, str]:
        """Return the header with a key or a token."""
        return {"Authorization": f"Bearer {token}"}


def answer_in(response: httpx.Response) -> dict[str, Any]:
    """Return the parsed JSON of an answer.

    Raises:
        NoAnswer: The answer is an error, or not a JSON object.
    """
    try:
        body = response.json()
    except ValueError:
        raise NoAnswer(f"{response.status_code} {media_type(response)}, no JSON") from None
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        message = " ".join(str(error.get("message")).split())[:_MAX_MESSAGE_LENGTH]
        raise NoAnswer(f"{response.status_code} {error.get('code')} {message}")
    if response.status_code != 200 or not isinstance(body, dict):
        raise NoAnswer(f"{response.status_code}, JSON of another form")
    return body


def media_type(response: httpx.Response) -> str:
    """Return the media type in the header of an answer."""
    return str(response.headers.get("content-type", "nothing")).partition(";")[0]
