"""Nodes whose content is determined by two numbers, queries that return all of them, and random calls of a store.

The two numbers are that of the node, and its revision, which is the call that last added it. A dictionary of them
(``State``) tells what a store must return for every type of query.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import numpy.testing
import numpy.typing as npt
from llama_index.core.schema import BaseNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore

State = dict[int, int]
"""The revision of every node of a store, by its number."""

NUMBERS = 300
"""Node numbers of each writer."""

DOCUMENT = 10
"""Nodes of a document."""

_WORD = "飞机"
_QUERY = np.linspace(1, 2, 8, dtype=np.float32)
_ALL = 10_000


def vector_of(number: int, revision: int) -> npt.NDArray[np.float32]:
    """Return a vector that is different for every node and revision."""
    return np.cos(np.arange(1, 9) * (number + 1) + revision).astype(np.float32)


def node_of(number: int, revision: int) -> TextNode:
    """Return the node with this number and revision."""
    return TextNode(
        id_=f"n{number}",
        text=f"{_WORD} r{revision} 第{number}张",
        embedding=vector_of(number, revision).tolist(),
        metadata={"number": number, "revision": revision},
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"d{number // DOCUMENT}")},
    )


@lru_cache(maxsize=10_000)
def _fields(number: int, revision: int) -> dict[str, Any]:
    return node_of(number, revision).model_dump(exclude={"embedding"})


def state_of(nodes: list[BaseNode]) -> State:
    """Return numbers and revisions of nodes, after checking that each is complete and none occurs twice."""
    for node in nodes:
        expected = _fields(node.metadata["number"], node.metadata["revision"])
        assert node.model_dump(exclude={"embedding"}) == expected
    state = {node.metadata["number"]: node.metadata["revision"] for node in nodes}
    assert len(state) == len(nodes), "a node was returned twice"
    return state


def by_listing(store: FaissMultiModalVectorStore) -> State:
    """Return every node, by ``get_nodes``."""
    return state_of(store.get_nodes())


def by_vector(store: FaissMultiModalVectorStore, **restrictions: Any) -> State:
    """Return every node, by a vector query, after checking all scores."""
    result = store.query(VectorStoreQuery(query_embedding=_QUERY.tolist(), similarity_top_k=_ALL, **restrictions))
    state = state_of(list(result.nodes or []))
    assert result.similarities == sorted(result.similarities or [], reverse=True)
    products = [float(_QUERY @ vector_of(*node)) for node in state.items()]
    numpy.testing.assert_allclose(result.similarities or [], products, rtol=1e-4, atol=1e-4)
    return state


def by_filter(store: FaissMultiModalVectorStore) -> State:
    """Return every node, by a vector query with a filter that all nodes meet."""
    numbered = MetadataFilter(key="number", value=0, operator=FilterOperator.GTE)
    return by_vector(store, filters=MetadataFilters(filters=[numbered]))


def by_words(store: FaissMultiModalVectorStore, words: str = _WORD) -> State:
    """Return the nodes whose text contains words; by default a word that all texts contain."""
    query = VectorStoreQuery(query_str=words, similarity_top_k=_ALL, mode=VectorStoreQueryMode.TEXT_SEARCH)
    return state_of(list(store.query(query).nodes or []))


def by_both(store: FaissMultiModalVectorStore) -> State:
    """Return every node, by a hybrid query."""
    query = VectorStoreQuery(
        query_embedding=_QUERY.tolist(), query_str=_WORD, similarity_top_k=_ALL, mode=VectorStoreQueryMode.HYBRID
    )
    return state_of(list(store.query(query).nodes or []))


Query = Callable[[FaissMultiModalVectorStore], State]
QUERIES: list[Query] = [by_vector, by_listing, by_filter, by_words, by_both]


_not_closed: list[FaissMultiModalVectorStore] = []


def state_in(folder: Path, close: bool = True) -> State:
    """Open a store and return its nodes, after checking that every type of query returns the same."""
    store = FaissMultiModalVectorStore(folder)
    state = by_listing(store)
    for query in QUERIES:
        assert query(store) == state, f"{query.__name__} and by_listing do not return the same"
    assert store.count() == len(state)
    for revision in set(state.values()):
        assert by_words(store, f"r{revision}") == {n: r for n, r in state.items() if r == revision}
    with closing(sqlite3.connect(folder / "default.sqlite3")) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    if close:
        store.close()
    else:
        _not_closed.append(store)
    return state


# Calls


class Call(NamedTuple):
    """A method call that changes a store.

    Attributes:
        name: Name of the method.
        revision: Revision of the added nodes.
        numbers: Numbers of the nodes, or, for ``delete``, the number of a document.
    """

    name: str
    revision: int = 0
    numbers: list[int] = []  # noqa: RUF012  The default of a NamedTuple is never changed.

    def perform(self, store: FaissMultiModalVectorStore) -> None:
        """Call the method."""
        if self.name == "add":
            store.add([node_of(number, self.revision) for number in self.numbers])
        elif self.name == "delete":
            (document,) = self.numbers
            store.delete(f"d{document}")
        elif self.name == "delete_nodes":
            store.delete_nodes([f"n{number}" for number in self.numbers])
        else:
            getattr(store, self.name)()

    def after(self, state: State) -> State:
        """Return the state of a store after the call."""
        if self.name == "add":
            return {**state, **dict.fromkeys(self.numbers, self.revision)}
        if self.name == "delete":
            return {n: r for n, r in state.items() if n // DOCUMENT not in self.numbers}
        if self.name == "delete_nodes":
            return {n: r for n, r in state.items() if n not in self.numbers}
        return {} if self.name == "clear" else state


def random_call(random: Random, revision: int, share: int | None = None) -> Call:
    """Return a random call. Most calls add nodes, many of which exist already.

    Args:
        random: Random number generator.
        revision: Revision of added nodes.
        share: Number of the writer, each of which has node numbers of its own. None for a single writer, which may also
            clear the store.
    """
    first = (share or 0) * NUMBERS
    clearing = 1 if share is None else 0
    name = random.choices(["add", "delete", "delete_nodes", "persist", "clear"], [60, 15, 15, 9, clearing])[0]
    if name == "delete":
        return Call(name, numbers=[random.randrange(first // DOCUMENT, (first + NUMBERS) // DOCUMENT)])
    if name not in ("add", "delete_nodes"):
        return Call(name, revision)
    return Call(name, revision, random.sample(range(first, first + NUMBERS), random.randint(1, 50)))
