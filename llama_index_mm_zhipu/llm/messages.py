"""Converts LlamaIndex's chat messages and their content blocks to the messages and parts of the API."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)

from llama_index_mm_zhipu.llm.endpoint import Style
from llama_index_mm_zhipu.llm.errors import GLMInvalidRequestError, new_error
from llama_index_mm_zhipu.llm.images import language_of_chat
from llama_index_mm_zhipu.llm.models import takes_files, takes_video
from llama_index_mm_zhipu.llm.tools import calls_in_history
from llama_index_mm_zhipu.prompts.wording import Wording, wording_of
from llama_index_mm_zhipu.text import replace_lone_surrogates

Part = dict[str, Any]

_ROLES = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.TOOL: "tool",
    MessageRole.FUNCTION: "tool",
}

_ADVICE_IF_EMPTY = "give it a text or an image, or leave it out"

# Types of documents whose content is sent as text.
_TEXT_TYPES = re.compile(r"text/|application/(json|xml|yaml|x-yaml|toml|javascript)|.*\+(json|xml)$")
_ENCODINGS = ("utf-8-sig", "gb18030")
# Text has none of these. Binary data may still be valid GB18030.
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


@dataclass(frozen=True)
class Receiver:
    """The target of a request.

    Attributes:
        model: Name of the model.
        style: Form of the request.
        encode: Returns the ``url`` of an image, which may be base64.
    """

    model: str
    style: Style
    encode: Callable[[ImageBlock], str]


def api_messages(messages: Sequence[ChatMessage], receiver: Receiver) -> list[dict[str, Any]]:
    """Return the ``messages`` of a request for a chat. The given messages are not changed.

    The API refuses messages without text, so a message of images alone gets a text in the language of the chat. Tool
    calls are read from blocks, else from ``tool_calls`` or ``function_call`` of ``additional_kwargs``, where other LLM
    integrations put them.

    Args:
        messages: The whole history, oldest first, as ``plain_messages`` and ``with_images_after_tools`` return it.
        receiver: Target of the request.

    Raises:
        GLMInvalidRequestError: A user message is empty, or there are no messages.
        ValueError: A message has content that the model does not accept.
    """
    wording = wording_of(language_of_chat(messages))
    converted: list[dict[str, Any]] = []
    for message in messages:
        converted.append(_api_message(message, converted, receiver, wording))
    _check_filled(converted)
    # LlamaIndex's chat engines send an empty system prompt if none was set, and keep empty answers. Empty results of
    # tools are sent, because every tool call needs a result.
    filled = [
        message for message in converted if message["content"] or message.get("tool_calls") or message["role"] == "tool"
    ]
    if not filled:
        raise _empty("the chat has no message that says anything", "give it one with a text or an image")
    return filled


def _check_filled(messages: list[dict[str, Any]]) -> None:
    """Refuse empty user messages. The API would refuse the request without saying which message it means."""
    for index, message in enumerate(messages):
        content = message["content"]
        is_empty = not content.strip() if isinstance(content, str) else not content
        if is_empty and message["role"] == "user":
            raise _empty(f"messages[{index}] (role 'user') is empty", _ADVICE_IF_EMPTY)


def _empty(what: str, advice: str) -> GLMInvalidRequestError:
    return new_error(GLMInvalidRequestError, f"{what}, and the API refuses that with code 1214", advice=advice)


def _api_message(
    message: ChatMessage, before: Sequence[dict[str, Any]], receiver: Receiver, wording: Wording
) -> dict[str, Any]:
    api: dict[str, Any] = {"role": _ROLES[message.role], "content": content_of(message, receiver, wording)}
    if api["role"] == "assistant" and (calls := calls_in_history(message, f"call_{len(before)}")):
        api["tool_calls"] = calls
    if api["role"] == "tool":
        _require_text(api["content"])
        api["tool_call_id"] = _answered_call(message, before)
    return api


def _require_text(content: str | list[Part]) -> None:
    if not isinstance(content, str):
        raise ValueError(
            "the API takes text and images from tools, no videos and no files; return their text or their URL as text, "
            "or send them in a message of the user"
        )


def _answered_call(message: ChatMessage, before: Sequence[dict[str, Any]]) -> Any:
    """Return the id of the call that a tool message answers. Results of a ``function_call`` only name the function."""
    given = message.additional_kwargs.get("tool_call_id")
    if given is not None:
        return given
    name = message.additional_kwargs.get("name")
    answered = {earlier.get("tool_call_id") for earlier in before}
    calls = [call for earlier in before for call in earlier.get("tool_calls", ()) if call["id"] not in answered]
    return next((call["id"] for call in calls if name in (None, call["function"]["name"])), None)


def plain_messages(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return messages in which citable blocks are replaced by their content and cache points are dropped.

    Images inside citable blocks then count like other images. The given messages are not changed.
    """
    return [message.model_copy(update={"blocks": list(_plain(message.blocks))}) for message in messages]


def holds_media(messages: Sequence[ChatMessage]) -> bool:
    """Return whether messages contain images, videos or documents, which may take long to read and encode."""
    media = (ImageBlock, VideoBlock, DocumentBlock)
    return any(isinstance(block, media) for message in messages for block in _plain(message.blocks))


def content_of(message: ChatMessage, receiver: Receiver, wording: Wording) -> str | list[Part]:
    """Return the content of a message for the API.

    Text alone is returned as a string, which every model accepts. Other content is returned as parts in the order of
    the blocks, but with videos first, and with a text, because the API refuses messages without one.

    Raises:
        ValueError: The model does not accept a block, or not together with the others.
    """
    parts: list[Part] = []
    for block in message.blocks:
        part = _part(block, receiver)
        if part is None:
            continue
        if part["type"] == "text" and parts and parts[-1]["type"] == "text":
            parts[-1]["text"] += f"\n{part['text']}"
        else:
            parts.append(part)
    types = {part["type"] for part in parts} - {"text"}
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if not types:
        return texts[0] if texts else ""
    if len(types) > 1:
        raise ValueError(
            "the API takes no images beside a video or a file in one message, and no video beside a file; "
            "send them in messages of their own"
        )
    if not any(text.strip() for text in texts):
        added = {"image_url": wording.look, "video_url": wording.watch, "file_url": wording.read}[types.pop()]
        return [*(part for part in parts if part["type"] != "text"), {"type": "text", "text": added}]
    return sorted(parts, key=lambda part: part["type"] != "video_url")


def _plain(blocks: Iterable[Any]) -> Iterator[Any]:
    """Yield blocks, with citable blocks replaced by their content and without cache points."""
    for block in blocks:
        if isinstance(block, CitableBlock):
            yield from block.content
        elif isinstance(block, CitationBlock):
            yield block.cited_content
        elif not isinstance(block, CachePoint):
            yield block


def _part(block: Any, receiver: Receiver) -> Part | None:
    """Return the part for a block, or None if the block is sent elsewhere or not at all."""
    if isinstance(block, TextBlock):
        return {"type": "text", "text": replace_lone_surrogates(block.text)}
    if isinstance(block, ImageBlock):
        return {"type": "image_url", "image_url": {"url": receiver.encode(block)}}
    if isinstance(block, VideoBlock):
        return {"type": "video_url", "video_url": {"url": _video_url(block, receiver)}}
    if isinstance(block, DocumentBlock):
        return _document_part(block, receiver)
    if isinstance(block, ToolCallBlock | ThinkingBlock):
        return None
    raise ValueError(
        f"the API takes text, images, videos and files, not a {type(block).__name__}; leave it out, or send what it "
        "says as text"
    )


def _video_url(block: VideoBlock, receiver: Receiver) -> str:
    """Return the URL of a video, or its content as base64 or, for self-hosted servers, as a data URI."""
    if not takes_video(receiver.model):
        raise ValueError(
            f"{receiver.model} takes no video; choose a model that does, such as glm-4.6v-flash, or leave it out"
        )
    if block.url is not None and not str(block.url).startswith("data:"):
        return str(block.url)
    data_uri: str = _read("video", str(block.path or ""), block.inline_url)
    return data_uri if receiver.style == "openai" else data_uri.partition(",")[2]


def _document_part(block: DocumentBlock, receiver: Receiver) -> Part:
    """Return a document as a URL if the model reads files, else as text."""
    url = block.url or ""
    is_on_the_web = url.startswith(("http://", "https://"))
    if is_on_the_web and receiver.style == "glm" and takes_files(receiver.model):
        return {"type": "file_url", "file_url": {"url": url}}
    text = None if is_on_the_web else _text_of(block)
    if text is None:
        only = "files that are given by URL" if takes_files(receiver.model) and receiver.style == "glm" else "no files"
        raise ValueError(
            f"{receiver.model} takes {only} here, and the document {block.title!r:.80} is not at hand as text; "
            "give its text as a TextBlock, or its pages as images, which PageReader makes"
        )
    return {"type": "text", "text": replace_lone_surrogates(text)}


def _text_of(block: DocumentBlock) -> str | None:
    """Return the text of a document, or None if it is not a text document."""
    if block.document_mimetype and not _TEXT_TYPES.match(block.document_mimetype):
        return None
    data: bytes = _read("document", str(block.path or ""), lambda: block.resolve_document().read())
    if data.startswith(b"%PDF-"):
        return None
    for encoding in _ENCODINGS:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        return None if _CONTROL_CHARACTERS.search(text) else text
    return None


def _read(what: str, path: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (OSError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}" if path else "it is empty, or no base64"
    raise ValueError(f"the {what} {path or 'of a message'} cannot be read ({reason}); check its data or path")
