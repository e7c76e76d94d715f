"""faiss without a store: the time that the search itself takes, exact and with approximate indexes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from contender import FEW, FILE, Contender, K
from dataset import DIMENSION, Batch, node_id
from llama_index.core.vector_stores.types import MetadataFilters

_SAMPLE = 64
"""Vectors of the sample for each list of an IVF index."""


class RawFaiss(Contender):
    """A flat faiss index without a store: the minimum time of an exact search."""

    modules = ("faiss",)
    install = "faiss-cpu"
    filters = False
    deletes = False
    takes_nodes = False
    remark = "no store: takes an array, returns row numbers; on disk only once it is closed"

    def open(self, folder: Path) -> None:
        import faiss

        self._file = folder / FILE
        self._index = faiss.read_index(str(self._file)) if self._file.exists() else self.empty()

    def empty(self) -> Any:
        """Return an index without vectors."""
        import faiss

        return faiss.IndexFlatIP(DIMENSION)

    def close(self) -> None:
        import faiss

        faiss.write_index(self._index, str(self._file))

    def add(self, batch: Batch) -> None:
        self._index.add(batch.vectors)

    def prepare(self, vector: np.ndarray, filters: MetadataFilters | None = None) -> Any:
        return vector.reshape(1, -1)

    def query(self, prepared: Any, **options: Any) -> Any:
        return self._index.search(prepared, K)

    def ids(self, answer: Any) -> list[str]:
        _, rows = answer
        return [node_id(row) for row in rows[0].tolist() if row >= 0]


class RawHNSW(RawFaiss):
    """A graph, which grows with each batch."""

    remark = "no store; approximate (HNSW, M 32, efConstruction 40, efSearch 64)"
    max_nodes = FEW
    why_not_more = "on two busy cores, it adds 1,800 nodes a second at 100,000, and fewer the larger the graph"

    def empty(self) -> Any:
        import faiss

        index = faiss.IndexHNSWFlat(DIMENSION, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efSearch = 64
        return index


class RawIVF(RawFaiss):
    """Inverted lists of whole vectors. The lists are trained once all vectors are there.

    Attributes:
        codes: What the lists hold, as in ``faiss.index_factory``.
        search: Parameters of queries, as in ``faiss.ParameterSpace``.
    """

    codes: ClassVar[str] = "Flat"
    search: ClassVar[str] = "nprobe=64"
    remark = (
        "no store; approximate (IVF with 2 √n lists, nprobe 64); add only collects, settle trains and fills the lists"
    )

    def open(self, folder: Path) -> None:
        self._added: list[np.ndarray] = []
        super().open(folder)

    def empty(self) -> Any:
        # The number of lists depends on the number of vectors.
        return None

    def add(self, batch: Batch) -> None:
        self._added.append(batch.vectors)

    def settle(self) -> None:
        import faiss

        count = sum(map(len, self._added))
        lists = round(2 * math.sqrt(count))
        self._index = faiss.index_factory(DIMENSION, f"IVF{lists},{self.codes}", faiss.METRIC_INNER_PRODUCT)
        faiss.extract_index_ivf(self._index).cp.max_points_per_centroid = _SAMPLE
        self._index.train(self._sample(min(count, _SAMPLE * lists)))
        # Release each batch once the index has its vectors, so that not all are in memory twice.
        self._added.reverse()
        while self._added:
            self._index.add(self._added.pop())
        faiss.ParameterSpace().set_index_parameters(self._index, self.search)

    def _sample(self, size: int) -> np.ndarray:
        """Return about as many random vectors."""
        generator = np.random.default_rng(0)
        share = size / sum(map(len, self._added))
        return np.concatenate([vectors[generator.random(len(vectors)) < share] for vectors in self._added])


class RawRaBitQ(RawIVF):
    """Inverted lists of one bit for each dimension; candidates are ranked by the whole vectors."""

    codes = "RaBitQ,RFlat"
    search = "nprobe=64,k_factor_rf=30"
    remark = "as raw-ivf, with RaBitQ codes in the lists and 300 candidates re-scored"


class RawPQ(RawRaBitQ):
    """Inverted lists of 4-bit product codes of two dimensions each; candidates are ranked by the whole vectors."""

    codes = f"PQ{DIMENSION // 2}x4fs,RFlat"
    remark = "as raw-ivf, with 4-bit PQ codes in the lists (fast scan) and 300 candidates re-scored"
