"""What a request shows, a line for each part."""

from __future__ import annotations

from typing import Any

from llama_index_mm_zhipu.testing.wire import parts_of

IMAGE = "<image>"


def outline(request: dict[str, Any]) -> list[str]:
    """Return the lines of all messages but the system's, an image as ``IMAGE``."""
    lines: list[str] = []
    for message in request["messages"]:
        if message["role"] == "system":
            continue
        for part in parts_of(message):
            texts = part["text"].splitlines() if part["type"] == "text" else [IMAGE]
            lines += [text.strip() for text in texts if text.strip()]
    return lines


def system_of(request: dict[str, Any]) -> str:
    """Return what the system's message says, empty where there is none."""
    return "\n".join(str(message["content"]) for message in request["messages"] if message["role"] == "system")


def images_of(request: dict[str, Any]) -> list[str]:
    """Return the images, as they were sent."""
    return [
        part["image_url"]["url"]
        for message in request["messages"]
        for part in parts_of(message)
        if part["type"] == "image_url"
    ]
