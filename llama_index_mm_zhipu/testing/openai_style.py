"""What a server of one's own does differently from Zhipu's API: vLLM and SGLang, which speak OpenAI's protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from llama_index_mm_zhipu.testing.answers import answer_to
from llama_index_mm_zhipu.testing.message_texts import parts_of
from llama_index_mm_zhipu.testing.pictures import decode_picture, is_address
from llama_index_mm_zhipu.testing.refusal import Refusal
from llama_index_mm_zhipu.testing.wire import Answer, Reply, joined, json_reply

_FIELDS = {
    "chat_template_kwargs",
    "frequency_penalty",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "reasoning_effort",
    "repetition_penalty",
    "response_format",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
    "user",
}
_PART_TYPES = ("text", "image_url", "video_url")
_DATA_URIS = tuple(f"data:image/{kind};base64," for kind in ("jpeg", "png"))


class OpenAIRefusal(Refusal):
    """An error answer of such a server.

    Args:
        status: HTTP status, which is the code as well.
        message: What is wrong.
        flat: Whether it has the form of vLLM before 0.10, ``{"object": "error", …}``.
    """

    def __init__(self, status: int, message: str, *, flat: bool) -> None:
        super().__init__(status, str(status), message)
        self._flat = flat

    def reply(self) -> Reply:
        """Return how it is sent."""
        error = {"message": self.message, "type": "BadRequestError", "param": None, "code": self.status}
        return json_reply(self.status, {"object": "error", **error} if self._flat else {"error": error})


@dataclass(frozen=True)
class OpenAIAnswer(Answer):
    """An answer in OpenAI's form.

    Attributes:
        include_usage: Whether a stream has an event with the usage, which then comes last and has no choices.
    """

    include_usage: bool = False

    def whole(self) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        message = {"reasoning_content": None, "tool_calls": [], **joined(self.deltas)}
        calls = [{key: call[key] for key in ("id", "type", "function")} for call in message["tool_calls"]]
        message |= {"content": message["content"] or None if calls else message["content"], "tool_calls": calls}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        return {
            **self._head("chat.completion"),
            "choices": [choice] if self.has_choices else [],
            "usage": self.usage,
        }

    def events(self) -> Iterator[dict[str, Any]]:
        """Return the events of a stream."""
        head = self._head("chat.completion.chunk")
        if self.has_choices:
            deltas = ({"role": "assistant", "content": ""}, *self.deltas)
            for delta in deltas:
                yield {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]}
            last = {"index": 0, "delta": {"content": None}, "finish_reason": self.finish_reason, "stop_reason": None}
            yield {**head, "choices": [last]}
        if self.include_usage:
            yield {**head, "choices": [], "usage": self.usage}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.id}", "object": kind, "created": self.created, "model": self.model}


def openai_answer_to(request: dict[str, Any]) -> OpenAIAnswer:
    """Compute the answer to a request that has been checked."""
    answer = answer_to({**request, "messages": [_with_raw_images(message) for message in request["messages"]]})
    return OpenAIAnswer(
        **{part.name: getattr(answer, part.name) for part in fields(answer)},
        include_usage=bool((request.get("stream_options") or {}).get("include_usage")),
    )


def check_openai_request(request: dict[str, Any], *, flat_errors: bool) -> None:
    """Check the body of a request.

    Args:
        request: The body.
        flat_errors: Whether refusals have the older form.

    Raises:
        OpenAIRefusal: The server would not take it.
    """
    for what in _problems(request):
        raise OpenAIRefusal(400, what, flat=flat_errors)


def _problems(request: dict[str, Any]) -> Iterator[str]:
    for name in sorted(set(request) - _FIELDS):
        yield f"[{{'type': 'extra_forbidden', 'loc': ('body', '{name}'), 'msg': 'Extra inputs are not permitted'}}]"
    if request.get("stream_options") and not request.get("stream"):
        yield "Stream options can only be defined when `stream=True`."
    if not isinstance(request.get("model"), str) or not request.get("messages"):
        yield "[{'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required'}]"
    for part in (part for message in request["messages"] for part in parts_of(message)):
        if part["type"] not in _PART_TYPES:
            yield f"Unknown part type: {part['type']}"
        if part["type"] == "image_url":
            yield from _problems_of_image(part["image_url"]["url"])


def _problems_of_image(url: str) -> Iterator[str]:
    if is_address(url):
        return
    if not url.startswith(_DATA_URIS):
        yield "The URL must be either a HTTP, data or file URL."
    try:
        decode_picture(_raw(url))
    except ValueError:
        yield "cannot identify image file"


def _with_raw_images(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message with images as Zhipu's API takes them, which are then described."""
    parts = [
        {**part, "image_url": {"url": _raw(part["image_url"]["url"])}} if part["type"] == "image_url" else part
        for part in parts_of(message)
    ]
    return {**message, "content": parts}


def _raw(url: str) -> str:
    return url.partition(",")[2] if url.startswith("data:") else url
