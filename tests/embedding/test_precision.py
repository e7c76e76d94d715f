"""``check_precision`` reports how much another precision changes the vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding.backends import compare_precision


def test_cosines_and_overlap_equal_those_computed_by_hand() -> None:
    images = np.eye(4, dtype=np.float32)
    turned = np.array([[0.8, 0.6, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float32)
    text = np.array([[0.8, 0.1, 0.59, 0]], dtype=np.float32)
    text /= np.linalg.norm(text)

    report = compare_precision("other", [turned, images], [text, text], top_k=2)

    assert report.min_image_cosine == pytest.approx(0.8)
    assert report.mean_image_cosine == pytest.approx(0.95)
    assert report.min_text_cosine == pytest.approx(1)
    assert report.overlap == 1.0
    assert compare_precision("other", [turned[::-1], images], [text, text], top_k=1).overlap == 0.0


def test_the_report_prints_as_a_table(demo_embedding: ChineseClipEmbedding, photos: list[Path]) -> None:
    report = demo_embedding.check_precision(photos, ["帽子", "鞋子"], top_k=3)

    assert (report.images, report.texts, report.top_k, report.overlap) == (10, 2, 3, 1.0)
    assert report.min_image_cosine > 0.9999
    assert str(report).splitlines()[0] == f"{demo_embedding.running_on} against torch fp32: 10 images, 2 texts"


def test_empty_inputs_are_refused(tiny_embedding: ChineseClipEmbedding, photos: list[Path]) -> None:
    with pytest.raises(ValueError, match="at least one image and one text"):
        tiny_embedding.check_precision([], ["飞机"])
    with pytest.raises(ValueError, match="at least one image and one text"):
        tiny_embedding.check_precision(photos, [])
