"""Bytes of binary files that come as text are told from texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_index_mm_zhipu.text import looks_binary


def as_text(data: bytes) -> str:
    """Decode as ``SimpleDirectoryReader`` does."""
    return data.decode("utf-8", errors="ignore")


def test_photographs_are_binary(photos: list[Path]) -> None:
    assert all(looks_binary(as_text(photo.read_bytes())) for photo in photos)


@pytest.mark.parametrize("data", [b"%PDF-1.7\n1 0 obj", b"PK\x03\x04word/document.xml", bytes(range(256)) * 20])
def test_other_files_are_binary(data: bytes) -> None:
    assert looks_binary(as_text(data))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "红色的帽子",
        "The e\x00cient algorithm. " * 9,
        "\x1b[31mred\x1b[0m\n" * 5,
        "a\tb\r\nc\f",
        "caf\x92s",
        "beep\x07",
    ],
)
def test_texts_are_not(text: str) -> None:
    assert not looks_binary(text)
