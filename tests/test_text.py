"""Text helpers: lone surrogates are replaced, and text of binary files is recognised."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_index_mm_zhipu.text import SurrogateReplacer, counted, looks_binary, one_line, replace_lone_surrogates


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("红😀", "红😀"),
        ("红\ud83d苹果", "红�苹果"),
        ("\ude00", "�"),
        ("\ud83d\ude00", "😀"),
        ("\ude00\ud83d", "��"),
    ],
)
def test_pairs_are_joined_and_lone_surrogates_replaced_wherever_the_text_is_split(text: str, expected: str) -> None:
    assert replace_lone_surrogates(text) == expected
    for cut in range(len(text) + 1):
        replacer = SurrogateReplacer()
        assert replacer.add(text[:cut], last=False) + replacer.add(text[cut:], last=True) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("红苹果.jpg", "红苹果.jpg"),
        ("two\nlines\x00\udcff", r"two\nlines\x00\udcff"),
        ("x" * 300, "x" * 300),
        ("x" * 200 + "\n" + "y" * 200, "x" * 150 + "…" + "y" * 150),
    ],
)
def test_messages_get_one_short_printable_line(text: str, expected: str) -> None:
    assert one_line(text) == expected


def decoded(data: bytes) -> str:
    """Decode as ``SimpleDirectoryReader`` does."""
    return data.decode("utf-8", errors="ignore")


def test_photographs_look_binary(photos: list[Path]) -> None:
    assert all(looks_binary(decoded(photo.read_bytes())) for photo in photos)


@pytest.mark.parametrize("data", [b"%PDF-1.7\n1 0 obj", b"PK\x03\x04word/document.xml", bytes(range(256)) * 20])
def test_other_binary_files_look_binary(data: bytes) -> None:
    assert looks_binary(decoded(data))


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
def test_text_with_a_few_control_characters_does_not_look_binary(text: str) -> None:
    assert not looks_binary(text)


def test_a_number_is_followed_by_singular_or_plural() -> None:
    assert [counted(number, "image") for number in (0, 1, 2, 1389)] == [
        "0 images",
        "1 image",
        "2 images",
        "1,389 images",
    ]
