"""A client of the API, with the forms that tests send."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx

from llama_index_mm_zhipu.service.image_service import ImageService


class SentEvent(NamedTuple):
    """A server-sent event."""

    name: str
    data: Any


class Api:
    """Calls a server, and checks that its errors have the form of errors.

    Args:
        client: Knows the URL.
    """

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def search(self, image: bytes | None = None, **parameters: Any) -> httpx.Response:
        """Search by GET, or with an image by POST."""
        if image is None:
            return self.client.get("/api/search", params=parameters)
        return self.client.post("/api/search", data=parameters, files={"image": ("图.jpg", image)})

    def found(self, image: bytes | None = None, **parameters: Any) -> list[str]:
        """Return the ids that a search finds."""
        response = self.search(image, **parameters)
        assert response.status_code == 200, response.text
        return [result["node_id"] for result in response.json()["results"]]

    def ask(self, question: str = "", image: bytes | None = None, **parameters: Any) -> httpx.Response:
        """Ask, and read all events."""
        files = {"image": ("图.jpg", image)} if image is not None else NO_FILES
        return self.client.post("/api/ask", data={"question": question, **parameters}, files=files)

    def answer(self, question: str = "", image: bytes | None = None, **parameters: Any) -> list[SentEvent]:
        """Return the events of an answer."""
        response = self.ask(question, image, **parameters)
        assert response.status_code == 200, response.text
        return events_of(response.text)

    @contextmanager
    def asking(self, question: str, **parameters: Any) -> Iterator[Iterator[SentEvent]]:
        """Ask, and read the events one after the other inside a ``with`` block, at whose end the client leaves."""
        with self.client.stream("POST", "/api/ask", data={"question": question, **parameters}, files=NO_FILES) as sent:
            yield (event for block in _blocks(sent.iter_text()) for event in events_of(block))

    def add(self, files: Sequence[tuple[str, bytes]]) -> httpx.Response:
        """Add files, given by name and content."""
        return self.client.post("/api/index", files=[("files", file) for file in files])

    def added(self, *files: tuple[str, bytes]) -> dict[str, Any]:
        """Return the report about files that are added."""
        response = self.add(files)
        assert response.status_code == 200, response.text
        *_, last = events_of(response.text)
        assert last.name == "report", last
        report: dict[str, Any] = last.data
        return report


Serve = Callable[..., Api]
"""Starts a server and returns its API."""

# httpx sends a form as multipart only with files.
NO_FILES: dict[str, tuple[str, bytes]] = {"image": ("", b"")}


def opened(service: ImageService) -> Future[ImageService]:
    """Return a service as one that was opened."""
    future: Future[ImageService] = Future()
    future.set_result(service)
    return future


def events_of(text: str) -> list[SentEvent]:
    """Return the events in a text."""
    events = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            events.append(SentEvent(lines["event"], json.loads(lines["data"])))
    return events


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    """Return status, code and message of an error, whose message has one line."""
    error = response.json()["error"]
    assert set(error) == {"code", "message"}
    assert "\n" not in error["message"]
    return response.status_code, error["code"], error["message"]


def status_of_announced(api: Api, path: str, size: int) -> int:
    """Announce a form of a size, send only its beginning, and return the status of the response."""
    url = api.client.base_url
    with socket.create_connection((url.host, url.port or 80)) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        connection.sendall(f"{head}Content-Length: {size}\r\n\r\n--x\r\n".encode())
        return int(connection.makefile("rb").readline().split()[1])


def _blocks(chunks: Iterator[str]) -> Iterator[str]:
    rest = ""
    for chunk in chunks:
        *blocks, rest = (rest + chunk).split("\n\n")
        yield from blocks
