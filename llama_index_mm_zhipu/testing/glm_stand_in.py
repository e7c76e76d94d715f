"""A local HTTP server that answers as the GLM API does, for tests and for demos without a key.

It is no model: its answers describe what it was sent, its refusals carry the API's own codes and messages.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from types import TracebackType
from typing import Any

from PIL import Image

from llama_index_mm_zhipu.llm.models import MODELS
from llama_index_mm_zhipu.llm.pictures import MAX_ENCODED_BYTES, MAX_SIDE

PATH = "/api/paas/v4"
GREETING = "（本地替身，不是模型）"

_CHARACTERS_PER_EVENT = 8
_CONTENT_FIELDS = {"text": {"type", "text"}, "image_url": {"type", "image_url"}}
_QUESTION_LABELS = ("问题：", "Query:", "Question:")
_ROLES = {"system", "user", "assistant", "tool"}


class Refusal(Exception):  # noqa: N818  # it is an answer, not a fault of this server
    """An error answer: HTTP status, business code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"code": code, "message": message}}


class _Server(ThreadingHTTPServer):
    # The default of 5 makes the sixth of many simultaneous connections wait a second.
    request_queue_size = 256


class GLMStandIn:
    """The server, as a context manager.

    Attributes:
        url: What ``ZhipuMultiModal(api_base=…)`` takes.
        requests: Parsed bodies of the requests received, in order.

    Examples:
        >>> from llama_index_mm_zhipu import ZhipuMultiModal
        >>> with GLMStandIn() as server:
        ...     answer = ZhipuMultiModal(api_key="id.secret", api_base=server.url).complete("你好")
        >>> "你好" in answer.text
        True
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self._refusals: deque[Refusal] = deque()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}{PATH}"

    def __enter__(self) -> GLMStandIn:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail_next(self, status: int, code: str, message: str, *, times: int = 1) -> None:
        """Answer the next requests with an error, whatever they ask.

        Args:
            status: HTTP status.
            code: Business code.
            message: The API's message.
            times: How many requests.
        """
        self._refusals.extend(Refusal(status, code, message) for _ in range(times))

    def answer(self, authorization: str, body: dict[str, Any]) -> dict[str, Any]:
        """Check a request and compute its answer.

        Raises:
            Refusal: The API would not take it.
        """
        self.requests.append(body)
        if self._refusals:
            raise self._refusals.popleft()
        _check_key(authorization)
        text = _check_and_describe(body)
        counts = {
            "prompt_tokens": len(json.dumps(body["messages"], ensure_ascii=False)),
            "completion_tokens": len(text),
        }
        return {
            "id": uuid.uuid4().hex,
            "request_id": body.get("request_id") or uuid.uuid4().hex,
            "created": int(time.time()),
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {**counts, "total_tokens": sum(counts.values())},
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Headers and body go out in separate writes; Nagle's algorithm would hold the second for 40 ms.
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                try:
                    if self.path != f"{PATH}/chat/completions":
                        raise Refusal(404, "1221", "接口不存在")
                    body = json.loads(raw)
                    answer = stand_in.answer(self.headers.get("Authorization", ""), body)
                except Refusal as refusal:
                    self._send(refusal.status, "application/json", json.dumps(refusal.body, ensure_ascii=False))
                    return
                except ValueError:
                    self._send(
                        400,
                        "application/json",
                        json.dumps({"error": {"code": "1210", "message": "API 调用参数有误，请检查文档。"}}),
                    )
                    return
                if body.get("stream"):
                    self._stream(answer)
                else:
                    self._send(200, "application/json", json.dumps(answer, ensure_ascii=False))

            def _send(self, status: int, content_type: str, text: str) -> None:
                data = text.encode("utf-8")
                self.send_response(status)
                self.send_header("Content-Type", f"{content_type}; charset=utf-8")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _stream(self, answer: dict[str, Any]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream; charset=utf-8")
                self.send_header("Connection", "close")
                self.end_headers()
                try:
                    for event in _events(answer):
                        self.wfile.write(f"data: {event}\n\n".encode())
                        self.wfile.flush()
                except OSError:
                    # The client left early, as it may.
                    pass
                self.close_connection = True

            def log_message(self, *args: object) -> None:
                """Keep quiet."""

        return Handler


def _events(answer: dict[str, Any]) -> Iterator[str]:
    head = {key: answer[key] for key in ("id", "created", "model")}
    text = answer["choices"][0]["message"]["content"]
    for start in range(0, len(text), _CHARACTERS_PER_EVENT):
        delta = {"role": "assistant", "content": text[start : start + _CHARACTERS_PER_EVENT]}
        yield json.dumps({**head, "choices": [{"index": 0, "delta": delta}]}, ensure_ascii=False)
    last = {"index": 0, "finish_reason": "stop", "delta": {"role": "assistant", "content": ""}}
    yield json.dumps({**head, "choices": [last], "usage": answer["usage"]})
    yield "[DONE]"


def _check_key(authorization: str) -> None:
    token = authorization.removeprefix("Bearer ")
    # An API key has two parts, a JWT made of it three.
    if not authorization.startswith("Bearer ") or token.count(".") not in (1, 2) or not all(token.split(".")):
        raise Refusal(401, "1002", "Authorization Token非法，请确认Authorization Token正确传递。")


def _check_and_describe(body: dict[str, Any]) -> str:
    limits = MODELS.get(str(body.get("model")))
    if limits is None:
        raise Refusal(400, "1211", "模型不存在，请检查模型代码。")
    max_tokens = body.get("max_tokens")
    if limits.max_tokens and max_tokens is not None and not 1 <= max_tokens <= limits.max_tokens:
        raise Refusal(400, "1210", f"max_tokens参数非法：限制数值范围[1,{limits.max_tokens}]")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "1214", "messages 参数非法。请检查文档。")
    described = [_described_parts(message) for message in messages]
    pictures = [line for lines, _ in described for line in lines]
    if len(pictures) > limits.pictures:
        raise Refusal(400, "1210", "输入图片数量超过限制")
    questions = [
        question for (_, question), message in zip(described, messages, strict=True) if message["role"] == "user"
    ]
    numbered = [f"第{number}张图片：{line}" for number, line in enumerate(pictures, start=1)]
    return "\n".join(
        [f"{GREETING}问题：{questions[-1] if questions else ''}", f"收到 {len(pictures)} 张图片。", *numbered]
    )


def _described_parts(message: dict[str, Any]) -> tuple[list[str], str]:
    """Describe the pictures of a message, each with the text before it, and find its question."""
    if message.get("role") not in _ROLES:
        raise Refusal(400, "1214", "messages.role 参数非法，取值范围 ['system', 'user', 'assistant', 'tool']")
    content = message.get("content") or ""
    parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    pictures: list[str] = []
    text = ""
    for part in parts:
        allowed = _CONTENT_FIELDS.get(str(part.get("type")))
        if allowed is None or set(part) != allowed:
            raise Refusal(400, "1210", f"messages.content.type 参数非法，取值范围 {sorted(_CONTENT_FIELDS)}")
        if part["type"] == "text":
            text = part["text"]
        else:
            caption = _last_line(text)
            pictures.append(
                _describe_picture(part["image_url"].get("url", "")) + (f"；说明：{caption}" if caption else "")
            )
            text = ""
    return pictures, _question(text)


def _question(text: str) -> str:
    """Find the question in a prompt: its last line, less what prompts write around it ("Query: …", "Answer:")."""
    lines = [line for line in text.splitlines() if not line.strip().endswith((":", "："))]
    line = _last_line("\n".join(lines))
    for label in _QUESTION_LABELS:
        line = line.removeprefix(label).strip()
    return line


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _describe_picture(url: str) -> str:
    if url.startswith(("http://", "https://")):
        return f"网址 {url}"
    try:
        if len(url) > MAX_ENCODED_BYTES:
            raise ValueError("too large")
        data = base64.b64decode(url, validate=True)
        with Image.open(BytesIO(data)) as image:
            if image.format not in ("JPEG", "PNG") or max(image.size) > MAX_SIDE:
                raise ValueError("not a picture that the API takes")
            red, green, blue = image.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[misc]
            return f"{image.format} {image.width}×{image.height}，平均颜色 #{red:02x}{green:02x}{blue:02x}"
    except (binascii.Error, ValueError, OSError):
        raise Refusal(400, "1210", "图片输入格式/解析错误") from None
