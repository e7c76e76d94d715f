"""The nodes and queries that every contender gets: the same for a seed, made batch by batch, never all in memory."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

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
# With these two, the ten nearest neighbours of a query come from several clusters: from 9 among 20,000 nodes, where a
# cluster has 10, from 7.5 among 100,000, and still from 4.7 among 1,000,000, where it has 500. Runs print the number.
SPREAD = 1.2
SPECTRUM_DECAY = 0.7

FILTERS: dict[str, tuple[str, int]] = {"50 %": ("source", 2), "1 %": ("category", 100), "0.01 %": ("series", 10_000)}
"""Selectivity of an equality filter: the metadata key that it asks for, and how many values this has."""

_CYCLE = 10_000
_NAMESPACE = uuid.UUID("7a1f2f0e-5d0c-4a55-9c55-3d2f8a3f9b11")
_WORDS_PER_TEXT = 12
_CHARACTERS = (
    "飞机火车汽车轮船城市乡村山川河流海洋森林草原沙漠天空云彩太阳月亮星星雨水雪花微风"
    "红色蓝色绿色白色黑色黄色孩子老人青年医生教师工人农民画家歌手厨师苹果香蕉米饭面条"
    "茶叶咖啡桌子椅子窗户房屋桥梁道路公园学校医院商店书籍报纸照片电影音乐舞蹈足球篮球"
)
_WORDS = [_CHARACTERS[start : start + 2] for start in range(0, len(_CHARACTERS), 2)]

# First number of each random generator's seed sequence, so that no two draw the same numbers.
_MODEL, _NODES, _QUERIES, _TEXTS, _METADATA = range(5)


@dataclass(frozen=True)
class Batch:
    """Consecutive nodes of a data set.

    Attributes:
        numbers: Their numbers in the data set.
        vectors: Unit vectors, one row each.
        clusters: Cluster of each; -1 for uniform vectors.
        nodes: The nodes, which hold the vectors again as lists.
    """

    numbers: Numbers
    vectors: Vectors
    clusters: Numbers
    nodes: list[TextNode]


class Dataset:
    """Nodes with vectors, short Chinese texts, three metadata keys and documents.

    Clustered vectors are a mixture of Gaussians, centres and spread having the falling spectrum of real embeddings:
    in 512 equally strong directions, clusters would lie either far apart or in one indistinct ball. Uniform vectors
    are random directions, the worst case of every approximate index.

    Args:
        kind: ``"clustered"`` or ``"uniform"``.
        seed: Of everything.
        vary_filters: Whether each query filters by another value; else all ask for the same one.
    """

    def __init__(self, kind: str, seed: int, vary_filters: bool = False) -> None:
        self.kind = kind
        self._seed = seed
        self._vary_filters = vary_filters
        # Shuffled, so that the nodes that a filter finds do not lie at regular distances.
        self._cycle = self._generator(_METADATA).permutation(_CYCLE)

    def batches(self, start: int, stop: int, nodes: bool = True) -> Iterator[Batch]:
        """Yield the nodes from number ``start``, a multiple of ``BATCH``, up to ``stop``.

        Args:
            start: First number.
            stop: One past the last number.
            nodes: Whether to make the nodes too, and not the vectors only.
        """
        for first in range(start, stop, BATCH):
            numbers = np.arange(first, min(first + BATCH, stop))
            # The whole batch is drawn even if it is cut, so a node is the same in data sets of every size.
            vectors, clusters = self._draw(self._generator(_NODES, first), BATCH)
            vectors, clusters = vectors[: len(numbers)], clusters[: len(numbers)]
            yield Batch(numbers, vectors, clusters, self._nodes(numbers, vectors) if nodes else [])

    def queries(self, count: int) -> Vectors:
        """Return query vectors from the same distribution, none of them a node's."""
        return self._draw(self._generator(_QUERIES), count)[0]

    def filters(self, selectivity: str, query: int) -> MetadataFilters:
        """Return the filter of a selectivity for a query's number."""
        key, _ = FILTERS[selectivity]
        value = _metadata_value(key, int(self.filter_codes(selectivity, np.array([query]))[0]))
        return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=FilterOperator.EQ)])

    def filter_codes(self, selectivity: str, queries: Numbers) -> Numbers:
        """Return which value of a selectivity's key each query asks for."""
        # The value of the node with the query's number, or of the first node: so it is there in a data set of any size.
        return self.codes(selectivity, queries if self._vary_filters else np.zeros_like(queries))

    def codes(self, selectivity: str, numbers: Numbers) -> Numbers:
        """Return which value of a selectivity's key each node has."""
        return self._cycle[numbers % _CYCLE] % FILTERS[selectivity][1]

    def _nodes(self, numbers: Numbers, vectors: Vectors) -> list[TextNode]:
        words = self._generator(_TEXTS, int(numbers[0])).integers(len(_WORDS), size=(len(numbers), _WORDS_PER_TEXT))
        codes = {key: self.codes(selectivity, numbers) for selectivity, (key, _) in FILTERS.items()}
        return [
            TextNode(
                id_=node_id(number),
                text="".join(_WORDS[word] for word in words[row]),
                metadata={key: _metadata_value(key, int(of_key[row])) for key, of_key in codes.items()},
                relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document_id(number))},
                embedding=vectors[row].tolist(),
            )
            for row, number in enumerate(numbers.tolist())
        ]

    def _draw(self, generator: np.random.Generator, count: int) -> tuple[Vectors, Numbers]:
        noise = generator.standard_normal((count, DIMENSION), dtype=np.float32)
        if self.kind == "uniform":
            return _unit(noise), np.full(count, -1)
        clusters = generator.integers(CLUSTERS, size=count)
        return _unit((self._centres[clusters] + SPREAD * noise) @ self._directions), clusters

    @cached_property
    def _centres(self) -> Vectors:
        return self._generator(_MODEL, 0).standard_normal((CLUSTERS, DIMENSION), dtype=np.float32)

    @cached_property
    def _directions(self) -> Vectors:
        """An orthogonal basis, the i-th direction weakened as a power of i."""
        rotation, _ = np.linalg.qr(self._generator(_MODEL, 1).standard_normal((DIMENSION, DIMENSION)))
        strength = np.arange(1, DIMENSION + 1) ** -SPECTRUM_DECAY
        return np.ascontiguousarray(strength[:, None] * rotation, dtype=np.float32)

    def _generator(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *purpose])


class ExactNeighbours:
    """The true ``k`` nearest nodes of queries, kept up while batches go by.

    Args:
        dataset: Where the batches come from.
        queries: Query vectors.
        selectivity: Count only nodes that each query's filter lets through.
        k: How many.
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
        """Take a batch into account."""
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
        """Return the mean share of the true neighbours that was found.

        Args:
            answers: Number of a query, and the node ids that were found for it.
        """
        shares = []
        for query, found in answers:
            true = {node_id(int(number)) for number in self._numbers[query][np.isfinite(self._scores[query])]}
            shares.append(len(true.intersection(found)) / len(true))
        return float(np.mean(shares))

    def clusters(self) -> float:
        """Return from how many clusters a query's true neighbours come, on average."""
        return float(np.mean([len(np.unique(row)) for row in self._clusters]))


def node_id(number: int) -> str:
    """Return a node's id: a UUID, as LlamaIndex gives, for Qdrant takes no other texts."""
    return str(uuid.uuid5(_NAMESPACE, f"node {number}"))


def document_id(number: int) -> str:
    """Return the id of the document that a node comes from."""
    return str(uuid.uuid5(_NAMESPACE, f"document {number // NODES_PER_DOCUMENT}"))


def _metadata_value(key: str, code: int) -> str:
    return f"{key}-{code}"


def _unit(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
