"""Word pieces are those that Chinese-CLIP was trained on, and take no torch to make."""

from __future__ import annotations

import subprocess
import sys

import cn_clip.clip
import numpy as np
import pytest

from llama_index_mm_zhipu.embedding.chinese_clip.vectors import knows, token_batch, windows, word_pieces


def test_tokens_are_those_of_cn_clip_less_the_padding() -> None:
    texts = ["飞机", "一架 Boeing 747 停在机场", ""]
    theirs = cn_clip.clip.tokenize(texts).numpy()

    batch = token_batch([word_pieces(text) for text in texts])

    np.testing.assert_array_equal(batch, theirs[:, : batch.shape[1]])
    assert not theirs[:, batch.shape[1] :].any()


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("飞机", True),
        ("𠮷野家", True),
        ("🐼 panda", True),
        ("？", True),
        ("★", True),
        ("🐼", False),
        ("🐼🎋 𠮷", False),
        ("🐼，🎋！", False),
        ("iphone🐼", False),
        ("ไทย", False),
        ("", False),
        (" \n", False),
    ],
)
def test_texts_of_unknown_characters_are_told_apart(text: str, known: bool) -> None:
    assert knows(text) is known


def test_windows_cover_a_long_text_once() -> None:
    pieces = list(range(1, 121))
    runs = list(windows(pieces))
    assert [len(run) for run in runs] == [50, 50, 20]
    assert [piece for run in runs for piece in run] == pieces
    assert list(windows([])) == [[]]


def test_tokenizing_does_not_load_torch() -> None:
    code = """
import sys
from llama_index_mm_zhipu.embedding.chinese_clip.vectors import word_pieces
assert len(word_pieces("飞机")) == 2
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
