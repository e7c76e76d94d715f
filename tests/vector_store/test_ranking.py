"""The modes of a query, its numbers of results, and its options."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from llama_index_mm_zhipu import FaissMultiModalVectorStore

MODES = ("default", "mmr", "text_search", "sparse", "hybrid")


@pytest.fixture
def filled(store: FaissMultiModalVectorStore, make_node: Callable[..., TextNode]) -> FaissMultiModalVectorStore:
    store.add([make_node("a", 3, 1, page=1), make_node("b", 2, 1, page=2), make_node("c", 1, 1, page=3)])
    return store


def query(mode: str, k: int = 3, **rest: object) -> VectorStoreQuery:
    return VectorStoreQuery(
        query_embedding=[1.0, 0.0],
        query_str="text of c",
        similarity_top_k=k,
        mode=mode,  # type: ignore[arg-type]
        **rest,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_may_be_a_string(filled: FaissMultiModalVectorStore, mode: str) -> None:
    result = filled.query(query(mode))
    assert result.ids == filled.query(query(VectorStoreQueryMode(mode))).ids
    assert len(result.ids or []) == 3


def test_sparse_is_full_text(filled: FaissMultiModalVectorStore) -> None:
    sparse, text = filled.query(query("sparse")), filled.query(query("text_search"))
    assert (sparse.ids, sparse.similarities) == (text.ids, text.similarities)
    assert (sparse.ids or [])[0] == "c"


@pytest.mark.parametrize(
    ("mode", "message"), [("svm", "query mode 'svm' is not supported; use one of"), ("vector", "mode is 'vector'; it")]
)
def test_an_unknown_or_unsupported_mode_is_an_error(
    filled: FaissMultiModalVectorStore, mode: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        filled.query(query(mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("k", [2**31, 2**63, 10**400])
def test_the_number_of_results_may_be_of_any_size(filled: FaissMultiModalVectorStore, mode: str, k: int) -> None:
    assert filled.query(query(mode, k)).ids == filled.query(query(mode, 3)).ids
    by_page = MetadataFilters(filters=[MetadataFilter(key="page", value=2, operator=">=")])  # type: ignore[arg-type]
    assert sorted(filled.query(query(mode, k, filters=by_page)).ids or []) == ["b", "c"]


def test_numbers_of_candidates_may_be_of_any_size(filled: FaissMultiModalVectorStore) -> None:
    expected = filled.query(query("hybrid")).ids
    assert filled.query(query("hybrid", sparse_top_k=2**63, hybrid_top_k=2**63)).ids == expected
    expected = filled.query(query("mmr")).ids
    assert filled.query(query("mmr"), mmr_prefetch_k=2**63).ids == expected
    assert filled.query(query("mmr"), mmr_prefetch_factor=float("inf")).ids == expected
    filled.reindex("hnsw")
    assert filled.query(query("default"), search_breadth=2**63).ids == ["a", "b", "c"]


def test_two_options_for_the_number_of_candidates_exclude_each_other(filled: FaissMultiModalVectorStore) -> None:
    with pytest.raises(ValueError, match="mmr_prefetch_k and mmr_prefetch_factor"):
        filled.query(query("mmr"), mmr_prefetch_k=10, mmr_prefetch_factor=2.0)


def test_the_error_of_a_query_by_filters_alone_suggests_get_nodes(filled: FaissMultiModalVectorStore) -> None:
    by_page = MetadataFilters(filters=[MetadataFilter(key="page", value=2)])
    with pytest.raises(ValueError, match=r"call get_nodes\(filters=…\)"):
        filled.query(VectorStoreQuery(filters=by_page, similarity_top_k=3))
