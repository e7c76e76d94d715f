"""The figures of an index are those that a plain comparison of all texts with all images gives."""

from __future__ import annotations

import logging
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.schema import ImageNode, MetadataMode

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index, read_jsonl
from llama_index_mm_zhipu.evaluation import (
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
    """Emoji, half of them with two captions, some of which several share."""
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
    """Rank everything by loops over all cosines."""
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
def test_figures_are_those_of_a_plain_comparison(
    index: ImageIndex,
    nodes: list[ImageNode],
    demo_embedding: ChineseClipEmbedding,
    merge: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrieval, "_IMAGES_AT_A_TIME", 7)
    monkeypatch.setattr(retrieval, "_TEXTS_AT_A_TIME", 50)
    dataset = RetrievalDataset.from_nodes(nodes, merge_equal_captions=merge)
    report = evaluate_retrieval(index, dataset)
    plain = compared_one_by_one(nodes, dataset, demo_embedding)
    assert 0.3 < report.text_to_image.recall[1] < 0.9
    for measured, expected in zip(
        (report.text_to_image, report.image_to_text), (plain.text_to_image, plain.image_to_text), strict=True
    ):
        # A near tie may turn round: the store computes in other batches.
        assert measured.recall == pytest.approx(expected.recall, abs=2 / COUNT)
        assert measured.mrr == pytest.approx(expected.mrr, abs=2 / COUNT)
        assert measured.count == expected.count


def test_of_equal_scores_the_earlier_comes_first(index: ImageIndex, nodes: list[ImageNode]) -> None:
    dataset = RetrievalDataset([RetrievalQuery("飞机", (node.node_id,)) for node in nodes[:30]])
    report = evaluate_retrieval(index, dataset)
    # Each image's own text is as far down among thirty equal ones as it stands in the data set.
    assert report.image_to_text.recall == {1: 1 / 30, 5: 5 / 30, 10: 10 / 30}


def test_images_that_the_index_lacks_are_not_found(
    index: ImageIndex, nodes: list[ImageNode], caplog: pytest.LogCaptureFixture
) -> None:
    absent = [ImageNode(id_=f"absent {number}", text=f"不在{number}") for number in range(COUNT)]
    whole = evaluate_retrieval(index, nodes)
    half = evaluate_retrieval(index, [*nodes, *absent])
    assert f"the index lacks {COUNT} of {2 * COUNT} images" in caplog.text
    assert half.image_to_text.count == 2 * COUNT
    assert half.image_to_text.recall[10] <= whole.image_to_text.recall[10] / 2
    with pytest.raises(ValueError, match=r"holds none of the 150 images, such as 'absent 0'; build it from the same"):
        evaluate_retrieval(index, absent)


def test_questions_of_ones_own_are_asked_by_their_words_too(index: ImageIndex, nodes: list[ImageNode]) -> None:
    questions = RetrievalDataset(
        [RetrievalQuery(f"请问{node.text.splitlines()[0]}在哪里？", (node.node_id,)) for node in nodes[::5]]
    )
    by_vector = evaluate_retrieval(index, questions)
    by_both = evaluate_retrieval(index, questions, vector_store_query_mode="hybrid")
    assert by_both.text_to_image.mrr > by_vector.text_to_image.mrr
    assert by_both.image_to_text == by_vector.image_to_text


def test_captions_in_the_vectors_are_warned_of(
    nodes: list[ImageNode], demo_embedding: ChineseClipEmbedding, caplog: pytest.LogCaptureFixture
) -> None:
    index = build_index(nodes[:20], embed_model=demo_embedding)
    report = evaluate_retrieval(index, nodes[:20])
    assert report.captions_in_vectors
    assert "evaluate an index built with caption_weight=0" in caplog.text


def test_progress_is_shown_if_asked(
    index: ImageIndex, nodes: list[ImageNode], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    evaluate_retrieval(index, nodes[:3], show_progress=True)
    shown = capsys.readouterr().err
    assert "Embedding texts" in shown
    assert "Finding images" in shown
    evaluate_retrieval(index, nodes[:3])
    assert "Finding" not in capsys.readouterr().err


def test_stored_nodes_stay_as_they_were(index: ImageIndex, nodes: list[ImageNode]) -> None:
    evaluate_retrieval(index, nodes)
    stored = {node.node_id: node.get_content(MetadataMode.ALL) for node in index.image_store.get_nodes()}
    assert stored == {node.node_id: node.get_content(MetadataMode.ALL) for node in nodes}


def test_one_very_long_text_costs_no_more_than_itself(index: ImageIndex, nodes: list[ImageNode]) -> None:
    long = [RetrievalQuery("长" * 100_000, (nodes[0].node_id,))]
    dataset = RetrievalDataset([*long, *RetrievalDataset.from_nodes(nodes).queries])
    tracemalloc.start()
    evaluate_retrieval(index, dataset)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # An array of strings would be 400 kB for each of some 200 texts.
    assert peak < 60_000_000
