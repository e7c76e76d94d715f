"""Vector search with faiss; everything here can be rebuilt from the database."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


def _faiss() -> Any:
    """Import faiss: the one door, so that its threads can be tamed where they crash."""
    import faiss

    if sys.platform == "darwin":
        # torch and faiss bring an OpenMP runtime each; more than one thread is reported to crash there.
        faiss.omp_set_num_threads(1)
    return faiss


class AnnIndex:
    """Exact inner-product search over vectors with ids; deleted ids are skipped until ``compact``.

    Args:
        dimension: Dimension of the vectors.
    """

    def __init__(self, dimension: int) -> None:
        faiss = _faiss()
        self.index = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
        self._deleted: set[int] = set()

    @property
    def dimension(self) -> int:
        """Dimension of the vectors."""
        return int(self.index.d)

    def __len__(self) -> int:
        return int(self.index.ntotal) - len(self._deleted)

    def add(self, ids: Sequence[int], vectors: Vectors) -> None:
        """Add vectors of shape ``(n, dimension)`` under ids that were never used before."""
        self.index.add_with_ids(np.ascontiguousarray(vectors), np.asarray(ids, dtype=np.int64))

    def remove(self, ids: Sequence[int]) -> None:
        """Skip these ids from now on."""
        self._deleted.update(ids)

    def search(self, vector: Vectors, k: int, allowed: Sequence[int] | None = None) -> list[tuple[int, float]]:
        """Return the ids with the ``k`` largest inner products, and these, best first; older ids first among equals.

        Args:
            vector: Shape ``(dimension,)``.
            k: At most so many; fewer if there are fewer.
            allowed: Search only these ids.
        """
        k = min(k, len(self) if allowed is None else len(allowed))
        if k <= 0:
            return []
        parameters = _faiss().SearchParameters(sel=self._selector(allowed))
        scores, ids = self.index.search(vector.reshape(1, -1), k, params=parameters)
        found = [(-float(score), int(id_)) for score, id_ in zip(scores[0], ids[0], strict=True) if id_ >= 0]
        found.sort()
        return [(id_, -score) for score, id_ in found]

    def compact(self) -> None:
        """Give up the space of deleted vectors."""
        if self._deleted:
            self.index.remove_ids(np.fromiter(self._deleted, dtype=np.int64))
            self._deleted.clear()

    def write(self, path: Path) -> None:
        """Write a snapshot, without what was deleted."""
        self.compact()
        _faiss().write_index(self.index, str(path))

    @classmethod
    def read(cls, path: Path) -> AnnIndex:
        """Read a snapshot.

        Raises:
            RuntimeError: The file is missing or damaged.
        """
        loaded = cls.__new__(cls)
        loaded.index = _faiss().read_index(str(path))
        loaded._deleted = set()
        return loaded

    def _selector(self, allowed: Sequence[int] | None) -> Any:
        faiss = _faiss()
        if allowed is not None:
            return faiss.IDSelectorBatch(np.asarray(allowed, dtype=np.int64))
        if self._deleted:
            return faiss.IDSelectorNot(faiss.IDSelectorBatch(np.fromiter(self._deleted, dtype=np.int64)))
        return None
