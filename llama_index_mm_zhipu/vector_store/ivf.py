"""Approximate search over short codes: an inverted file (IVF) of projected vectors with 4 bits per dimension.

Vectors are centred and projected to their first principal components, at most ``MAX_COMPONENTS``, which are rotated at
random so that all have about the same variance. K-means divides them into lists. A vector is stored as the number of
its list and 4 bits for each component of its distance from the list's centroid: 64 bytes instead of 2,048. A search
compares the query with all centroids, scans the codes of the ``nprobe`` nearest lists, and returns candidates, whose
scores are computed from the stored vectors afterwards.

Of a million clustered vectors (benchmarks/README.md), 100 candidates from 192 of 2,048 lists contain 99 % of the true
ten nearest. faiss's RaBitQ codes of the same size need 300 candidates and twice the time, its 4-bit product
quantisation of unprojected vectors misses 5 % even then.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.vector_store.faiss_indexes import IVF_NPROBE, selector_of
from llama_index_mm_zhipu.vector_store.faiss_library import load_faiss
from llama_index_mm_zhipu.vector_store.vector_file import Ids, Vectors

MAX_COMPONENTS = 128
"""Most of the variance of embeddings lies in few directions: 128 of 512 have 94 % of it in clustered vectors, and 128
of 256 have 99.9 % in those of the demo model."""

TRAINING_VECTORS = 65_536
_MIN_TRAINING_VECTORS = 64
"""faiss finds 16 values for each component; fewer vectors are repeated."""

_VECTORS_PER_LIST = 16
_CODE_BITS = 4
_MIN_GROWN = 1000
_MAX_GROWTH = 1.5
"""An index is built again once this many times its lists would suit its vectors: after it has grown 2.25 times."""

_ITERATIONS = 10
_MANY_RECENT = 8_192
"""Vectors that are kept as they are: 4 MB, compared with a query in a tenth of a millisecond."""

_MAX_RECENT = 65_536
"""Vectors that are kept as they are at most, 32 MB, while others are encoded."""

_ENCODED_AT_ONCE = 2_048
"""Encoding these takes some 20 ms, for which queries wait. For fewer at a time, faiss takes longer for each of them."""


def list_count(vectors: int) -> int:
    """Return the number of lists for a number of vectors: twice its root, but no more than can be trained."""
    return min(max(4, round(2 * math.sqrt(vectors))), TRAINING_VECTORS // _VECTORS_PER_LIST)


class IvfIndex:
    """Codes of vectors in lists; a ``PositionalIndex``.

    Args:
        mean: Mean of the vectors, shape ``(dimension,)``.
        components: Matrix that projects centred vectors, shape ``(dimension, n)``.
        codes: faiss index of the projected vectors.
    """

    is_exact = False
    has_vectors = False

    def __init__(self, mean: Vectors, components: Vectors, codes: Any) -> None:
        self.faiss_index = codes
        self._mean = mean
        self._components = components
        quantizer = load_faiss().downcast_index(codes.quantizer)
        self._centroids = np.asarray(quantizer.reconstruct_n(0, codes.nlist), dtype=np.float32)
        # Half the squared distance of a centred query to a centroid is this, less their product, and a constant.
        self._offsets = (self._centroids**2).sum(axis=1) / 2 + self._centroids @ (mean @ components)
        # The vectors in ``_buffer`` from ``_first`` to ``_end`` have no codes yet.
        self._buffer = np.empty((_MANY_RECENT, codes.d), np.float32)
        self._first = self._end = 0

    @classmethod
    def trained(cls, sample: Vectors, expected: int) -> IvfIndex:
        """Return an index without vectors.

        Args:
            sample: Vectors of shape ``(n, dimension)`` that are like those to be added, at least one.
            expected: Number of vectors that the index is made for.
        """
        faiss = load_faiss()
        lists = max(1, min(list_count(expected), len(sample) // _VECTORS_PER_LIST))
        sample = np.resize(sample, (max(len(sample), _MIN_TRAINING_VECTORS), sample.shape[1]))
        mean = sample.mean(axis=0)
        components = _principal_components(sample - mean)
        projected = np.ascontiguousarray((sample - mean) @ components)
        dimension = projected.shape[1]
        quantizer = faiss.IndexFlatL2(dimension)
        clustering = faiss.Clustering(dimension, lists)
        clustering.niter = _ITERATIONS
        clustering.min_points_per_centroid = 1
        clustering.max_points_per_centroid = len(projected)
        clustering.train(projected, quantizer)
        codes = faiss.IndexIVFPQFastScan(quantizer, dimension, lists, dimension, _CODE_BITS, faiss.METRIC_INNER_PRODUCT)
        codes.by_residual = True
        codes.pq.cp.min_points_per_centroid = 1
        codes.train(projected)
        return cls(mean, components, codes)

    @classmethod
    def from_faiss(cls, index: Any) -> IvfIndex:
        """Return the index that ``to_faiss`` returned, read from a file."""
        faiss = load_faiss()
        transform = faiss.downcast_VectorTransform(index.chain.at(0))
        matrix = faiss.vector_to_array(transform.A).reshape(transform.d_out, transform.d_in)
        codes = faiss.downcast_index(index.index)
        # ``index`` owns the codes and must stay alive.
        codes.referenced_objects = [index]
        return cls(faiss.vector_to_array(transform.b), np.ascontiguousarray(matrix.T), codes)

    def to_faiss(self) -> Any:
        """Return one faiss index that holds everything, to be written to a file. It is not for searching."""
        faiss = load_faiss()
        self.encode()
        transform = faiss.LinearTransform(*self._components.shape, True)
        faiss.copy_array_to_vector(np.ascontiguousarray(self._components.T).ravel(), transform.A)
        faiss.copy_array_to_vector(self._mean, transform.b)
        transform.is_trained = True
        return faiss.IndexPreTransform(transform, self.faiss_index)

    @property
    def d(self) -> int:
        """Dimension of the vectors."""
        return len(self._mean)

    @property
    def ntotal(self) -> int:
        """Number of vectors."""
        return int(self.faiss_index.ntotal) + len(self._recent)

    def is_outgrown(self, vectors: int) -> bool:
        """Return whether many more lists would suit this number of vectors."""
        return vectors >= _MIN_GROWN and list_count(vectors) >= _MAX_GROWTH * self.lists

    def vectors(self, positions: Ids) -> Vectors:
        """Raise an error: the index holds codes."""
        raise NotImplementedError("an index of codes does not hold the vectors")

    def remove(self, removed: npt.NDArray[np.bool_]) -> None:
        """Raise an error: such an index is built again instead."""
        raise NotImplementedError("vectors cannot be removed from an index of codes")

    @property
    def lists(self) -> int:
        """Number of lists."""
        return len(self._centroids)

    def add(self, vectors: Vectors) -> None:
        """Add vectors, shape ``(n, dimension)``.

        They are kept as they are, projected, until ``encode`` or a further call makes codes of them: faiss packs the
        codes of a list again for each call.
        """
        projected = np.ascontiguousarray((vectors - self._mean) @ self._components, dtype=np.float32)
        if len(self._recent) + len(projected) > _MAX_RECENT:
            self.encode()
        if len(projected) > _MAX_RECENT:
            self.faiss_index.add(projected)
            return
        self._make_room(len(projected))
        self._buffer[self._end : self._end + len(projected)] = projected
        self._end += len(projected)

    @property
    def has_many_recent(self) -> bool:
        """Whether so many vectors have no codes yet that searches take longer."""
        return len(self._recent) > _MANY_RECENT

    def encode_some(self) -> bool:
        """Encode some of the vectors that have no codes yet; return whether there are others."""
        self.encode(_ENCODED_AT_ONCE)
        return len(self._recent) > 0

    def encode(self, limit: int = _MAX_RECENT) -> None:
        """Encode vectors that have no codes yet, by default all of them, in the order of addition."""
        vectors = self._recent[:limit]
        if not len(vectors):
            return
        self.faiss_index.add(vectors)
        self._first += len(vectors)
        if self._first == self._end:
            self._first = self._end = 0
            self._buffer = np.empty((_MANY_RECENT, self._buffer.shape[1]), np.float32)

    def search(
        self, query: Vectors, k: int, usable: npt.NDArray[np.bool_] | None, breadth: int | None
    ) -> tuple[Vectors, Ids]:
        """Search as ``PositionalIndex.search`` does; scores are approximate inner products, less a constant.

        One thread does all: a second one would have to be woken, which takes as long as half of the scan.
        """
        k = min(k + 1, self.ntotal)
        nprobe = min(breadth or IVF_NPROBE, self.lists)
        projected = np.ascontiguousarray(query @ self._components, dtype=np.float32)
        products = self._centroids @ projected
        # The nearest lists to the centred query: with the query as it is, words find their images in other lists.
        nearest = np.argpartition(self._offsets - products, nprobe - 1)[:nprobe]
        scores, positions = self._scan(projected, k, usable, nearest, products[nearest])
        found = positions >= 0
        recent_scores, recent_positions = self._scan_recent(projected, k, usable)
        return (
            np.concatenate([scores[found], recent_scores]),
            np.concatenate([positions[found], recent_positions]),
        )

    def _scan_recent(self, query: Vectors, k: int, usable: npt.NDArray[np.bool_] | None) -> tuple[Vectors, Ids]:
        encoded = int(self.faiss_index.ntotal)
        scores = self._recent @ query
        positions = np.arange(encoded, encoded + len(scores))
        if usable is not None:
            scores, positions = scores[usable[encoded:]], positions[usable[encoded:]]
        if k < len(scores):
            best = np.argpartition(-scores, k)[:k]
            scores, positions = scores[best], positions[best]
        return scores, positions

    @property
    def _recent(self) -> Vectors:
        return self._buffer[self._first : self._end]

    def _make_room(self, count: int) -> None:
        if self._end + count <= len(self._buffer):
            return
        recent = self._recent
        size = len(self._buffer)
        while size < len(recent) + count:
            size *= 2
        buffer = np.empty((size, self._buffer.shape[1]), np.float32)
        buffer[: len(recent)] = recent
        self._buffer, self._first, self._end = buffer, 0, len(recent)

    def _scan(
        self, query: Vectors, k: int, usable: npt.NDArray[np.bool_] | None, lists: Ids, products: Vectors
    ) -> tuple[Vectors, Ids]:
        faiss = load_faiss()
        selector = None if usable is None else selector_of(usable[: self.faiss_index.ntotal])
        scores, positions = np.empty(k, np.float32), np.empty(k, np.int64)
        lists, products = np.ascontiguousarray(lists, np.int64), np.ascontiguousarray(products, np.float32)
        parameters = faiss.SearchParametersIVF(sel=selector, nprobe=len(lists))
        # faiss's Python method of this name takes no parameters.
        self.faiss_index.search_preassigned_c(
            1,
            faiss.swig_ptr(query),
            k,
            faiss.swig_ptr(lists),
            faiss.swig_ptr(products),
            faiss.swig_ptr(scores),
            faiss.swig_ptr(positions),
            False,
            parameters,
            None,
        )
        return scores, positions


def _principal_components(centred: Vectors) -> Vectors:
    """Return the first principal components of vectors, rotated at random, as columns."""
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    count = min(MAX_COMPONENTS, centred.shape[1])
    first = directions[:, np.argsort(-variances)[:count]]
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((count, count)))
    return np.ascontiguousarray(first @ rotation, dtype=np.float32)
