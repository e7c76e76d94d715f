"""Searches in PostgreSQL: with every type of index, with filters of any size, and by words as the embedded store."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from filter_cases import METADATA, where
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from oracle import matches
from postgres_server import PostgresServer
from sqlalchemy import create_engine, event
from store_calls import OpenStore, ask, node

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.stores import ExternalVectorStore
from llama_index_mm_zhipu.stores.postgres.vectors import find_index
from llama_index_mm_zhipu.vector_store.vector_file import Vectors

pytestmark = pytest.mark.integration

TEXT_MODES = (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.HYBRID)


# Vectors

INDEXES = {
    "hnsw, inner product": ("hnsw (embedding vector_ip_ops)", "<#>"),
    "hnsw, cosine": ("hnsw (embedding vector_cosine_ops)", "<=>"),
    "hnsw, Euclidean": ("hnsw (embedding vector_l2_ops)", "<->"),
    "ivfflat, inner product": ("ivfflat (embedding vector_ip_ops) with (lists = 50)", "<#>"),
    "ivfflat, cosine": ("ivfflat (embedding vector_cosine_ops) with (lists = 50)", "<=>"),
}


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    """Vectors of about the same length, shape ``(3000, 16)``, in clusters as those of images."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 16)) + 2 * rng.normal(size=(30, 16))[rng.integers(30, size=3000)]
    vectors *= rng.uniform(0.9, 1.0, size=(3000, 1)) / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


@pytest.fixture
def many(open_postgres: OpenStore, vectors: Vectors) -> ExternalVectorStore:
    """A store of the vectors. A tenth of the nodes is red, and three are rare."""
    store: ExternalVectorStore = open_postgres(dimension=16)
    nodes = [
        TextNode(id_=str(i), embedding=vector.tolist(), metadata={"red": i % 10 == 0, "rare": i in (1, 1001, 2001)})
        for i, vector in enumerate(vectors)
    ]
    for start in range(0, len(nodes), 1000):
        store.add(nodes[start : start + 1000])
    return store


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_finds_about_the_nearest(
    many: ExternalVectorStore, vectors: Vectors, postgres: PostgresServer, schema: str, name: str
) -> None:
    definition, operator = INDEXES[name]
    table = f"{schema}.data_nodes"
    postgres.run_sql(f"create index on {table} using {definition}; analyze {table}")
    with create_engine(postgres.url()).connect() as connection:
        index = find_index(connection, table)
        assert index is not None
        assert index.operator == operator

    recalls = []
    for query in vectors[:20]:
        result = many.query(VectorStoreQuery(query_embedding=query.tolist(), similarity_top_k=10))
        scores = vectors @ query
        nearest = np.argsort(-scores)[:10]
        recalls.append(len({int(id_) for id_ in result.ids or []} & set(nearest.tolist())) / 10)
        assert result.similarities == pytest.approx(scores[[int(id_) for id_ in result.ids or []]].tolist(), abs=1e-5)
    assert np.mean(recalls) >= 0.9


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_finds_as_many_nodes_as_meet_a_filter(
    many: ExternalVectorStore, vectors: Vectors, postgres: PostgresServer, schema: str, name: str
) -> None:
    table = f"{schema}.data_nodes"
    postgres.run_sql(f"create index on {table} using {INDEXES[name][0]}; analyze {table}")
    query = vectors[7].tolist()
    for key, k, expected in (("red", 100, 100), ("red", 1000, 300), ("rare", 10, 3)):
        result = many.query(VectorStoreQuery(query_embedding=query, similarity_top_k=k, filters=where(key, 1)))
        assert len(result.ids or []) == expected
    assert sorted(result.ids or []) == ["1", "1001", "2001"]
    assert len(many.query(VectorStoreQuery(query_embedding=query, similarity_top_k=2500)).ids or []) == 2500


def test_settings_of_a_search_do_not_outlive_it(
    many: ExternalVectorStore, postgres: PostgresServer, schema: str
) -> None:
    postgres.run_sql(f"create index on {schema}.data_nodes using hnsw (embedding vector_ip_ops)")
    many.query(VectorStoreQuery(query_embedding=[1.0] * 16, similarity_top_k=500))
    with many.client.connect() as connection:
        assert connection.exec_driver_sql("show hnsw.ef_search").scalar() == "40"
        assert connection.exec_driver_sql("show hnsw.iterative_scan").scalar() == "off"


def test_the_breadth_that_the_store_was_made_with_is_used(open_postgres: OpenStore) -> None:
    kwargs = {"hnsw_m": 16, "hnsw_ef_construction": 64, "hnsw_ef_search": 123, "hnsw_dist_method": "vector_ip_ops"}
    store = open_postgres(hnsw_kwargs=kwargs)
    store.add([node("a")])
    parameters: list[str] = []
    event.listen(store.client, "before_cursor_execute", lambda *call: parameters.append(str(call[3])))
    assert store.query(ask()).ids == ["a"]
    assert any("hnsw.ef_search" in each and "123" in each for each in parameters)


# Filters


def group(condition: FilterCondition, *parts: MetadataFilter | MetadataFilters) -> MetadataFilters:
    return MetadataFilters(filters=list(parts), condition=condition)


@pytest.fixture
def described(open_postgres: OpenStore) -> ExternalVectorStore:
    store: ExternalVectorStore = open_postgres()
    store.add([TextNode(id_=node_id, embedding=[1.0, 1.0], metadata=METADATA[node_id]) for node_id in METADATA])
    return store


@pytest.mark.parametrize("key", ["page", "title", "tags", "price"])
@pytest.mark.parametrize("operator", ["in", "nin", "any", "all"])
def test_lists_of_10000_values_work(described: ExternalVectorStore, key: str, operator: str) -> None:
    texts: list[Any] = [*(f"{i}'" for i in range(10_000)), "汽车", "红", "动物"]
    numbers: list[Any] = [*range(3, 10_000), 21.59]
    for values in (texts, numbers):
        filters = where(key, values, FilterOperator(operator))
        expected = {node_id for node_id, metadata in METADATA.items() if matches(metadata, filters)}
        assert {each.node_id for each in described.get_nodes(filters=filters)} == expected


def test_filters_of_any_number_and_depth_work(described: ExternalVectorStore) -> None:
    nested = group(FilterCondition.AND, MetadataFilter(key="page", value=1))
    for level in range(98):
        nested = group((FilterCondition.NOT, FilterCondition.OR)[level % 2], nested)
    many = [MetadataFilter(key="page", value=i) for i in range(2, 3000)]
    wide = [group(condition, *many) for condition in FilterCondition]
    for filters in (nested, *wide):
        expected = {node_id for node_id, metadata in METADATA.items() if matches(metadata, filters)}
        assert {each.node_id for each in described.get_nodes(filters=filters)} == expected


def test_random_filters_find_what_they_mean(open_postgres: OpenStore) -> None:
    chance = random.Random(0)
    texts = ["", "a", "A", "b", "a\0", "a\1", "\0", "é", "É", "ß", "İ", "汽车", "车", "[]", "1", "a%", "\\", "'"]
    numbers = [0.0, 1.0, 1.5, -2.0, 2.0**53, 1e300, 0.1 + 0.2]
    integers = [0, 1, -2, 2**53 + 1, 10**400, -(10**400)]
    values: list[Any] = [
        *texts,
        *numbers,
        *integers,
        True,
        False,
        None,
        [],
        [None],
        ["a", 1],
        ["汽车", None],
        {"a": 1},
        [[1]],
    ]
    metadata = [{key: chance.choice(values) for key in chance.sample("xyz", k=3)} for _ in range(300)]
    store = open_postgres()
    store.add([TextNode(id_=str(i), embedding=[1.0, 1.0], metadata=each) for i, each in enumerate(metadata)])

    def one() -> MetadataFilter:
        operator = chance.choice(list(FilterOperator))
        scalars: list[Any] = chance.choice([texts, numbers, integers])
        value: Any = chance.choice(scalars)
        if operator in (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL):
            few = chance.choices(scalars, k=chance.choice([1, 2, 40]))
            value = chance.choices(few, k=chance.choice([0, 1, 3, 40]))
        elif operator in (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE):
            value = chance.choice(texts)
        return MetadataFilter(key=chance.choice("xyz"), value=value, operator=operator)

    embedded = FaissMultiModalVectorStore()
    embedded.add([TextNode(id_=str(i), embedding=[1.0, 1.0], metadata=each) for i, each in enumerate(metadata)])
    for _ in range(400):
        filters = group(chance.choice(list(FilterCondition)), *[one() for _ in range(chance.choice([1, 1, 2, 3]))])
        expected = [each.node_id for each in embedded.get_nodes(filters=filters)]
        assert [each.node_id for each in store.get_nodes(filters=filters)] == expected, filters


def test_hostile_keys_and_values_change_no_data(
    described: ExternalVectorStore, postgres: PostgresServer, schema: str
) -> None:
    postgres.run_sql(f"create table {schema}.other as select 1 as x")
    hostile = [
        "'; drop table other; --",
        f"\\'; delete from {schema}.other; --",
        "$$; drop table other; $$",
        "%(x)s",
        "%s",
        ":x",
        "{0}",
        "x') or true --",
        "\0'\\",
    ]
    for text in hostile:
        described.add([node(text, 2, text, text, **{text: text})], settings={text: text})
        for operator in (FilterOperator.EQ, FilterOperator.IN, FilterOperator.TEXT_MATCH, FilterOperator.CONTAINS):
            value: Any = [text] if operator == FilterOperator.IN else text
            assert described.query(ask(filters=where(text, value, operator))).ids == [text]
        query = VectorStoreQuery(query_str=text, similarity_top_k=1, mode=VectorStoreQueryMode.TEXT_SEARCH)
        described.query(query)
        assert described.get_setting(text) == text
        assert described.metadata_texts(text) == {text: text}
        described.delete(text)
    assert {each.node_id for each in described.get_nodes()} == METADATA.keys()
    assert postgres.run_sql(f"select x from {schema}.other") == "1"


# Texts


@pytest.fixture
def both(open_postgres: OpenStore) -> Callable[[list[TextNode]], list[Any]]:
    """A function that returns the embedded store and one in PostgreSQL with the same nodes."""

    def make(nodes: list[TextNode]) -> list[Any]:
        stores = [FaissMultiModalVectorStore(), open_postgres(dimension=8)]
        for store in stores:
            store.add(nodes)
        return stores

    return make


def test_texts_have_the_scores_of_the_embedded_store(both: Callable[[list[TextNode]], list[Any]]) -> None:
    rng = np.random.default_rng(0)
    characters = [*"白色的飞机在跑道上红苹果猫和狗汽车海边日落山😀①", "iPhone15Pro ", " iphone 15 ", "C++", " m² "]
    weights = 1 / np.arange(1, len(characters) + 1)
    texts = ["".join(rng.choice(characters, size=rng.integers(1, 40), p=weights / weights.sum())) for _ in range(400)]
    nodes = [
        TextNode(
            id_=str(i), text=text if i % 20 else "", embedding=rng.normal(size=8).tolist(), metadata={"page": i % 4}
        )
        for i, text in enumerate(texts)
    ]
    embedded, postgres = both(nodes)
    for text in [*texts[:40], "iphone15", "C++ 😀", "的", "m2", "没有这样的词", ""]:
        for mode, filters in [(mode, filters) for mode in TEXT_MODES for filters in (None, where("page", 1))]:
            query = VectorStoreQuery(
                query_embedding=rng.normal(size=8).tolist(),
                query_str=text[:12],
                similarity_top_k=10,
                mode=mode,
                filters=filters,
            )
            expected, found = embedded.query(query), postgres.query(query)
            assert found.similarities == pytest.approx(expected.similarities, rel=1e-5, abs=1e-5)
            assert found.ids == expected.ids


@pytest.mark.parametrize(
    "text",
    [
        "😀" * 50_000,
        "飞机" * 300_000,
        "".join(map(chr, range(0x4E00, 0x9FA5))) * 40,
        "a" * 100_000,
        " ".join(f"word{i}" for i in range(200_000)),
        "it's \\ 'quoted' \\' :1A & | ! <-> ( ) :* \0",
    ],
    ids=["emoji", "two characters", "all characters", "long word", "many words", "syntax"],
)
def test_no_text_is_too_long_or_odd(both: Callable[[list[TextNode]], list[Any]], text: str) -> None:
    nodes = [TextNode(id_="odd", text=text, embedding=[1.0] * 8), TextNode(id_="other", text="猫", embedding=[1.0] * 8)]
    embedded, postgres = both(nodes)
    query = VectorStoreQuery(query_str=text[:1000], similarity_top_k=2, mode=VectorStoreQueryMode.TEXT_SEARCH)
    assert postgres.query(query).ids == embedded.query(query).ids
    assert postgres.get_nodes(["odd"])[0].text == text


def test_long_words_differ_in_their_last_letters(both: Callable[[list[TextNode]], list[Any]]) -> None:
    nodes = [TextNode(id_=end, text="a" * 5000 + end, embedding=[1.0] * 8) for end in ("x", "y")]
    for store in both(nodes):
        query = VectorStoreQuery(query_str="a" * 5000 + "y", similarity_top_k=2, mode=VectorStoreQueryMode.TEXT_SEARCH)
        assert store.query(query).ids == ["y"]


def test_checking_for_texts_reads_no_rows(open_postgres: OpenStore, postgres: PostgresServer, schema: str) -> None:
    store = open_postgres()
    store.add([node(f"n{i}", text="飞机" if i == 0 else "") for i in range(1000)])
    table = f"{schema}.data_nodes"
    postgres.run_sql(f"analyze {table}")
    plan = postgres.run_sql(f"explain (format json) select exists (select id from {table} where mm_length > 0)")
    assert "Index" in json.dumps(json.loads(plan))
    assert store.has_texts()
