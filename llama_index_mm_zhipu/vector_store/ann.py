"""Vector search by row id, over an index whose vectors are numbered by position; a cache of the database."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.vector_store.faiss_indexes import FLAT, HNSW, FaissIndex, PositionalIndex, short_message
from llama_index_mm_zhipu.vector_store.faiss_library import load_faiss
from llama_index_mm_zhipu.vector_store.ivf import IvfIndex
from llama_index_mm_zhipu.vector_store.vector_file import Ids, Vectors, evenly_spaced

Found = list[tuple[int, float]]
"""Row ids and inner products, best first; lower ids first among equal scores."""

IVF = "ivf"
AUTO = "auto"
UNTRAINED = (FLAT, HNSW)
"""Index types that need no vectors for training."""

AUTO_TYPES: tuple[tuple[int, str], ...] = ((100_000, FLAT), (sys.maxsize, IVF))
"""Maximum numbers of vectors and the index types that ``"auto"`` takes for them. On two cores, flat search of vectors
of 512 dimensions is exact and takes 1 ms for 20,000 and 4 ms for 100,000, with 2 kB of memory each; codes take a
few milliseconds for a million (benchmarks/README.md)."""

_MEAN_SAMPLE = 1_000

_COMPACT_SHARE = 0.25
_REBUILD_SHARE = 0.5
_MIN_DELETED = 1000


def index_type_for(vectors: int) -> str:
    """Return the index type that ``"auto"`` stands for with this number of vectors."""
    return next(index_type for limit, index_type in AUTO_TYPES if vectors <= limit)


class AnnIndex:
    """Inner-product search over vectors with ids. Deleted ids are skipped; a flat index frees their memory.

    Ids are ascending, so that binary search converts between ids and positions.

    Args:
        index: The index, whose vectors are numbered by position.
        index_type: Type of the index, as in ``empty``.
        signed_ids: Id of each vector in the index, ascending and above 0; negative for a deleted vector.
    """

    def __init__(self, index: PositionalIndex, index_type: str, signed_ids: Ids) -> None:
        self.index = index
        self.index_type = index_type
        self._ids = _GrowingArray(np.abs(signed_ids))
        self._alive = _GrowingArray(signed_ids > 0)
        self._deleted = int(np.count_nonzero(signed_ids < 0))
        self._mean: tuple[tuple[int, int], Vectors] | None = None

    @classmethod
    def empty(
        cls, dimension: int, index_type: str = FLAT, sample: Vectors | None = None, expected: int = 0
    ) -> AnnIndex:
        """Return an index without vectors.

        Args:
            dimension: Dimension of the vectors.
            index_type: ``"flat"``, exact; ``"ivf"``, short codes in lists; ``"hnsw"``, a graph; or a string for faiss's
                ``index_factory``.
            sample: Vectors, shape ``(n, dimension)``, for types that are trained.
            expected: Number of vectors that will be added, which decides on the number of lists of ``"ivf"``.

        Raises:
            ValueError: faiss does not know the type, or cannot train it with this sample.
        """
        sample = sample if sample is not None else np.empty((0, dimension), np.float32)
        index: PositionalIndex
        if index_type == IVF:
            index = IvfIndex.trained(sample, expected)
        else:
            index = FaissIndex.trained(dimension, index_type, sample)
        return cls(index, index_type, np.empty(0, np.int64))

    @classmethod
    def read(cls, path: Path, index_type: str) -> AnnIndex:
        """Read a file that ``write`` wrote.

        Raises:
            RuntimeError: The file is missing or damaged.
        """
        faiss = load_faiss()
        mapped = faiss.read_index(str(path))
        index = faiss.downcast_index(mapped.index)
        # ``mapped`` owns the inner index and must stay alive; taking the ownership away breaks faiss's Python types.
        index.referenced_objects = [mapped]
        ids = faiss.vector_to_array(mapped.id_map)
        return cls(IvfIndex.from_faiss(index) if index_type == IVF else FaissIndex(index), index_type, ids)

    @property
    def faiss_index(self) -> Any:
        """The index of faiss."""
        return self.index.faiss_index

    @property
    def dimension(self) -> int:
        """Dimension of the vectors."""
        return int(self.index.d)

    @property
    def ids(self) -> Ids:
        """All ids, without those that are skipped."""
        ids: Ids = self._ids.values[self._alive.values] if self._deleted else self._ids.values
        return ids

    @property
    def last_id(self) -> int:
        """The largest id, or 0."""
        ids = self._ids.values
        return int(ids[-1]) if len(ids) else 0

    @property
    def is_consistent(self) -> bool:
        """Whether there is one id for every vector, which an interrupt in the middle of a change may have prevented."""
        return int(self.index.ntotal) == len(self._ids.values) == len(self._alive.values)

    @property
    def is_exact(self) -> bool:
        """Whether a search finds the true nearest vectors."""
        return self.index.is_exact

    @property
    def has_vectors(self) -> bool:
        """Whether the index holds the original vectors, so that ``vectors`` works and scores are exact."""
        return self.index.has_vectors

    @property
    def needs_rebuild(self) -> bool:
        """Whether to build the index again: many vectors were deleted, or there are too many for its lists.

        Always False for a flat index.
        """
        is_sparse = self._deleted > max(_MIN_DELETED, _REBUILD_SHARE * len(self._ids.values))
        return is_sparse or self.index.is_outgrown(len(self))

    @property
    def has_many_recent(self) -> bool:
        """Whether an index of type ``"ivf"`` has many vectors without codes, which make searches slower."""
        return self.index.has_many_recent

    def encode_some(self) -> bool:
        """Encode some of these vectors; return whether there are others."""
        return self.index.encode_some()

    def __len__(self) -> int:
        return len(self._ids.values) - self._deleted

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors of shape ``(n, dimension)`` under ascending ids, which are above all earlier ids."""
        self.index.add(vectors)
        self._ids.extend(ids)
        self._alive.extend(np.ones(len(ids), np.bool_))

    def remove(self, ids: Ids) -> None:
        """Skip these ids from now on; unknown ids are ignored."""
        self._alive.values[self._positions(ids)] = False
        self._count_deleted()

    def keep_only(self, ids: Ids) -> None:
        """Skip all but these ids from now on."""
        kept = np.zeros(len(self._ids.values), np.bool_)
        kept[self._positions(ids)] = True
        self._alive.values[:] &= kept
        self._count_deleted()

    def sample_ids(self, count: int) -> Ids:
        """Return at most so many ids, evenly spaced over the order of addition."""
        if not self._deleted:
            return evenly_spaced(self._ids.values, count)
        sample = evenly_spaced(np.arange(len(self._ids.values)), 2 * count)
        alive = sample[self._alive.values[sample]]
        # Of an index of mostly deleted vectors, the sample may have none.
        return self._ids.values[evenly_spaced(alive if len(alive) else np.flatnonzero(self._alive.values), count)]

    def mean_vector(self, read: Callable[[Ids], Vectors]) -> Vectors:
        """Return the mean of some vectors, evenly spaced over the order of addition; zeros if there is none.

        Args:
            read: Returns the vectors of ids, which the index itself may not have.
        """
        state = len(self), self.last_id
        if self._mean is None or self._mean[0] != state:
            sample = self.sample_ids(_MEAN_SAMPLE)
            mean = read(sample).mean(axis=0) if len(sample) else np.zeros(self.dimension, np.float32)
            self._mean = state, mean
        return self._mean[1]

    def search(
        self,
        vector: Vectors,
        k: int,
        allowed: Ids | None = None,
        *,
        search_breadth: int | None = None,
    ) -> Found:
        """Return the ids with the largest inner products, at most ``k``. Approximate types may miss some of them.

        Args:
            vector: Shape ``(dimension,)``.
            k: Maximum number of ids.
            allowed: Ids to search; None for all.
            search_breadth: As in ``PositionalIndex.search``.
        """
        usable = self._usable(allowed)
        k = min(k, len(self) if usable is None else int(np.count_nonzero(usable)))
        if k <= 0:
            return []
        query = np.ascontiguousarray(vector, dtype=np.float32)
        scores, positions = self.index.search(query, k, usable, search_breadth)
        return best_of(self._ids.values[positions], scores, k)

    def require_selection(self) -> None:
        """Check that a search can skip ids, as filters and deletions need.

        Raises:
            ValueError: This index type cannot.
        """
        try:
            self.search(np.zeros(self.dimension, np.float32), 1, allowed=self._ids.values[:1])
        except RuntimeError as error:
            raise ValueError(
                f"an index of type {self.index_type!r} cannot search a part of its vectors ({short_message(error)}), "
                'which filters and deletions need; choose "flat", "hnsw" or an inverted file such as "IVF1024,Flat"'
            ) from None

    def vectors(self, ids: Ids) -> Vectors:
        """Return the vectors of existing ids, shape ``(n, dimension)``; only if ``has_vectors``."""
        return self.index.vectors(self._positions(ids))

    def write(self, path: Path) -> None:
        """Write the faiss index to a file, with ids in its id map that are negative for deleted vectors.

        Raises:
            OSError: The file cannot be written.
        """
        faiss = load_faiss()
        index = self.index.to_faiss()
        mapped = faiss.IndexIDMap(faiss.IndexFlatIP(self.dimension))
        owned = index.thisown
        mapped.index, mapped.ntotal, mapped.own_fields = index, index.ntotal, False
        # The assignment took the ownership from Python, which then would never free the vectors.
        index.thisown = owned
        faiss.copy_array_to_vector(np.where(self._alive.values, self._ids.values, -self._ids.values), mapped.id_map)
        try:
            faiss.write_index(mapped, str(path))
        except RuntimeError as error:
            raise OSError(short_message(error)) from None

    def _positions(self, ids: Ids) -> Ids:
        """Return the positions of ids in the index, in their order, without those of unknown ids."""
        first, count = self._ids.values[:1], len(self._ids.values)
        if count and self.last_id - first[0] == count - 1:
            # Unless the index was built after deletions, no id is missing.
            dense: Ids = np.asarray(ids) - first[0]
            return dense[(dense >= 0) & (dense < count)]
        positions = np.searchsorted(self._ids.values, ids)
        within = positions < len(self._ids.values)
        positions, ids = positions[within], np.asarray(ids)[within]
        found: Ids = positions[self._ids.values[positions] == ids]
        return found

    def _usable(self, allowed: Ids | None) -> npt.NDArray[np.bool_] | None:
        """Return for each position whether a search may return it, or None for all positions."""
        if allowed is None:
            return self._alive.values if self._deleted else None
        usable = np.zeros(len(self._ids.values), np.bool_)
        positions = self._positions(allowed)
        usable[positions] = self._alive.values[positions]
        return usable

    def _count_deleted(self) -> None:
        self._deleted = len(self._alive.values) - int(np.count_nonzero(self._alive.values))
        if self.is_exact and self._deleted > max(_MIN_DELETED, _COMPACT_SHARE * len(self._ids.values)):
            self._compact()

    def _compact(self) -> None:
        alive = self._alive.values
        self.index.remove(~alive)
        self._ids, self._alive, self._deleted = _GrowingArray(self._ids.values[alive]), _GrowingArray(alive[alive]), 0


def search_exactly(vector: Vectors, k: int, ids: Ids, vectors: Vectors) -> Found:
    """Return the ``k`` best of these ids by the inner products of their vectors, shape ``(n, dimension)``."""
    return best_of(ids, vectors @ vector.astype(np.float32), k)


def best_of(ids: Ids, scores: npt.NDArray[np.floating[Any]], k: int) -> Found:
    """Return the ``k`` ids with the largest scores, best first; lower ids first among equal scores."""
    if k < len(scores):
        # Sorting all scores would take longer than computing them.
        near = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
        ids, scores = ids[near], scores[near]
    order = np.lexsort((ids, -scores))[:k]
    return list(zip(ids[order].tolist(), scores[order].tolist(), strict=True))


class _GrowingArray:
    """An array that grows at its end at a constant cost per value."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self._array = values
        self._size = len(values)

    @property
    def values(self) -> npt.NDArray[Any]:
        """The values in the array, without the space for further ones."""
        return self._array[: self._size]

    def extend(self, values: npt.NDArray[Any]) -> None:
        """Append values."""
        size = self._size + len(values)
        if size > len(self._array):
            grown = np.empty(max(size, 2 * len(self._array)), self._array.dtype)
            grown[: self._size] = self.values
            self._array = grown
        self._array[self._size : size] = values
        self._size = size
