"""A plain HTTP client of the mock server, and helpers that build requests and read answers."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from typing import Any

import httpx
from PIL import Image
from waiting import PATIENCE

from llama_index_mm_zhipu.testing import Fault, MockGLMServer

KEY = {"Authorization": "Bearer id.secret"}
TOOL_MODEL = "glm-4.6v"


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def tool(name: str = "price", parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters or {"type": "object"}}}


def encoded(image: Image.Image, image_format: str = "PNG") -> str:
    buffer = BytesIO()
    image.save(buffer, image_format)
    return base64.b64encode(buffer.getvalue()).decode()


def body_of(content: Any = "你好", **fields: Any) -> dict[str, Any]:
    """Return the body of a request. Fields that are None are left out."""
    body = {"model": "glm-4v-flash", "messages": [user(content)], **fields}
    return {name: value for name, value in body.items() if value is not None}


class Client:
    """Sends requests to a mock server over one connection."""

    def __init__(self, server: MockGLMServer) -> None:
        self.server = server
        # With verify=True each client would load certificates, which takes longer than a test.
        self.http = httpx.Client(base_url=server.url, headers=KEY, timeout=PATIENCE, trust_env=False, verify=False)

    def post(self, content: Any = "你好", **fields: Any) -> httpx.Response:
        return self.http.post("/chat/completions", json=body_of(content, **fields))

    def message(self, content: Any = "你好", **fields: Any) -> dict[str, Any]:
        """Return the message of an answer that is not streamed."""
        response = self.post(content, **fields)
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]["message"]

    def faulty(self, fault: Fault, *, stream: bool = True, **fields: Any) -> httpx.Response:
        """Return the response to a request with a fault."""
        self.server.script(fault)
        return self.post(stream=stream, **fields)

    def error(self, content: Any = "你好", **fields: Any) -> tuple[int, str, str]:
        """Return status, code and message of a refusal."""
        response = self.post(content, **fields)
        error = response.json().get("error", {"code": "", "message": response.text})
        return response.status_code, error["code"], error["message"]


def lines_of(response: httpx.Response) -> list[str]:
    """Return the data of each event in a stream; the last is ``[DONE]``."""
    assert response.headers["Content-Type"].startswith("text/event-stream"), response.text
    lines = response.text.split("\n\n")
    assert all(line.startswith("data: ") for line in lines if line)
    return [line.removeprefix("data: ") for line in lines if line]


def choices_of(response: httpx.Response) -> list[dict[str, Any]]:
    """Return the first choice of each event in a stream."""
    return [json.loads(line)["choices"][0] for line in lines_of(response) if line != "[DONE]"]
