"""Measures how many of the true nearest nodes the search of a store finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llama_index_mm_zhipu.vector_store.calibration import NeighbourSample
from llama_index_mm_zhipu.vector_store.sessions import Reader
from llama_index_mm_zhipu.vector_store.vector_file import Ids, Vectors
from llama_index_mm_zhipu.vector_store.vector_search import FaissSearch

_BATCH = 8192


@dataclass(frozen=True)
class RecallReport:
    """How many of the true nearest nodes were found.

    Attributes:
        recall: Mean share of the true nearest nodes that were found, 0 to 1.
        index_type: Type of the index, such as ``"flat"`` or ``"ivf"``.
        similarity_top_k: Number of nearest nodes of each query.
        queries: Number of queries.
    """

    recall: float
    index_type: str
    similarity_top_k: int
    queries: int


def measure_recall(reader: Reader, search: FaissSearch, queries: Vectors, own_ids: Ids, k: int) -> float:
    """Compare the nearest nodes that a search finds with the true ones, for which all vectors are read.

    Args:
        reader: Reader of the store.
        search: Search over all of its nodes.
        queries: Shape ``(n, dimension)``.
        own_ids: Row ids of the nodes whose vectors are the queries, which do not count as found; 0 for other queries.
        k: Number of nearest nodes.

    Returns:
        The mean share of the true nearest that was found; 1 if there is no other node.
    """
    sample = NeighbourSample(queries, own_ids, k)
    last = 0
    while True:
        ids, vectors = reader.vectors_after(last, _BATCH)
        if not len(ids):
            break
        sample.see(ids, vectors)
        last = int(ids[-1])
    shares = []
    for number, (query, own_id) in enumerate(zip(queries, own_ids.tolist(), strict=True)):
        found = [id_ for id_, _ in search.nearest(query, k + 1) if id_ != own_id]
        shares.append(sample.recall(number, found[:k]))
    return float(np.mean(shares)) if shares else 1.0
