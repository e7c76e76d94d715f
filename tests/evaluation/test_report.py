"""Recall, mean recall and reciprocal ranks as they are computed by hand, and the table."""

from __future__ import annotations

import pytest

from llama_index_mm_zhipu.evaluation import PUBLISHED, DirectionScores, RetrievalReport


def test_figures_of_ranks() -> None:
    scores = DirectionScores.of_ranks([1, 2, 6, 11, None])
    assert scores.recall == {1: 0.2, 5: 0.4, 10: 0.6}
    assert scores.mean_recall == pytest.approx(0.4)
    # What is not among the first ten counts nothing.
    assert scores.mrr == pytest.approx((1 + 1 / 2 + 1 / 6) / 5)


def test_a_report_is_a_table_in_percent() -> None:
    report = RetrievalReport(DirectionScores.of_ranks([1] * 1_999 + [4]), DirectionScores.of_ranks([1, None]))
    titles, texts, images = str(report).splitlines()
    assert titles.split() == ["R@1", "R@5", "R@10", "mean", "recall", "MRR@10"]
    assert texts.split() == ["2,000", "texts", "→", "images", "100.0", "100.0", "100.0", "100.0", "100.0"]
    assert images.split() == ["2", "images", "→", "texts", "50.0", "50.0", "50.0", "50.0", "50.0"]
    assert len({len(line) for line in (titles, texts, images)}) == 1


def test_published_figures_rise_with_depth_and_agree_with_the_published_means() -> None:
    for models in PUBLISHED.values():
        for recall in (direction for published in models.values() for direction in published if direction):
            assert sorted(recall) == list(recall)
    means = {model: round(sum(published.text_to_image) / 3, 1) for model, published in PUBLISHED["muge"].items()}
    # As they stand in the paper's repository, beside the three figures.
    assert means == {"RN50": 63.0, "ViT-B-16": 71.1, "ViT-L-14": 74.1, "ViT-L-14-336": 76.1, "ViT-H-14": 78.8}
