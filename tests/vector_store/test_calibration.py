"""Calibration of an index of short codes, and the recall that a store reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from llama_index.core.schema import TextNode

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store import ann, index_cache
from llama_index_mm_zhipu.vector_store.ann import AnnIndex
from llama_index_mm_zhipu.vector_store.calibration import NeighbourSample, calibrate

DIMENSION = 32


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """Return unit vectors in clusters whose directions differ in strength, as in embeddings."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((100, DIMENSION))
    strength = np.arange(1, DIMENSION + 1) ** -0.7
    vectors = (centres[generator.integers(100, size=count)] + generator.standard_normal((count, DIMENSION))) * strength
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


VECTORS = clustered(8000)
IDS = np.arange(1, 8001)


def nodes(start: int, stop: int) -> list[TextNode]:
    return [TextNode(id_=f"n{i}", text="文", embedding=VECTORS[i].tolist()) for i in range(start, stop)]


@pytest.fixture(scope="module")
def index() -> AnnIndex:
    index = AnnIndex.empty(DIMENSION, "ivf", VECTORS, len(VECTORS))
    index.add(IDS, VECTORS)
    return index


@pytest.fixture(scope="module")
def sample() -> NeighbourSample:
    sample = NeighbourSample(VECTORS[::80], IDS[::80])
    for start in range(0, 8000, 1000):
        sample.see(IDS[start : start + 1000], VECTORS[start : start + 1000])
    return sample


def test_a_sample_knows_the_true_neighbours_without_the_vector_itself(sample: NeighbourSample) -> None:
    for query in (0, 50, 99):
        scores = VECTORS @ VECTORS[80 * query]
        true = [int(row) + 1 for row in np.argsort(-scores) if row != 80 * query][:10]
        assert sample.neighbours(query) == set(true)
        assert sample.recall(query, true[:4]) == 0.4


def test_a_higher_target_makes_searches_look_at_more(index: AnnIndex, sample: NeighbourSample) -> None:
    low, high = calibrate(index, sample, 0.8), calibrate(index, sample, 0.99)
    assert low.search_breadth < high.search_breadth
    assert 0.8 <= (low.recall or 0) < 0.99 <= (high.recall or 0)
    assert high.search_breadth < index.index.lists


def test_the_calibrated_search_finds_as_much_for_other_queries(index: AnnIndex, sample: NeighbourSample) -> None:
    calibration = calibrate(index, sample, 0.95)
    shares = []
    for query in clustered(200, seed=1):
        true = set((np.argsort(-(VECTORS @ query))[:10] + 1).tolist())
        found = index.search(query, calibration.candidates, search_breadth=calibration.search_breadth)
        shares.append(len(true & {id_ for id_, _ in found}) / 10)
    assert np.mean(shares) >= 0.94


def test_a_target_that_cannot_be_reached_gives_the_best_search(sample: NeighbourSample) -> None:
    half = AnnIndex.empty(DIMENSION, "ivf", VECTORS, 4000)
    half.add(IDS[:4000], VECTORS[:4000])
    calibration = calibrate(half, sample, 0.99)
    assert 0.3 < (calibration.recall or 0) < 0.7


# Stores


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaissMultiModalVectorStore:
    """A store that takes 3,000 vectors for many."""
    monkeypatch.setattr(ann, "AUTO_TYPES", ((3000, "flat"), (10**9, "ivf")))
    return FaissMultiModalVectorStore(tmp_path)


def settled(store: FaissMultiModalVectorStore) -> FaissMultiModalVectorStore:
    store.wait_for_index()
    return store


def test_a_store_with_many_vectors_takes_codes_and_finds_the_wanted_share(store: FaissMultiModalVectorStore) -> None:
    store.add(nodes(0, 3000))
    assert store.check_recall().index_type == "flat"
    assert store.check_recall().recall == 1.0
    store.add(nodes(3000, 5000))
    report = settled(store).check_recall()
    assert (report.index_type, report.queries, report.similarity_top_k) == ("ivf", 200, 10)
    assert report.recall >= 0.98
    assert store.check_recall(search_breadth=1).recall < 0.9
    store.close()


def test_recall_can_be_checked_with_queries_of_ones_own(store: FaissMultiModalVectorStore) -> None:
    assert store.check_recall([[1.0, 0.0]]).queries == 0
    store.add(nodes(0, 5000))
    report = settled(store).check_recall(clustered(50, seed=2).tolist(), similarity_top_k=5)
    assert (report.queries, report.similarity_top_k) == (50, 5)
    assert report.recall >= 0.98
    with pytest.raises(ValueError, match="queries must be vectors of 32 numbers"):
        store.check_recall([[1.0, 0.0]])
    store.close()


def test_the_calibration_is_kept_in_the_file(store: FaissMultiModalVectorStore, tmp_path: Path) -> None:
    store.add(nodes(0, 5000))
    calibration = settled(store)._cache.calibration
    store.close()
    with FaissMultiModalVectorStore(tmp_path) as again:
        assert again._cache.calibration == calibration
        assert again._cache._builder is None
        assert again.check_recall().recall >= 0.98


@pytest.mark.integration
def test_an_index_is_built_again_after_it_has_grown(
    store: FaissMultiModalVectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ann, "AUTO_TYPES", ((1000, "flat"), (10**9, "ivf")))
    monkeypatch.setattr(index_cache, "_BATCH", 500)
    store.add(nodes(0, 1500))
    lists = settled(store)._cache.index.index.lists  # type: ignore[union-attr]
    store.add(nodes(1500, 4000))
    store.add(nodes(4000, 8000))
    settled(store)
    assert store._cache.index.index.lists > lists  # type: ignore[union-attr]
    assert store.check_recall().recall >= 0.98
    store.close()


def test_a_lower_recall_is_faster_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    breadths = []
    for recall in (0.5, 0.99):
        with FaissMultiModalVectorStore(tmp_path / str(recall), recall=recall) as store:
            store.add(nodes(0, 4000))
            store.reindex("ivf")
            breadths.append(store._cache.calibration.search_breadth)
    assert breadths[0] < breadths[1]
    with pytest.raises(ValueError, match="recall"):
        FaissMultiModalVectorStore(recall=1.5)
