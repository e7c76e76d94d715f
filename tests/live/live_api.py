"""Raw requests to a deployment of the GLM API, and what comes of them in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

# Five images can take two minutes at busy hours.
_TIMEOUT = httpx.Timeout(180.0, connect=15.0)
_LONGEST_MESSAGE = 160


class NoAnswer(Exception):  # noqa: N818  # a refusal is as good an outcome as an answer
    """The API did not answer; the text says what it did instead."""


@dataclass
class Api:
    """A deployment of the API and a key for it.

    Attributes:
        base: Its address.
        key: ``id.secret``.
    """

    base: str
    key: str = field(repr=False)
    _http: httpx.Client = field(init=False, repr=False, default_factory=lambda: httpx.Client(timeout=_TIMEOUT))

    def send(self, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Send a request.

        Args:
            body: Its body.
            headers: Instead of the one that holds the key.
        """
        headers = self.bearer(self.key) if headers is None else headers
        return self._http.post(f"{self.base.rstrip('/')}/chat/completions", json=dict(body), headers=dict(headers))

    def post(self, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Send a request and return the parsed answer.

        Raises:
            NoAnswer: It was refused.
        """
        return answer_in(self.send(body, headers))

    def stream(self, body: Mapping[str, Any]) -> list[str]:
        """Send a request for a stream and return the data of its events.

        Raises:
            NoAnswer: It was refused.
        """
        response = self.send({**body, "stream": True})
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            answer_in(response)
            raise NoAnswer("a whole answer instead of a stream")
        lines = response.text.split("\n")
        return [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]

    def hide_key(self, text: str) -> str:
        """Take the key out of a text, should the API quote it."""
        for part in (self.key, self.key.rpartition(".")[2]):
            text = text.replace(part, "***")
        return text

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    @staticmethod
    def bearer(token: str) -> dict[str, str]:
        """Return the header that holds a key or a token."""
        return {"Authorization": f"Bearer {token}"}


def answer_in(response: httpx.Response) -> dict[str, Any]:
    """Parse an answer.

    Raises:
        NoAnswer: There is none.
    """
    try:
        body = response.json()
    except ValueError:
        raise NoAnswer(f"{response.status_code} {media_type(response)}, no JSON") from None
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        message = " ".join(str(error.get("message")).split())[:_LONGEST_MESSAGE]
        raise NoAnswer(f"{response.status_code} {error.get('code')} {message}")
    if response.status_code != 200 or not isinstance(body, dict):
        raise NoAnswer(f"{response.status_code}, JSON of another form")
    return body


def media_type(response: httpx.Response) -> str:
    """Return what the body of an answer claims to be."""
    return str(response.headers.get("content-type", "nothing")).partition(";")[0]
