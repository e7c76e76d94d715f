"""The nodes and queries of all contenders: the same for the same seed, generated in batches to save memory."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

Vectors = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

DIMENSION = 512
BATCH = 2048
NODES_PER_DOCUMENT = 4

CLUSTERS = 2000
# With these values, the ten nearest neighbours of a query come from several clusters: from 9 with 20,000 nodes (10 in a
# cluster), from 7.5 with 100,000, and from 4.7 with 1,000,000 (500 in a cluster). The benchmark prints the number.
SPREAD = 1.2
SPECTRUM_DECAY = 0.7

FILTERS: dict[str, tuple[str, int]] = {"50 %": ("source", 2), "1 %": ("category", 100), "0.01 %": ("series", 10_000)}
"""The metadata key of the equality filter of each selectivity, and the number of its values."""

_CYCLE = 10_000
_NAMESPACE = uuid.UUID("7a1f2f0e-5d0c-4a55-9c55-3d2f8a3f9b11")
_WORDS_PER_TEXT = 12
CHARACTERS = (
    "飞机火车汽车轮船城市乡村山川河流海洋森林草原沙漠天空云彩太阳月亮星星雨水雪花微风"
    "红色蓝色绿色白色黑色黄色孩子老人青年医生教师工人农民画家歌手厨师苹果香蕉米饭面条"
    "茶叶咖啡桌子椅子窗户房屋桥梁道路公园学校医院商店书籍报纸照片电影音乐舞蹈足球篮球"
)
_WORDS = [CHARACTERS[start : start + 2] for start in range(0, len(CHARACTERS), 2)]

# First number in the seed of each random generator, so that no two generate the same numbers.
_MODEL, _NODES, _QUERIES, _TEXTS, _METADATA, _TEXT_QUERIES = range(6)


@dataclass(frozen=True)
class Batch:
    """Consecutive nodes of a data set.

    Attributes:
        numbers: Numbers of the nodes in the data set.
        vectors: Unit vectors, one row for each node.
        clusters: Cluster of each node; -1 for uniform vectors.
        nodes: The nodes, with the vectors as lists.
    """

    numbers: Numbers
    vectors: Vectors
    clusters: Numbers
    nodes: list[TextNode]


class Dataset:
    """Nodes with vectors, short Chinese texts, three metadata keys and documents.

    Clustered vectors are a mixture of Gaussians. Centres and deviations have the decreasing spectrum of real
    embeddings: in 512 equally strong directions, clusters would be either far apart or indistinct. Uniform vectors are
    random directions, the worst case of every approximate index.

    Args:
        distribution: ``"clustered"`` or ``"uniform"``.
        seed: Seed of all random numbers.
        vary_filters: Whether each query filters by another value, instead of all by the same one.
    """

    def __init__(self, distribution: str, seed: int, vary_filters: bool = False) -> None:
        self.distribution = distribution
        self._seed = seed
        self._vary_filters = vary_filters
        # Shuffled, so that the nodes that meet a filter are not at regular distances.
        self._cycle = self._generator(_METADATA).permutation(_CYCLE)

    def batches(self, start: int, stop: int, nodes: bool = True) -> Iterator[Batch]:
        """Yield the nodes from number ``start``, a multiple of ``BATCH``, up to ``stop``.

        Args:
            start: First number.
            stop: One past the last number.
            nodes: Whether to generate the nodes, and not only the vectors.
        """
        for first in range(start, stop, BATCH):
            numbers = np.arange(first, min(first + BATCH, stop))
            # The whole batch is generated even if it is cut, so that a node is the same in data sets of every size.
            vectors, clusters = self._draw(self._generator(_NODES, first), BATCH)
            vectors, clusters = vectors[: len(numbers)], clusters[: len(numbers)]
            yield Batch(numbers, vectors, clusters, self._nodes(numbers, vectors) if nodes else [])

    def queries(self, count: int) -> Vectors:
        """Return query vectors from the same distribution, which no node has."""
        return self._draw(self._generator(_QUERIES), count)[0]

    def words(self, count: int, in_each: int) -> list[str]:
        """Return queries of words of two characters that texts have; about every fifth text has each of them."""
        generator = self._generator(_TEXT_QUERIES)
        return [
            " ".join(_WORDS[word] for word in generator.choice(len(_WORDS), in_each, replace=False))
            for _ in range(count)
        ]

    def filters(self, selectivity: str, query: int) -> MetadataFilters:
        """Return the filter of a selectivity for the query with a number."""
        key, _ = FILTERS[selectivity]
        value = _metadata_value(key, int(self.filter_codes(selectivity, np.array([query]))[0]))
        return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=FilterOperator.EQ)])

    def filter_codes(self, selectivity: str, queries: Numbers) -> Numbers:
        """Return the number of the value by which each query filters."""
        # The value of the node with the query's number, or of the first node: it exists in data sets of every size.
        return self.codes(selectivity, queries if self._vary_filters else np.zeros_like(queries))

    def codes(self, selectivity: str, numbers: Numbers) -> Numbers:
        """Return the number of the value that each node has under the key of a selectivity."""
        return self._cycle[numbers % _CYCLE] % FILTERS[selectivity][1]

    def columns(self, numbers: Numbers, vectors: Vectors) -> dict[str, Any]:
        """Return the nodes of a batch as arguments of the store's ``add_columns``."""
        words = self._generator(_TEXTS, int(numbers[0])).integers(len(_WORDS), size=(len(numbers), _WORDS_PER_TEXT))
        codes = {key: self.codes(selectivity, numbers).tolist() for selectivity, (key, _) in FILTERS.items()}
        return {
            "vectors": vectors,
            "node_ids": [node_id(number) for number in numbers.tolist()],
            "texts": ["".join([_WORDS[word] for word in row]) for row in words.tolist()],
            "ref_doc_ids": [document_id(number) for number in numbers.tolist()],
            "metadata": {key: [_metadata_value(key, code) for code in of_key] for key, of_key in codes.items()},
        }

    def _nodes(self, numbers: Numbers, vectors: Vectors) -> list[TextNode]:
        columns = self.columns(numbers, vectors)
        metadata = [
            dict(zip(columns["metadata"], row, strict=True)) for row in zip(*columns["metadata"].values(), strict=True)
        ]
        return [
            TextNode(
                id_=columns["node_ids"][row],
                text=columns["texts"][row],
                metadata=metadata[row],
                relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=columns["ref_doc_ids"][row])},
                embedding=vectors[row].tolist(),
            )
            for row in range(len(numbers))
        ]

    def _draw(self, generator: np.random.Generator, count: int) -> tuple[Vectors, Numbers]:
        noise = generator.standard_normal((count, DIMENSION), dtype=np.float32)
        if self.distribution == "uniform":
            return _unit(noise), np.full(count, -1)
        clusters = generator.integers(CLUSTERS, size=count)
        return _unit((self._centres[clusters] + SPREAD * noise) @ self._directions), clusters

    @cached_property
    def _centres(self) -> Vectors:
        return self._generator(_MODEL, 0).standard_normal((CLUSTERS, DIMENSION), dtype=np.float32)

    @cached_property
    def _directions(self) -> Vectors:
        """An orthogonal basis, whose i-th direction is scaled by a power of i."""
        rotation, _ = np.linalg.qr(self._generator(_MODEL, 1).standard_normal((DIMENSION, DIMENSION)))
        strength = np.arange(1, DIMENSION + 1) ** -SPECTRUM_DECAY
        return np.ascontiguousarray(strength[:, None] * rotation, dtype=np.float32)

    def _generator(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *purpose])


class ExactNeighbours:
    """The true ``k`` nearest nodes of queries, updated with each batch.

    Args:
        dataset: Data set of the batches.
        queries: Query vectors.
        selectivity: Selectivity of the filters of the queries; None for no filters.
        k: Number of nodes.
    """

    def __init__(self, dataset: Dataset, queries: Vectors, selectivity: str | None = None, k: int = 10) -> None:
        self._dataset = dataset
        self._queries = queries
        self._selectivity = selectivity
        self._k = k
        self._scores = np.empty((len(queries), 0), dtype=np.float32)
        self._numbers = np.empty((len(queries), 0), dtype=np.int64)
        self._clusters = np.empty((len(queries), 0), dtype=np.int64)

    def see(self, batch: Batch) -> None:
        """Update the nearest nodes with a batch."""
        scores = self._queries @ batch.vectors.T
        if self._selectivity is not None:
            wanted = self._dataset.filter_codes(self._selectivity, np.arange(len(self._queries)))
            scores[wanted[:, None] != self._dataset.codes(self._selectivity, batch.numbers)] = -np.inf
        shape = scores.shape
        scores = np.concatenate([self._scores, scores], axis=1)
        best = np.argpartition(-scores, min(self._k, scores.shape[1]) - 1, axis=1)[:, : self._k]
        numbers = np.concatenate([self._numbers, np.broadcast_to(batch.numbers, shape)], axis=1)
        clusters = np.concatenate([self._clusters, np.broadcast_to(batch.clusters, shape)], axis=1)
        self._scores = np.take_along_axis(scores, best, axis=1)
        self._numbers = np.take_along_axis(numbers, best, axis=1)
        self._clusters = np.take_along_axis(clusters, best, axis=1)

    def recall(self, answers: Sequence[tuple[int, Sequence[str]]]) -> float:
        """Return the mean share of the true neighbours that were found.

        Args:
            answers: Number of each query, and the node ids that were found for it.
        """
        shares = []
        for query, found in answers:
            true = {node_id(int(number)) for number in self._numbers[query][np.isfinite(self._scores[query])]}
            shares.append(len(true.intersection(found)) / len(true))
        return float(np.mean(shares))

    def clusters(self) -> float:
        """Return the mean number of clusters that the true neighbours of a query come from."""
        return float(np.mean([len(np.unique(row)) for row in self._clusters]))


def node_id(number: int) -> str:
    """Return the id of a node: a UUID, like LlamaIndex's ids, because Qdrant accepts no other text."""
    return str(uuid.uuid5(_NAMESPACE, f"node {number}"))


def document_id(number: int) -> str:
    """Return the id of the document of a node."""
    return str(uuid.uuid5(_NAMESPACE, f"document {number // NODES_PER_DOCUMENT}"))


def _metadata_value(key: str, code: int) -> str:
    return f"{key}-{code}"


def _unit(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
