"""Nodes with Chinese captions, and the questions that ``stores.py`` asks about them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import product

import numpy as np
from dataset import CHARACTERS, Batch, Dataset, Vectors, document_id, node_id
from llama_index.core.schema import ImageNode, NodeRelationship, RelatedNodeInfo
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

K = 10
FILTER = "1 %"
"""Selectivity of the filter, a key of ``dataset.FILTERS``; each question filters by another value."""

KINDS = ("vector", "filter", "text", "hybrid")
"""Types of questions: by vector, by vector with a filter, by words, and by words and vector."""

_WORDS = 5_000
_MIN_WORDS, _MAX_WORDS = 4, 20
_WORDS_PER_QUESTION = 2
# The most frequent word is in 10 % of the captions, half of the words of questions are in less than 0.8 %.
_FREQUENCY_OFFSET = 20
_PAGES, _TAGS, _TAGS_PER_NODE = 100, 50, 2

# First numbers in seeds of random generators; ``dataset`` uses the smaller ones.
_VOCABULARY, _CAPTIONS, _QUESTIONS = range(100, 103)


class Questions:
    """The same image nodes and questions for the same seed.

    Vectors, documents and categories are those of ``Dataset``. Captions are 4 to 20 words of two characters, whose
    frequencies fall with their rank, as in natural texts.

    Args:
        size: Number of nodes.
        count: Number of questions.
        seed: Seed of all random numbers.
    """

    def __init__(self, size: int, count: int, seed: int) -> None:
        self.size = size
        self.dataset = Dataset("clustered", seed, vary_filters=True)
        self._count = count
        self._seed = seed

    @cached_property
    def vectors(self) -> Vectors:
        """Vectors of the questions, shape ``(count, DIMENSION)``."""
        return self.dataset.queries(self._count)

    def nodes(self) -> Iterator[ImageNode]:
        """Yield all nodes; few are in memory at a time."""
        for batch in self.batches():
            yield from self._nodes_of(batch)

    def batches(self) -> Iterator[Batch]:
        """Yield the vectors of all nodes."""
        return self.dataset.batches(0, self.size, nodes=False)

    def query(self, kind: str, number: int) -> VectorStoreQuery:
        """Return a question.

        Args:
            kind: One of ``KINDS``.
            number: Number of the question.
        """
        vector, words = self.vectors[number].tolist(), self._words_of_question(number)
        if kind == "text":
            return VectorStoreQuery(query_str=words, similarity_top_k=K, mode=VectorStoreQueryMode.TEXT_SEARCH)
        if kind == "hybrid":
            mode = VectorStoreQueryMode.HYBRID
            return VectorStoreQuery(query_embedding=vector, query_str=words, similarity_top_k=K, mode=mode)
        filters = self.dataset.filters(FILTER, number) if kind == "filter" else None
        return VectorStoreQuery(query_embedding=vector, similarity_top_k=K, filters=filters)

    def _nodes_of(self, batch: Batch) -> Iterator[ImageNode]:
        generator = self._generator(_CAPTIONS, int(batch.numbers[0]))
        count = len(batch.numbers)
        words = generator.choice(_WORDS, size=(count, _MAX_WORDS), p=self._frequencies)
        lengths = generator.integers(_MIN_WORDS, _MAX_WORDS, size=count, endpoint=True)
        tags = generator.integers(_TAGS, size=(count, _TAGS_PER_NODE))
        categories = self.dataset.codes(FILTER, batch.numbers)
        for row, number in enumerate(batch.numbers.tolist()):
            yield ImageNode(
                id_=node_id(number),
                text="".join(self._vocabulary[word] for word in words[row, : lengths[row]]),
                image_path=f"/data/slides/{number:07}.jpg",
                metadata={
                    "page": number % _PAGES + 1,
                    "category": f"category-{categories[row]}",
                    "tags": [f"标签{tag}" for tag in tags[row]],
                },
                relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document_id(number))},
                embedding=batch.vectors[row].tolist(),
            )

    def _words_of_question(self, number: int) -> str:
        generator = self._generator(_QUESTIONS, number)
        words = generator.choice(_WORDS, size=_WORDS_PER_QUESTION, p=self._frequencies)
        return " ".join(self._vocabulary[word] for word in words)

    @cached_property
    def _vocabulary(self) -> list[str]:
        words = ["".join(pair) for pair in product(sorted(set(CHARACTERS)), repeat=2)]
        return [words[place] for place in self._generator(_VOCABULARY).choice(len(words), _WORDS, replace=False)]

    @cached_property
    def _frequencies(self) -> Vectors:
        frequencies = 1 / (np.arange(_WORDS) + 1 + _FREQUENCY_OFFSET)
        return frequencies / frequencies.sum()

    def _generator(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *purpose])
