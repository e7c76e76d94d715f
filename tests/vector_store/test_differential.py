"""The store gives the same answers as a naive one, after any sequence of random calls."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from llama_index.core.schema import BaseNode, ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from oracle import ORDER_OPERATORS, TEXT_OPERATORS, Oracle

from llama_index_mm_zhipu import FaissMultiModalVectorStore

LIST_OPERATORS = (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL)

# Few values, so that filters match; some of them are compared differently by SQL, JSON or floats.
INTS = (-1, 0, 1, 2, 3, 2**53 + 1, 10**30, 10**400)
FLOATS = (-0.0, 0.5, 1.0, 2.0, 0.1 + 0.2, 5e-324, float(2**53), 1e300)
TEXTS = ("", "a", "A", "ab", "1", "1.0", "true", "红", "红色", "一辆红色的汽车", "İ", "ß", "😀", "%", "'", "a\x00b")
KEYS = ("page", "tags", "标题", 'odd key\'s "name"')
NODE_IDS = ("a", "b", "c", "d", "e", "f", "g", "h", "1", "01", "节点", "it's", "a\x00b")
REF_DOCS = ("doc", "文档", "a")

# Values


def lists_of(*values: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    return st.one_of([st.lists(value, max_size=3) for value in values])


ints, floats, texts = (st.sampled_from(values) for values in (INTS, FLOATS, TEXTS))
scalars = st.one_of(ints, floats, texts, st.booleans(), st.none())
metadata = st.dictionaries(st.sampled_from(KEYS), st.one_of(scalars, st.lists(scalars, max_size=3)), max_size=4)

# Filters


def values_for(operator: FilterOperator) -> st.SearchStrategy[object]:
    if operator in TEXT_OPERATORS:
        return texts
    if operator in LIST_OPERATORS:
        return lists_of(ints, floats, texts)
    single = st.one_of(ints, floats, texts, st.none())
    return single if operator in ORDER_OPERATORS else single | lists_of(ints, floats, texts)


@st.composite
def single_filters(draw: st.DrawFn) -> MetadataFilter:
    operator = draw(st.sampled_from(FilterOperator))
    return MetadataFilter(
        key=draw(st.sampled_from((*KEYS, "missing"))),
        value=draw(values_for(operator)),
        operator=operator,
    )


def filters_nested(depth: int) -> st.SearchStrategy[MetadataFilters]:
    parts = single_filters() if depth == 1 else st.one_of(single_filters(), filters_nested(depth - 1))
    return st.builds(
        MetadataFilters,
        filters=st.lists(parts, max_size=3),
        condition=st.sampled_from((*FilterCondition, None)),
    )


filters = filters_nested(3)

# Nodes and queries


class Draft(NamedTuple):
    """A node, before the dimension of its vector is known."""

    node_id: str
    ref_doc: str | None
    vector: tuple[int, ...]
    metadata: dict[str, object]
    image: bool

    def node(self, dimension: int) -> TextNode:
        relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=self.ref_doc)} if self.ref_doc else {}
        class_, fields = (ImageNode, {"image_url": "https://example.com/a.jpg"}) if self.image else (TextNode, {})
        return class_(
            id_=self.node_id,
            text=f"文字 {self.node_id}",
            embedding=[float(x) for x in self.vector[:dimension]],
            metadata=self.metadata,
            relationships=relationships,
            **fields,
        )


dimensions = st.sampled_from((3, 4))
# Inner products of such numbers are exact, and many of them are equal.
vectors = st.tuples(*[st.integers(-2, 2)] * 4)
node_ids = st.lists(st.sampled_from((*NODE_IDS, "gone")), max_size=5)
drafts = st.builds(
    Draft,
    node_id=st.sampled_from(NODE_IDS),
    ref_doc=st.sampled_from((*REF_DOCS, None)),
    vector=vectors,
    metadata=metadata,
    image=st.booleans(),
)
batches = st.lists(drafts, max_size=8, unique_by=lambda draft: draft.node_id)


def dumped(nodes: Sequence[BaseNode] | None) -> list[dict[str, object]]:
    return [{**node.model_dump(exclude={"embedding"}), "class": type(node).__name__} for node in nodes or ()]


def where(key: str, operator: FilterOperator, value: Any) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


def opened(folder: Path, index_type: str | None) -> FaissMultiModalVectorStore:
    store = FaissMultiModalVectorStore(folder)
    if index_type is not None:
        store.reindex(index_type)
    return store


class StoreMachine(RuleBasedStateMachine):
    """A store on disk and the oracle, which get the same calls.

    Args:
        index_type: Index type; None for the store's default.
        steps: List to which each run appends the number of its calls.
    """

    def __init__(self, index_type: str | None, steps: list[int]) -> None:
        super().__init__()
        self.index_type = index_type
        self.folder = tempfile.TemporaryDirectory()
        self.store = opened(Path(self.folder.name), index_type)
        self.beside: FaissMultiModalVectorStore | None = None
        self.oracle = Oracle()
        self.dimension = 3
        self.all_steps = steps
        self.steps = -1

    def teardown(self) -> None:
        self.all_steps.append(self.steps)
        for store in (self.store, self.beside):
            if store is not None:
                store.close()
        self.folder.cleanup()

    @invariant()
    def counts_agree(self) -> None:
        self.steps += 1
        assert self.store.count() == len(self.oracle.nodes)

    # Changes

    @rule(batch=batches)
    def add(self, batch: list[Draft]) -> None:
        nodes = [draft.node(self.dimension) for draft in batch]
        assert self.store.add(nodes) == self.oracle.add(nodes)

    @rule(batch=batches, bad=drafts)
    def add_with_a_bad_node(self, batch: list[Draft], bad: Draft) -> None:
        nodes = [draft.node(self.dimension) for draft in batch if draft.node_id != bad.node_id]
        nodes.append(bad.node(self.dimension).model_copy(update={"embedding": None}))
        with pytest.raises(ValueError, match="has no embedding"):
            self.store.add(nodes)

    @rule(ref_doc=st.sampled_from((*REF_DOCS, "gone")))
    def delete(self, ref_doc: str) -> None:
        self.store.delete(ref_doc)
        self.oracle.delete(ref_doc)

    @rule(node_ids=node_ids, filters=st.none() | filters)
    def delete_nodes_by_id(self, node_ids: list[str], filters: MetadataFilters | None) -> None:
        self.store.delete_nodes(node_ids, filters)
        self.oracle.delete_nodes(node_ids, filters)

    @rule(filters=filters)
    def delete_nodes_by_filters(self, filters: MetadataFilters) -> None:
        if not filters.filters:
            with pytest.raises(ValueError, match="needs node_ids or filters"):
                self.store.delete_nodes(filters=filters)
            return
        self.store.delete_nodes(filters=filters)
        self.oracle.delete_nodes(filters=filters)

    # Only sometimes: few errors are possible in a small store.
    @precondition(lambda self: len(self.oracle.nodes) > 8)
    @rule(dimension=dimensions)
    def clear(self, dimension: int) -> None:
        self.store.clear()
        self.oracle.clear()
        self.dimension = dimension
        if self.index_type is not None:
            self.store.reindex(self.index_type)

    # Queries

    @rule(
        vector=vectors,
        k=st.integers(0, len(NODE_IDS) + 2),
        filters=st.none() | filters,
        node_ids=st.none() | node_ids,
        doc_ids=st.none() | st.lists(st.sampled_from((*REF_DOCS, "gone")), max_size=2),
    )
    def query(
        self,
        vector: tuple[int, ...],
        k: int,
        filters: MetadataFilters | None,
        node_ids: list[str] | None,
        doc_ids: list[str] | None,
    ) -> None:
        query = VectorStoreQuery(
            query_embedding=[float(x) for x in vector[: self.dimension]],
            similarity_top_k=k,
            filters=filters,
            node_ids=node_ids,
            doc_ids=doc_ids,
        )
        result, expected = self.store.query(query), self.oracle.query(query)
        every = self.oracle.query(replace(query, similarity_top_k=len(self.oracle.nodes)))
        scores = dict(zip(every.ids or (), every.similarities or (), strict=True))

        assert result.similarities == expected.similarities == [scores.get(node_id) for node_id in result.ids or ()]
        assert len(set(result.ids or ())) == len(result.ids or ())
        # A graph may return any of several equals.
        assert result.ids == expected.ids or self.index_type is not None
        assert dumped(result.nodes) == dumped([self.oracle.nodes[node_id] for node_id in result.ids or ()])

    @rule(vector=vectors, k=st.integers(1, len(NODE_IDS)))
    def query_all(self, vector: tuple[int, ...], k: int) -> None:
        self.query(vector, k, None, None, None)

    @rule(node_ids=st.none() | node_ids, filters=st.none() | filters)
    def get_nodes(self, node_ids: list[str] | None, filters: MetadataFilters | None) -> None:
        assert dumped(self.store.get_nodes(node_ids, filters)) == dumped(self.oracle.get_nodes(node_ids, filters))

    # Files

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = FaissMultiModalVectorStore.from_persist_dir(self.folder.name)

    @rule()
    def reopen_without_closing(self) -> None:
        del self.store
        self.store = FaissMultiModalVectorStore.from_persist_dir(self.folder.name)

    @rule()
    def use_another_store_object(self) -> None:
        other = self.beside or FaissMultiModalVectorStore.from_persist_dir(self.folder.name)
        self.store, self.beside = other, self.store

    @rule()
    def persist(self) -> None:
        self.store.persist()

    @rule()
    def persist_elsewhere(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.store.persist(str(Path(folder) / "default__vector_store.json"))
            with FaissMultiModalVectorStore.from_persist_dir(folder) as copy:
                assert dumped(copy.get_nodes()) == dumped(self.oracle.get_nodes())


def run(index_type: str | None, runs: int, steps_each: int, *, thorough: bool) -> int:
    """Run the machine and return the number of its calls.

    Args:
        index_type: Index type.
        runs: Number of runs, each with a new store.
        steps_each: Calls in a run.
        thorough: Whether to make other calls each time and to shrink a failure, which takes minutes.
    """
    steps: list[int] = []
    run_state_machine_as_test(
        lambda: StoreMachine(index_type, steps),  # type: ignore[arg-type]
        settings=settings(
            max_examples=runs,
            stateful_step_count=steps_each,
            derandomize=not thorough,
            database=None,
            deadline=None,
            print_blob=True,
            phases=[Phase.generate, Phase.shrink] if thorough else [Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
    return sum(steps)


@pytest.mark.parametrize("index_type", [None, "hnsw"])
def test_random_calls_agree_with_the_oracle(index_type: str | None) -> None:
    assert run(index_type, runs=24, steps_each=30, thorough=False) >= 300


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("index_type", [None, "hnsw"])
def test_many_random_calls_agree_with_the_oracle(index_type: str | None) -> None:
    assert run(index_type, runs=300, steps_each=50, thorough=True) >= 10_000


# Filters and ties

Stores = tuple[FaissMultiModalVectorStore, Oracle]

SINGLE = (*INTS, *FLOATS, *TEXTS)
OF_EVERY_TYPE = (*SINGLE, True, False, None, [], *([value] for value in (*SINGLE, True)), [1, None], ["a", 1.0, False])


def each_under(key: str, values: Sequence[object]) -> list[dict[str, object]]:
    return [{key: value} for value in values]


RICH: list[dict[str, object]] = [
    {},
    *each_under("page", [None, "", [], 0, 1, True, False, 1.0, 2, 10**30, "1", [1, None], [True], ["1"]]),
    *each_under("标题", ["", "a", "红", "一辆红色的汽车", "a\x00b", "İ", 0.5]),
    *each_under("tags", [[], ["a"], ["a", "红"], "a", 1]),
    {"page": 3, "tags": ["红", "a"], "标题": "红色", KEYS[3]: 0.1 + 0.2},
    {"page": 0.5, "tags": ["", "a\x00b"], "标题": None, KEYS[3]: [2.0, 3]},
    {"page": float(2**53), "tags": ["一辆红色的汽车"], "标题": ["ab", "A"]},
    {"page": 2**53 + 1, "tags": "红色", "标题": "a"},
]


def both_with(metadata: Sequence[dict[str, object]]) -> Stores:
    nodes = [TextNode(id_=f"n{i}", text="x", embedding=[1.0], metadata=data) for i, data in enumerate(metadata)]
    store, oracle = FaissMultiModalVectorStore(), Oracle()
    store.add(nodes)
    oracle.add(nodes)
    return store, oracle


def ids_from_both(stores: Stores, filters: MetadataFilters) -> tuple[list[str], list[str]]:
    store, oracle = stores
    return (
        [node.node_id for node in store.get_nodes(filters=filters)],
        [node.node_id for node in oracle.get_nodes(filters=filters)],
    )


@pytest.fixture(scope="module")
def rich() -> Stores:
    return both_with(RICH)


@pytest.fixture(scope="module")
def of_every_type() -> Stores:
    return both_with([{}, *each_under("page", OF_EVERY_TYPE)])


@pytest.mark.parametrize("operator", FilterOperator)
def test_each_operator_finds_what_the_oracle_finds(of_every_type: Stores, operator: FilterOperator) -> None:
    values: list[object] = [] if operator in LIST_OPERATORS else [*TEXTS]
    if operator not in (*TEXT_OPERATORS, *LIST_OPERATORS):
        values += [*INTS, *FLOATS, None]
    if operator not in (*TEXT_OPERATORS, *ORDER_OPERATORS):
        values += [[], *([value] for value in SINGLE), ["a", "红"], [2.0, 0.5], [3, 1, 1]]
    answers = {repr(value): ids_from_both(of_every_type, where("page", operator, value)) for value in values}
    assert {value: both for value, both in answers.items() if both[0] != both[1]} == {}


@given(filters=filters)
@settings(max_examples=400, derandomize=True, deadline=None)
def test_filters_find_what_the_oracle_finds(rich: Stores, filters: MetadataFilters) -> None:
    found, expected = ids_from_both(rich, filters)
    assert found == expected


@pytest.mark.parametrize("value", [5, 0.5, None, ["红"]])
@pytest.mark.parametrize("operator", TEXT_OPERATORS)
def test_text_operators_need_text(rich: Stores, operator: FilterOperator, value: object) -> None:
    nested = MetadataFilters(filters=[where("标题", operator, value)], condition=FilterCondition.OR)
    for store in rich:
        with pytest.raises(TypeError):
            store.get_nodes(filters=nested)


@pytest.mark.parametrize("operator", ORDER_OPERATORS)
@pytest.mark.parametrize("value", [[], [1], ["a"]])
def test_order_operators_take_no_lists(rich: Stores, operator: FilterOperator, value: list[object]) -> None:
    for store in rich:
        with pytest.raises(TypeError):
            store.get_nodes(filters=where("page", operator, value))


@pytest.mark.parametrize("k", [1, 7, 50, 99, 100, 101, 399, 1000])
@pytest.mark.parametrize("restricted", [False, True])
def test_the_oldest_of_many_equal_vectors_are_found(k: int, restricted: bool) -> None:
    rows = np.random.default_rng(0).integers(-1, 2, (400, 3)).tolist()
    nodes = [TextNode(id_=f"n{i}", text="x", embedding=row, metadata={"page": i % 5}) for i, row in enumerate(rows)]
    query = VectorStoreQuery(
        query_embedding=[1.0, 2.0, 0.0],
        similarity_top_k=k,
        filters=where("page", FilterOperator.NE, 0) if restricted else None,
    )
    store, oracle = FaissMultiModalVectorStore(), Oracle()
    store.add(nodes)
    oracle.add(nodes)

    result, expected = store.query(query), oracle.query(query)

    assert (result.ids, result.similarities) == (expected.ids, expected.similarities)


def test_another_store_object_follows_clearing_and_refilling(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add([TextNode(id_="a", text="x", embedding=[1.0, 0.0, 0.0])])
        with FaissMultiModalVectorStore(tmp_path) as other:
            store.clear()
            store.add([TextNode(id_="b", text="x", embedding=[1.0, 0.0])])
            store.delete_nodes(["b"])
            assert other.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=1)).ids == []
