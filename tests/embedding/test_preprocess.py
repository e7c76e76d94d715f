"""Pixels and word pieces are what Chinese-CLIP was trained on."""

from __future__ import annotations

from pathlib import Path

import cn_clip.clip
import numpy as np
from PIL import Image

from llama_index_mm_zhipu.embedding.preprocess import pixels_of, token_batch, windows, word_pieces


def test_pixels_are_those_of_cn_clip(photos: list[Path]) -> None:
    for photo in photos:
        image = Image.open(photo).convert("RGB")
        theirs = cn_clip.clip.image_transform(224)(image).numpy()
        np.testing.assert_allclose(pixels_of(image, 224), theirs, atol=1e-6)


def test_tokens_are_those_of_cn_clip_less_the_padding() -> None:
    texts = ["飞机", "一架 Boeing 747 停在机场", ""]
    theirs = cn_clip.clip.tokenize(texts).numpy()

    batch = token_batch([word_pieces(text) for text in texts])

    np.testing.assert_array_equal(batch, theirs[:, : batch.shape[1]])
    assert not theirs[:, batch.shape[1] :].any()


def test_windows_cover_a_long_text_once() -> None:
    pieces = list(range(1, 121))
    runs = list(windows(pieces))
    assert [len(run) for run in runs] == [50, 50, 20]
    assert [piece for run in runs for piece in run] == pieces
    assert list(windows([])) == [[]]
