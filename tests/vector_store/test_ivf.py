"""Codes of vectors: what is added is found at once, and encoded later."""

from __future__ import annotations

import numpy as np
import pytest

from llama_index_mm_zhipu.vector_store import ivf
from llama_index_mm_zhipu.vector_store.ivf import IvfIndex, list_count

VECTORS = np.random.default_rng(5).standard_normal((2000, 16)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


@pytest.fixture
def index() -> IvfIndex:
    return IvfIndex.trained(VECTORS, len(VECTORS))


def nearest(index: IvfIndex, query: int, usable: np.ndarray | None = None) -> int:
    scores, positions = index.search(VECTORS[query], 5, usable, breadth=index.lists)
    return int(positions[np.argmax(scores)])


def test_vectors_are_found_before_and_after_they_are_encoded(index: IvfIndex) -> None:
    index.add(VECTORS[:500])
    index.add(VECTORS[500:800])

    assert [nearest(index, query) for query in (3, 499, 500, 799)] == [3, 499, 500, 799]
    index.encode(600)
    assert index.ntotal == 800
    assert [nearest(index, query) for query in (3, 499, 500, 599, 600, 799)] == [3, 499, 500, 599, 600, 799]
    index.encode()
    assert [nearest(index, query) for query in (3, 499, 500, 799)] == [3, 499, 500, 799]


def test_excluded_positions_are_not_found_with_codes_and_without(index: IvfIndex) -> None:
    index.add(VECTORS[:800])
    index.encode(400)
    usable = np.ones(800, np.bool_)
    usable[[7, 700]] = False

    assert nearest(index, 7, usable) != 7
    assert nearest(index, 700, usable) != 700
    assert nearest(index, 701, usable) == 701


def test_vectors_are_encoded_in_parts(index: IvfIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ivf, "_MANY_RECENT", 300)
    monkeypatch.setattr(ivf, "_ENCODED_AT_ONCE", 200)
    index.add(VECTORS[:300])
    assert not index.has_many_recent
    index.add(VECTORS[300:500])

    assert index.has_many_recent
    assert [index.encode_some() for _ in range(3)] == [True, True, False]
    assert index.faiss_index.ntotal == index.ntotal == 500
    assert [nearest(index, query) for query in (0, 299, 499)] == [0, 299, 499]


def test_there_is_a_limit_to_vectors_without_codes(index: IvfIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ivf, "_MAX_RECENT", 400)
    index.add(VECTORS[:300])
    index.add(VECTORS[300:500])
    assert index.faiss_index.ntotal == 300
    index.add(VECTORS[500:1500])

    assert index.faiss_index.ntotal == index.ntotal == 1500
    assert [nearest(index, query) for query in (0, 299, 499, 1499)] == [0, 299, 499, 1499]


@pytest.mark.parametrize("vectors", [10_000, 1_000_000, 10_000_000, 1_000_000_000])
def test_an_index_is_not_outgrown_by_the_vectors_that_it_was_made_for(vectors: int) -> None:
    index = IvfIndex.trained(VECTORS, 400)
    index._centroids = np.zeros((list_count(vectors), 16), np.float32)

    assert not index.is_outgrown(vectors)
    assert index.is_outgrown(3 * vectors) == (vectors < 5_000_000)
