"""faiss's own indexes, whose vectors are numbered by position: flat ones, graphs, and what its factory makes.

A flat search for one query is split over threads of this module. faiss searches for one query on one core, and the
threads that OpenMP wakes for it wait busily and slow it down. Of 100,000 vectors with 512 dimensions, on two cores, a
search took 10.3 ms, 6.7 ms with one OpenMP thread, and 4.8 ms as two parts in two such threads.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.vector_store.faiss_library import load_faiss
from llama_index_mm_zhipu.vector_store.vector_file import Ids, Vectors

FLAT = "flat"
HNSW = "hnsw"

HNSW_NEIGHBOURS = 32
HNSW_EF_CONSTRUCTION = 100
HNSW_EF_SEARCH = 128
IVF_NPROBE = 16
"""``HNSW_EF_SEARCH`` and ``IVF_NPROBE`` are defaults of a search; larger values are more exact and take longer. An
index of type ``"ivf"`` has a default of its own vectors (``calibration``)."""

_MIN_PART = 2**21
"""Minimum numbers, 8 MB, for each core if a flat search is split."""


class PositionalIndex(Protocol):
    """Inner-product search over vectors that are numbered by position, in the order of addition."""

    @property
    def d(self) -> int:
        """Dimension of the vectors."""

    @property
    def ntotal(self) -> int:
        """Number of vectors."""

    @property
    def faiss_index(self) -> Any:
        """The index of faiss that is searched."""

    @property
    def is_exact(self) -> bool:
        """Whether a search finds the true nearest vectors."""

    @property
    def has_vectors(self) -> bool:
        """Whether the index holds the original vectors, so that ``vectors`` works and scores are exact."""

    @property
    def has_many_recent(self) -> bool:
        """Whether so many vectors have no codes yet that searches take longer."""

    def is_outgrown(self, vectors: int) -> bool:
        """Return whether this number of vectors is too large for the lists of the index."""

    def add(self, vectors: Vectors) -> None:
        """Add vectors, shape ``(n, dimension)``."""

    def encode_some(self) -> bool:
        """Encode some of the vectors that have no codes yet; return whether there are others."""

    def remove(self, removed: npt.NDArray[np.bool_]) -> None:
        """Remove the vectors at these positions, and number the others anew; only if ``is_exact``."""

    def search(
        self, query: Vectors, k: int, usable: npt.NDArray[np.bool_] | None, breadth: int | None
    ) -> tuple[Vectors, Ids]:
        """Return scores and positions, unordered: at least the ``k`` best, and those that are equal to the last.

        Args:
            query: Shape ``(dimension,)``.
            k: Number of results, at least 1.
            usable: Which positions may be returned; None for all.
            breadth: Lists of an inverted file that are scanned, by default ``IVF_NPROBE``; or candidates that the
                search of a graph keeps, by default ``HNSW_EF_SEARCH``.
        """

    def vectors(self, positions: Ids) -> Vectors:
        """Return the vectors at these positions; only if ``has_vectors``."""

    def to_faiss(self) -> Any:
        """Return one faiss index that holds everything, to be written to a file."""


class FaissIndex:
    """An index of faiss's own; a ``PositionalIndex``.

    Args:
        index: The index of faiss.
    """

    has_many_recent = False

    def __init__(self, index: Any) -> None:
        self.faiss_index = index
        # See above: one OpenMP thread in each of them.
        self._threads = ThreadPoolExecutor(initializer=lambda: load_faiss().omp_set_num_threads(1))

    @classmethod
    def trained(cls, dimension: int, index_type: str, sample: Vectors) -> FaissIndex:
        """Return an index without vectors.

        Args:
            dimension: Dimension of the vectors.
            index_type: ``"flat"``, ``"hnsw"``, or a string for faiss's ``index_factory``.
            sample: Vectors, shape ``(n, dimension)``, for types that are trained.

        Raises:
            ValueError: faiss does not know the type, or cannot train it with this sample.
        """
        index = _new_faiss_index(dimension, index_type)
        if not index.is_trained:
            _train(index, index_type, sample)
        return cls(index)

    @property
    def d(self) -> int:
        """Dimension of the vectors."""
        return int(self.faiss_index.d)

    @property
    def ntotal(self) -> int:
        """Number of vectors."""
        return int(self.faiss_index.ntotal)

    @property
    def is_exact(self) -> bool:
        """Whether a search finds the true nearest vectors."""
        return isinstance(self.faiss_index, load_faiss().IndexFlat)

    @property
    def has_vectors(self) -> bool:
        """Whether the index holds the original vectors."""
        faiss = load_faiss()
        return isinstance(self.faiss_index, (faiss.IndexFlat, faiss.IndexHNSWFlat))

    def is_outgrown(self, vectors: int) -> bool:
        """Return False: only the lists of codes are made for a number of vectors."""
        return False

    def add(self, vectors: Vectors) -> None:
        """Add vectors, shape ``(n, dimension)``."""
        self.faiss_index.add(np.ascontiguousarray(vectors))

    def encode_some(self) -> bool:
        """Return False: every vector is encoded when it is added."""
        return False

    def remove(self, removed: npt.NDArray[np.bool_]) -> None:
        """Remove the vectors at these positions, and number the others anew; only if ``is_exact``."""
        self.faiss_index.remove_ids(selector_of(removed))

    def search(
        self, query: Vectors, k: int, usable: npt.NDArray[np.bool_] | None, breadth: int | None
    ) -> tuple[Vectors, Ids]:
        """Search as ``PositionalIndex.search`` does."""
        selector = None if usable is None else selector_of(usable)
        limit = min(k + 1, self.ntotal)
        row = query.reshape(1, -1)
        if self.is_exact:
            return self._search_exactly(row, k, limit, selector)
        parameters = _search_parameters(self.faiss_index, selector, limit, breadth)
        return _flattened([self.faiss_index.search(row, limit, params=parameters)])

    def vectors(self, positions: Ids) -> Vectors:
        """Return the vectors at these positions; only if ``has_vectors``."""
        return np.asarray(self.faiss_index.reconstruct_batch(positions), dtype=np.float32)

    def to_faiss(self) -> Any:
        """Return the index of faiss."""
        return self.faiss_index

    def _search_exactly(self, query: Vectors, k: int, limit: int, selector: Any) -> tuple[Vectors, Ids]:
        """Return scores and positions of a flat index, unordered: the ``limit`` best of each part, and all ties."""
        faiss = load_faiss()
        parts = min(faiss.omp_get_max_threads(), self.ntotal * self.d // _MIN_PART)
        if parts > 1:
            bounds = np.linspace(0, self.ntotal, parts + 1).astype(int).tolist()
            selectors = [faiss.IDSelectorRange(start, stop) for start, stop in pairwise(bounds)]
            if selector is not None:
                selectors = [faiss.IDSelectorAnd(within, selector) for within in selectors]
            parameters = [faiss.SearchParameters(sel=within) for within in selectors]
            running = [self._threads.submit(self.faiss_index.search, query, limit, params=each) for each in parameters]
            scores, positions = _flattened([search.result() for search in running])
        else:
            found = self.faiss_index.search(query, limit, params=faiss.SearchParameters(sel=selector))
            scores, positions = _flattened([found])
        if len(scores) > k:
            # faiss returns any of several equal scores at the end. One result more than wanted shows such a tie.
            next_, *best = np.partition(scores, len(scores) - k - 1)[len(scores) - k - 1 :]
            if next_ == min(best):
                below = float(np.nextafter(next_, np.float32(-np.inf)))
                everything = faiss.SearchParameters(sel=selector)
                _, scores, positions = self.faiss_index.range_search(query, below, params=everything)
        return scores, positions


def selector_of(positions: npt.NDArray[np.bool_]) -> Any:
    """Return faiss's selector of positions, given for each position whether it is selected."""
    return load_faiss().IDSelectorBitmap(np.packbits(positions, bitorder="little"))


def _flattened(found: list[tuple[Vectors, Ids]]) -> tuple[Vectors, Ids]:
    """Return scores and positions of several searches for one query, without faiss's placeholders (-1)."""
    scores, positions = (np.concatenate(both, axis=1)[0] for both in zip(*found, strict=True))
    valid = positions >= 0
    return scores[valid], positions[valid]


def _new_faiss_index(dimension: int, index_type: str) -> Any:
    faiss = load_faiss()
    if index_type == FLAT:
        return faiss.IndexFlatIP(dimension)
    if index_type == HNSW:
        index = faiss.IndexHNSWFlat(dimension, HNSW_NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = HNSW_EF_CONSTRUCTION
        return index
    try:
        return faiss.index_factory(dimension, index_type, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ValueError(
            f"no index of type {index_type!r} for {dimension} dimensions ({short_message(error)}); "
            'give "flat", "hnsw", "auto" or a string of faiss\'s index factory such as "IVF1024,Flat"'
        ) from None


def _train(index: Any, index_type: str, sample: Vectors) -> None:
    try:
        index.train(np.ascontiguousarray(sample))
    except RuntimeError as error:
        raise ValueError(
            f"an index of type {index_type!r} cannot be trained with {len(sample)} vectors ({short_message(error)}); "
            "add more, or choose flat or hnsw"
        ) from None


def _search_parameters(index: Any, selector: Any, k: int, search_breadth: int | None) -> Any:
    """Return the parameters of a search; faiss has a class of them for each class of index."""
    faiss = load_faiss()
    if isinstance(index, faiss.IndexPreTransform):
        inner = _search_parameters(faiss.downcast_index(index.index), selector, k, search_breadth)
        return faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(sel=selector, efSearch=max(search_breadth or HNSW_EF_SEARCH, k + 1))
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(sel=selector, nprobe=search_breadth or IVF_NPROBE)
    return faiss.SearchParameters(sel=selector)


def short_message(error: RuntimeError) -> str:
    """Return the message of faiss without the position in its source."""
    return re.sub(r"^Error in .* at \S+:\d+: (Error: '.*' failed: )?", "", str(error)).strip()
