"""Vector search with faiss; everything here can be rebuilt from the database."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.vector_store.sessions import Ids, Vectors

Found = list[tuple[int, float]]
"""Row ids and inner products, best first; older ids first among equals."""

FLAT = "flat"
HNSW = "hnsw"
AUTO = "auto"
UNTRAINED = (FLAT, HNSW)
"""Kinds that can begin without vectors."""

AUTO_KINDS: tuple[tuple[int, str], ...] = ((200_000, FLAT), (sys.maxsize, HNSW))
"""What ``"auto"`` stands for: up to so many vectors, this kind. On two cores, flat search is exact and takes 1 ms at
20,000 vectors of 512 dimensions and 10 ms at 200,000; building the graph takes a third of a millisecond a vector and
more (benchmarks/README.md)."""

HNSW_NEIGHBOURS = 32
HNSW_EF_CONSTRUCTION = 100
HNSW_EF_SEARCH = 128
IVF_NPROBE = 16
"""Breadths of a search that asks for none; larger ones find more of the true neighbours and take longer."""

_LEAST_PART = 2**21
"""Numbers, 8 MB, that a core must have to itself before a flat search is worth splitting."""

_COMPACT_SHARE = 0.25
_REBUILD_SHARE = 0.5
_FEW_DELETED = 1000


def kind_for(vectors: int) -> str:
    """Return the kind of index that ``"auto"`` means for so many vectors."""
    return next(kind for limit, kind in AUTO_KINDS if vectors <= limit)


class AnnIndex:
    """Inner-product search over vectors with ids. Deleted ids are skipped; a flat index gives up their space.

    faiss numbers vectors by their position; ids are ascending, so one turns into the other by binary search.

    Args:
        index: A faiss index.
        kind: What it is, as in ``empty``.
        signed_ids: Id of each of its vectors, ascending and above 0, negative where deleted.
    """

    def __init__(self, index: Any, kind: str, signed_ids: Ids) -> None:
        self.index = index
        self.kind = kind
        self._ids = _Growing(np.abs(signed_ids))
        self._alive = _Growing(signed_ids > 0)
        self._deleted = int(np.count_nonzero(signed_ids < 0))
        # The threads that OpenMP would wake for each search, and keep waiting busily, slow it down.
        self._threads = ThreadPoolExecutor(initializer=lambda: load_faiss().omp_set_num_threads(1))

    @classmethod
    def empty(cls, dimension: int, kind: str = FLAT, sample: Vectors | None = None) -> AnnIndex:
        """Make an index without vectors.

        Args:
            dimension: Dimension of the vectors.
            kind: ``"flat"``, exact; ``"hnsw"``, a graph; or a string for faiss's ``index_factory``.
            sample: Vectors, shape ``(n, dimension)``, to train a kind that needs it.

        Raises:
            ValueError: faiss does not know the kind, or cannot train it with this sample.
        """
        index = _new_faiss_index(dimension, kind)
        if not index.is_trained:
            _train(index, kind, sample if sample is not None else np.empty((0, dimension), np.float32))
        return cls(index, kind, np.empty(0, np.int64))

    @classmethod
    def read(cls, path: Path, kind: str) -> AnnIndex:
        """Read a file that ``write`` wrote.

        Raises:
            RuntimeError: The file is missing or damaged.
        """
        faiss = load_faiss()
        mapped = faiss.read_index(str(path))
        index = faiss.downcast_index(mapped.index)
        # Owns the index; taking that away from it breaks faiss's Python types.
        index.referenced_objects = [mapped]
        return cls(index, kind, faiss.vector_to_array(mapped.id_map))

    @property
    def dimension(self) -> int:
        """Dimension of the vectors."""
        return int(self.index.d)

    @property
    def last_id(self) -> int:
        """The largest id, or 0."""
        ids = self._ids.values
        return int(ids[-1]) if len(ids) else 0

    @property
    def is_whole(self) -> bool:
        """Whether every vector has its id: an interrupt in the middle of a change may have kept them apart."""
        return int(self.index.ntotal) == len(self._ids.values) == len(self._alive.values)

    @property
    def is_exact(self) -> bool:
        """Whether a search finds the true nearest."""
        return isinstance(self.index, load_faiss().IndexFlat)

    @property
    def has_vectors(self) -> bool:
        """Whether the vectors can be had back as they were; scores are then exact too."""
        faiss = load_faiss()
        return isinstance(self.index, (faiss.IndexFlat, faiss.IndexHNSWFlat))

    @property
    def needs_rebuild(self) -> bool:
        """Whether so much was deleted that building anew is worth it; a flat index never needs it."""
        return self._deleted > max(_FEW_DELETED, _REBUILD_SHARE * len(self._ids.values))

    def __len__(self) -> int:
        return len(self._ids.values) - self._deleted

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors of shape ``(n, dimension)`` under ascending ids above all earlier ones."""
        self.index.add(np.ascontiguousarray(vectors))
        self._ids.extend(ids)
        self._alive.extend(np.ones(len(ids), np.bool_))

    def remove(self, ids: Ids) -> None:
        """Skip these ids from now on; those that are not there are passed over."""
        self._alive.values[self._positions(ids)] = False
        self._count_deleted()

    def keep_only(self, ids: Ids) -> None:
        """Skip all but these ids from now on."""
        kept = np.zeros(len(self._ids.values), np.bool_)
        kept[self._positions(ids)] = True
        self._alive.values[:] &= kept
        self._count_deleted()

    def search(self, vector: Vectors, k: int, allowed: Ids | None = None, breadth: int | None = None) -> Found:
        """Return the ids with the largest inner products, at most ``k``; kinds that are not exact may miss some.

        Args:
            vector: Shape ``(dimension,)``.
            k: At most so many.
            allowed: Search only these ids.
            breadth: ``efSearch`` of a graph, ``nprobe`` of an inverted file.
        """
        usable = self._usable(allowed)
        k = min(k, len(self) if usable is None else int(np.count_nonzero(usable)))
        if k <= 0:
            return []
        selector = None if usable is None else load_faiss().IDSelectorBitmap(np.packbits(usable, bitorder="little"))
        query = np.ascontiguousarray(vector.reshape(1, -1), dtype=np.float32)
        # One more tells whether the last place is shared, where faiss takes any of the equals.
        scores, positions = self._search(query, min(k + 1, self.index.ntotal), selector, breadth)
        if self.is_exact and len(scores) > k:
            next_, *best = np.partition(scores, len(scores) - k - 1)[len(scores) - k - 1 :]
            if next_ == min(best):
                parameters = load_faiss().SearchParameters(sel=selector)
                below = float(np.nextafter(next_, np.float32(-np.inf)))
                _, scores, positions = self.index.range_search(query, below, params=parameters)
        return _best(self._ids.values[positions], scores, k)

    def require_selection(self) -> None:
        """Try whether a search can leave out ids, as filters and deletions need.

        Raises:
            ValueError: This kind cannot.
        """
        try:
            self.search(np.zeros(self.dimension, np.float32), 1, allowed=self._ids.values[:1])
        except RuntimeError as error:
            raise ValueError(
                f"an index of kind {self.kind!r} cannot search a part of its vectors ({_short(error)}), which filters "
                'and deletions need; choose "flat", "hnsw" or an inverted file such as "IVF1024,Flat"'
            ) from None

    def vectors(self, ids: Ids) -> Vectors:
        """Return the vectors of ids that are there, shape ``(n, dimension)``; only where ``has_vectors``."""
        return np.asarray(self.index.reconstruct_batch(self._positions(ids)), dtype=np.float32)

    def write(self, path: Path) -> None:
        """Write a file: the faiss index, and in its id map the ids, negative where deleted.

        Raises:
            OSError: The file cannot be written.
        """
        faiss = load_faiss()
        mapped = faiss.IndexIDMap(faiss.IndexFlatIP(self.dimension))
        owned = self.index.thisown
        mapped.index, mapped.ntotal, mapped.own_fields = self.index, self.index.ntotal, False
        # The assignment took the index away from Python, which would never free its vectors.
        self.index.thisown = owned
        faiss.copy_array_to_vector(np.where(self._alive.values, self._ids.values, -self._ids.values), mapped.id_map)
        try:
            faiss.write_index(mapped, str(path))
        except RuntimeError as error:
            raise OSError(_short(error)) from None

    def _search(self, query: Vectors, k: int, selector: Any, breadth: int | None) -> tuple[Vectors, Ids]:
        """Return scores and positions of the ``k`` best, or of more, in no order."""
        faiss = load_faiss()
        parts = min(faiss.omp_get_max_threads(), self.index.ntotal * self.dimension // _LEAST_PART)
        if self.is_exact and parts > 1:
            # For one query, faiss takes one core: here each core has a part of the vectors.
            bounds = np.linspace(0, self.index.ntotal, parts + 1).astype(int).tolist()
            selectors = [faiss.IDSelectorRange(start, stop) for start, stop in pairwise(bounds)]
            if selector is not None:
                selectors = [faiss.IDSelectorAnd(within, selector) for within in selectors]
            of_parts = [faiss.SearchParameters(sel=within) for within in selectors]
            running = [self._threads.submit(self.index.search, query, k, params=of_part) for of_part in of_parts]
            found = [search.result() for search in running]
        else:
            found = [self.index.search(query, k, params=_search_parameters(self.index, selector, breadth, k))]
        scores, positions = (np.concatenate(both, axis=1)[0] for both in zip(*found, strict=True))
        there = positions >= 0
        return scores[there], positions[there]

    def _positions(self, ids: Ids) -> Ids:
        positions = np.searchsorted(self._ids.values, ids)
        within = positions < len(self._ids.values)
        positions, ids = positions[within], np.asarray(ids)[within]
        found: Ids = positions[self._ids.values[positions] == ids]
        return found

    def _usable(self, allowed: Ids | None) -> npt.NDArray[np.bool_] | None:
        """Return which positions a search may return, or None for all."""
        if allowed is None:
            return self._alive.values if self._deleted else None
        usable = np.zeros(len(self._ids.values), np.bool_)
        positions = self._positions(allowed)
        usable[positions] = self._alive.values[positions]
        return usable

    def _count_deleted(self) -> None:
        self._deleted = len(self._alive.values) - int(np.count_nonzero(self._alive.values))
        if self.is_exact and self._deleted > max(_FEW_DELETED, _COMPACT_SHARE * len(self._ids.values)):
            self._compact()

    def _compact(self) -> None:
        alive = self._alive.values
        self.index.remove_ids(load_faiss().IDSelectorBitmap(np.packbits(~alive, bitorder="little")))
        self._ids, self._alive, self._deleted = _Growing(self._ids.values[alive]), _Growing(alive[alive]), 0


def search_exactly(vector: Vectors, k: int, ids: Ids, vectors: Vectors) -> Found:
    """Return the ``k`` best of these ids by the inner products of their vectors, shape ``(n, dimension)``."""
    return _best(ids, vectors @ vector.astype(np.float32), k)


def _best(ids: Ids, scores: Vectors, k: int) -> Found:
    if k < len(scores):
        # Sorting all would take longer than computing them.
        near = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
        ids, scores = ids[near], scores[near]
    order = np.lexsort((ids, -scores))[:k]
    return list(zip(ids[order].tolist(), scores[order].tolist(), strict=True))


class _Growing:
    """An array that grows at its end at a constant cost per value."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self._array = values
        self._size = len(values)

    @property
    def values(self) -> npt.NDArray[Any]:
        """What was put in."""
        return self._array[: self._size]

    def extend(self, values: npt.NDArray[Any]) -> None:
        """Put values at the end."""
        size = self._size + len(values)
        if size > len(self._array):
            grown = np.empty(max(size, 2 * len(self._array)), self._array.dtype)
            grown[: self._size] = self.values
            self._array = grown
        self._array[self._size : size] = values
        self._size = size


def load_faiss() -> Any:
    """Import faiss: the one door, so that its threads can be tamed where they crash."""
    import faiss

    if sys.platform == "darwin":
        # torch and faiss bring an OpenMP runtime each; more than one thread is reported to crash there.
        faiss.omp_set_num_threads(1)
    return faiss


def _new_faiss_index(dimension: int, kind: str) -> Any:
    faiss = load_faiss()
    if kind == FLAT:
        return faiss.IndexFlatIP(dimension)
    if kind == HNSW:
        index = faiss.IndexHNSWFlat(dimension, HNSW_NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = HNSW_EF_CONSTRUCTION
        return index
    try:
        return faiss.index_factory(dimension, kind, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ValueError(
            f"no index of kind {kind!r} for {dimension} dimensions ({_short(error)}); "
            'give "flat", "hnsw", "auto" or a string of faiss\'s index factory such as "IVF1024,Flat"'
        ) from None


def _train(index: Any, kind: str, sample: Vectors) -> None:
    try:
        index.train(np.ascontiguousarray(sample))
    except RuntimeError as error:
        raise ValueError(
            f"an index of kind {kind!r} cannot be trained with {len(sample)} vectors ({_short(error)}); "
            "add more, or choose flat or hnsw"
        ) from None


def _search_parameters(index: Any, selector: Any, breadth: int | None, k: int) -> Any:
    faiss = load_faiss()
    if isinstance(index, faiss.IndexPreTransform):
        inner = _search_parameters(faiss.downcast_index(index.index), selector, breadth, k)
        return faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(sel=selector, efSearch=max(breadth or HNSW_EF_SEARCH, k + 1))
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(sel=selector, nprobe=breadth or IVF_NPROBE)
    return faiss.SearchParameters(sel=selector)


def _short(error: RuntimeError) -> str:
    """Return what faiss says, without where in its code it says so."""
    return re.sub(r"^Error in .* at \S+:\d+: (Error: '.*' failed: )?", "", str(error)).strip()
