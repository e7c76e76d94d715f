"""The faiss index: exact search, search among a part of the ids, deletions, and files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest

from llama_index_mm_zhipu.vector_store import ann, faiss_indexes
from llama_index_mm_zhipu.vector_store.ann import AnnIndex, index_type_for, search_exactly

RANDOM = np.random.default_rng(7)
VECTORS = RANDOM.standard_normal((3000, 16)).astype(np.float32)
IDS = np.arange(1, 3001) * 3
QUERY = RANDOM.standard_normal(16).astype(np.float32)
INDEX_TYPES = ["flat", "hnsw", "ivf", "IVF16,Flat", "SQ8", "PCA8,IVF4,Flat", "HNSW16,SQ8"]


def filled(index_type: str = "flat") -> AnnIndex:
    index = AnnIndex.empty(16, index_type, VECTORS)
    index.add(IDS[:1000], VECTORS[:1000])
    index.add(IDS[1000:], VECTORS[1000:])
    return index


def nearest(k: int, allowed: np.ndarray = IDS) -> list[int]:
    scores = VECTORS[np.isin(IDS, allowed)] @ QUERY
    return IDS[np.isin(IDS, allowed)][np.argsort(-scores, kind="stable")[:k]].tolist()


def ids_of(found: ann.Found) -> list[int]:
    return [id_ for id_, _ in found]


def test_a_flat_index_returns_the_true_nearest_and_their_inner_products() -> None:
    found = filled().search(QUERY, 10)
    assert ids_of(found) == nearest(10)
    assert [score for _, score in found] == pytest.approx(np.sort(VECTORS @ QUERY)[::-1][:10].tolist(), abs=1e-5)


@pytest.mark.parametrize("k", [1, 5, 150, 299])
def test_the_oldest_of_equal_vectors_are_returned(k: int) -> None:
    index = AnnIndex.empty(2)
    ids = np.arange(1, 301)
    index.add(ids, np.tile(np.float32([1, 0]), (300, 1)))
    index.remove(np.array([2, 4]))
    assert ids_of(index.search(np.float32([1, 0]), k)) == [id_ for id_ in ids.tolist() if id_ not in (2, 4)][:k]


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Lets faiss use two threads, however many cores there are."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    yield
    faiss.omp_set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("k", [1, 10, 500])
def test_a_search_split_over_threads_returns_the_same(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    vectors = np.random.default_rng(1).integers(-1, 2, (3000, 4)).astype(np.float32)
    whole, parted = AnnIndex.empty(4), AnnIndex.empty(4)
    for index in (whole, parted):
        index.add(IDS, vectors)
        index.remove(IDS[5:50])
    query, allowed = np.float32([1, 2, 0, 1]), IDS[::3]
    expected = whole.search(query, k), whole.search(query, k, allowed)

    monkeypatch.setattr(faiss_indexes, "_MIN_PART", 100)
    assert (parted.search(query, k), parted.search(query, k, allowed)) == expected
    assert parted.index._threads._threads


@pytest.mark.parametrize("index_type", INDEX_TYPES)
def test_deleted_and_excluded_ids_are_never_found(index_type: str) -> None:
    index = filled(index_type)
    deleted = np.array(nearest(5))
    index.remove(np.append(deleted, [1, 10**9]))
    allowed = np.sort(np.array(nearest(400)))

    assert len(index) == 2995
    assert not set(ids_of(index.search(QUERY, 20))) & set(deleted.tolist())
    among = ids_of(index.search(QUERY, 20, allowed, search_breadth=256))
    assert among
    assert set(among) <= set(allowed.tolist()) - set(deleted.tolist())


@pytest.mark.parametrize("missing", [[], [1], [30], [7, 8, 29]])
def test_only_the_allowed_ids_are_found_whether_ids_are_missing_or_not(missing: list[int]) -> None:
    ids = np.setdiff1d(np.arange(1, 31), missing)
    index = AnnIndex.empty(4, "flat")
    index.add(ids, np.random.default_rng(0).standard_normal((len(ids), 4)).astype(np.float32))

    allowed = np.array([-3, 0, 1, 7, 12, 30, 31, 99])
    found = index.search(np.ones(4, np.float32), 30, allowed)
    assert {id_ for id_, _ in found} == {1, 7, 12, 30}.difference(missing)


def test_a_flat_index_frees_the_memory_of_deleted_vectors() -> None:
    index = filled()
    index.remove(IDS[:1500])
    assert index.index.ntotal == 1500
    assert ids_of(index.search(QUERY, 10)) == nearest(10, IDS[1500:])
    index.add(np.array([10_000]), QUERY[None] * 100)
    assert ids_of(index.search(QUERY, 1)) == [10_000]


def test_a_graph_needs_a_rebuild_when_half_of_it_is_deleted() -> None:
    index = filled("hnsw")
    index.remove(IDS[:1400])
    assert not index.needs_rebuild
    index.keep_only(IDS[1600:])
    assert index.needs_rebuild
    assert len(index) == 1400


@pytest.mark.parametrize("index_type", INDEX_TYPES)
def test_an_index_is_the_same_after_writing_and_reading(tmp_path: Path, index_type: str) -> None:
    index = filled(index_type)
    index.remove(IDS[::7])
    index.write(tmp_path / "index.faiss")

    read = AnnIndex.read(tmp_path / "index.faiss", index_type)

    assert (len(read), read.index_type, read.dimension) == (len(index), index_type, 16)
    assert read.search(QUERY, 10) == index.search(QUERY, 10)
    read.add(np.array([10_000]), QUERY[None] * 100)
    assert ids_of(read.search(QUERY, 1)) == [10_000]


def test_an_index_that_was_written_still_frees_its_vectors(tmp_path: Path) -> None:
    index = filled()
    index.write(tmp_path / "index.faiss")
    assert index.faiss_index.thisown


def test_a_larger_search_breadth_finds_more_of_the_nearest() -> None:
    index = AnnIndex.empty(16, "IVF64,Flat", VECTORS)
    index.add(IDS, VECTORS)
    true = set(nearest(50))
    found = [len(true & set(ids_of(index.search(QUERY, 50, search_breadth=breadth)))) for breadth in (1, 8, 64)]
    assert found == sorted(found)
    assert found[0] < found[2] == 50


@pytest.mark.parametrize(
    ("index_type", "sample", "message"),
    [
        ("nonsense", VECTORS, "no index of type 'nonsense' for 16 dimensions"),
        ("IVF64,Flat", VECTORS[:10], "cannot be trained with 10 vectors"),
        ("PQ3x4", VECTORS, "no index of type 'PQ3x4'"),
    ],
)
def test_index_types_that_cannot_be_built_are_errors(index_type: str, sample: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        AnnIndex.empty(16, index_type, sample)
    assert "\n" not in str(caught.value)


def test_exact_search_returns_the_older_of_equals_first() -> None:
    ids = np.array([3, 5, 8])
    assert search_exactly(np.float32([1]), 2, ids, np.float32([[1], [2], [1]])) == [(5, 2.0), (3, 1.0)]


def test_auto_is_flat_up_to_100_000_vectors() -> None:
    assert [index_type_for(size) for size in (0, 100_000, 100_001, 10**9)] == ["flat", "flat", "ivf", "ivf"]
