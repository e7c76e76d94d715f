"""Text is broken into lines by the width of its characters."""

from __future__ import annotations

import pytest

from llama_index_mm_zhipu.display.plots import PIECES, wrap


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("飞机", ["飞机"]),
        ("一架白色的飞机", ["一架白色的", "飞机"]),
        ("一架白色的飞机停在机场的跑道上", ["一架白色的", "飞机停在…"]),
        ("Blue cap, new", ["Blue cap,", "new"]),
        ("Donaudampfschiff", ["Donaudamp…"]),
        ("新款 Long 长袖", ["新款 Long", "长袖"]),
        ("检查轮胎的GPS，", ["检查轮胎的", "GPS，"]),
        ("", [""]),
    ],
)
def test_titles_are_wrapped_by_the_width_of_their_characters(text: str, lines: list[str]) -> None:
    assert wrap(text, 10, 2) == lines


def test_only_so_much_of_a_long_text_is_looked_at() -> None:
    """A data URI that is no image, say: these take milliseconds, and took hours."""
    assert wrap("A" * 1_000_000, 10, 2) == ["AAAAAAAAA…"]
    assert wrap("图" * 1_000_000, 10, 2) == ["图图图图图", "图图图图…"]
    assert wrap("A" * 1_000_000, 40, 2, PIECES) == ["A" * 30, "A" * 30 + "…"]
