"""Scores equal those of a plain comparison of all texts with all images; reports are tables in percent."""

from __future__ import annotations

import logging
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.schema import ImageNode, MetadataMode

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index, read_jsonl
from llama_index_mm_zhipu.evaluation import (
    PUBLISHED,
    DirectionScores,
    RetrievalDataset,
    RetrievalQuery,
    RetrievalReport,
    evaluate_retrieval,
    retrieval,
)
from llama_index_mm_zhipu.index.multimodal import ImageIndex

COUNT = 150


@pytest.fixture(scope="module")
def nodes(demo_folder: Path) -> list[ImageNode]:
    """Emoji. Half of them have a second caption, and some of these are equal."""
    nodes = read_jsonl(demo_folder / "test.jsonl")[:COUNT]
    return [
        node.model_copy(update={"text": f"{node.text}\n{node.text[-1]}"}) if row % 2 else node
        for row, node in enumerate(nodes)
    ]


@pytest.fixture(scope="module")
def index(nodes: list[ImageNode], demo_embedding: ChineseClipEmbedding) -> ImageIndex:
    return build_index(nodes, embed_model=demo_embedding, caption_weight=0)


def compared_one_by_one(
    nodes: list[ImageNode], dataset: RetrievalDataset, model: ChineseClipEmbedding
) -> RetrievalReport:
    """Return the report of a plain loop over all cosines."""
    ids = [node.node_id for node in nodes]
    texts = np.array(model.get_text_embedding_batch([query.text for query in dataset.queries]))
    images = np.array([model.get_image_embedding(f"data:image/jpeg;base64,{node.image}") for node in nodes])
    cosines = texts @ images.T
    of_texts, of_images = [], []
    for row, query in enumerate(dataset.queries):
        ranking = [ids[column] for column in np.argsort(-cosines[row])]
        of_texts.append(min(ranking.index(image_id) + 1 for image_id in query.image_ids))
    for column, image_id in enumerate(ids):
        ranking = list(np.argsort(-cosines[:, column], kind="stable"))
        true = [row for row, query in enumerate(dataset.queries) if image_id in query.image_ids]
        of_images.append(min(ranking.index(row) + 1 for row in true))
    return RetrievalReport(DirectionScores.of_ranks(of_texts), DirectionScores.of_ranks(of_images))


@pytest.mark.parametrize("merge", [True, False])
def test_scores_equal_those_of_a_plain_comparison(
    index: ImageIndex,
    nodes: list[ImageNode],
    demo_embedding: ChineseClipEmbedding,
    merge: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrieval, "_IMAGE_BATCH", 7)
    monkeypatch.setattr(retrieval, "_TEXT_BATCH", 50)
    dataset = RetrievalDataset.from_nodes(nodes, merge_equal_captions=merge)
    report = evaluate_retrieval(index, dataset)
    plain = compared_one_by_one(nodes, dataset, demo_embedding)
    assert 0.3 < report.text_to_image.recall[1] < 0.9
    for measured, expected in zip(
        (report.text_to_image, report.image_to_text), (plain.text_to_image, plain.image_to_text), strict=True
    ):
        # Near ties may be ordered differently, because the store computes cosines in other batches.
        assert measured.recall == pytest.approx(expected.recall, abs=2 / COUNT)
        assert measured.mrr == pytest.approx(expected.mrr, abs=2 / COUNT)
        assert measured.count == expected.count


def test_equal_scores_are_ranked_in_the_order_of_the_data_set(index: ImageIndex, nodes: list[ImageNode]) -> None:
    dataset = RetrievalDataset([RetrievalQuery("飞机", (node.node_id,)) for node in nodes[:30]])
    report = evaluate_retrieval(index, dataset)
    # All thirty texts are equal, so the rank of each image's own text is its position in the data set.
    assert report.image_to_text.recall == {1: 1 / 30, 5: 5 / 30, 10: 10 / 30}


def test_images_that_the_index_lacks_count_as_not_found(
    index: ImageIndex, nodes: list[ImageNode], caplog: pytest.LogCaptureFixture
) -> None:
    absent = [ImageNode(id_=f"absent {number}", text=f"不在{number}") for number in range(COUNT)]
    whole = evaluate_retrieval(index, nodes)
    half = evaluate_retrieval(index, [*nodes, *absent])
    assert f"the index lacks {COUNT} of {2 * COUNT} images" in caplog.text
    assert half.image_to_text.count == 2 * COUNT
    assert half.image_to_text.recall[10] <= whole.image_to_text.recall[10] / 2
    with pytest.raises(ValueError, match=r"has none of the 150 images, such as 'absent 0'; build it from the same"):
        evaluate_retrieval(index, absent)


def test_the_query_mode_applies_to_texts(index: ImageIndex, nodes: list[ImageNode]) -> None:
    questions = RetrievalDataset(
        [RetrievalQuery(f"请问{node.text.splitlines()[0]}在哪里？", (node.node_id,)) for node in nodes[::5]]
    )
    by_vector = evaluate_retrieval(index, questions)
    by_both = evaluate_retrieval(index, questions, vector_store_query_mode="hybrid")
    assert by_both.text_to_image.mrr > by_vector.text_to_image.mrr
    assert by_both.image_to_text == by_vector.image_to_text


def test_captions_in_the_vectors_cause_a_warning(
    nodes: list[ImageNode], demo_embedding: ChineseClipEmbedding, caplog: pytest.LogCaptureFixture
) -> None:
    index = build_index(nodes[:20], embed_model=demo_embedding)
    report = evaluate_retrieval(index, nodes[:20])
    assert report.captions_in_vectors
    assert "evaluate an index built with caption_weight=0" in caplog.text


def test_progress_bars_are_optional(
    index: ImageIndex, nodes: list[ImageNode], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    evaluate_retrieval(index, nodes[:3], show_progress=True)
    shown = capsys.readouterr().err
    assert "Embedding texts" in shown
    assert "Finding images" in shown
    evaluate_retrieval(index, nodes[:3])
    assert "Finding" not in capsys.readouterr().err


def test_stored_nodes_stay_unchanged(index: ImageIndex, nodes: list[ImageNode]) -> None:
    evaluate_retrieval(index, nodes)
    stored = {node.node_id: node.get_content(MetadataMode.ALL) for node in index.image_store.get_nodes()}
    assert stored == {node.node_id: node.get_content(MetadataMode.ALL) for node in nodes}


@pytest.mark.integration
def test_one_very_long_text_does_not_multiply_memory(index: ImageIndex, nodes: list[ImageNode]) -> None:
    long = [RetrievalQuery("长" * 50_000, (nodes[0].node_id,))]
    dataset = RetrievalDataset([*long, *RetrievalDataset.from_nodes(nodes).queries])
    tracemalloc.start()
    evaluate_retrieval(index, dataset)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A numpy array of strings would take 200 kB for each of about 200 texts.
    assert peak < 30_000_000


# Scores and tables


def test_scores_are_computed_from_ranks() -> None:
    scores = DirectionScores.of_ranks([1, 2, 6, 11, None])
    assert scores.recall == {1: 0.2, 5: 0.4, 10: 0.6}
    assert scores.mean_recall == pytest.approx(0.4)
    # Ranks beyond ten count zero.
    assert scores.mrr == pytest.approx((1 + 1 / 2 + 1 / 6) / 5)


def test_a_report_prints_a_table_in_percent() -> None:
    report = RetrievalReport(DirectionScores.of_ranks([1] * 1_999 + [4]), DirectionScores.of_ranks([1, None]))
    titles, texts, images = str(report).splitlines()
    assert titles.split() == ["R@1", "R@5", "R@10", "mean", "recall", "MRR@10"]
    assert texts.split() == ["2,000", "texts", "→", "images", "100.0", "100.0", "100.0", "100.0", "100.0"]
    assert images.split() == ["2", "images", "→", "texts", "50.0", "50.0", "50.0", "50.0", "50.0"]
    assert len({len(line) for line in (titles, texts, images)}) == 1


def test_published_recalls_increase_with_depth_and_have_the_published_means() -> None:
    for models in PUBLISHED.values():
        for recall in (direction for published in models.values() for direction in published if direction):
            assert sorted(recall) == list(recall)
    means = {model: round(sum(published.text_to_image) / 3, 1) for model, published in PUBLISHED["muge"].items()}
    # From the repository of the paper, beside the three recalls.
    assert means == {"RN50": 63.0, "ViT-B-16": 71.1, "ViT-L-14": 74.1, "ViT-L-14-336": 76.1, "ViT-H-14": 78.8}
