"""A table of PostgreSQL gives an index what the embedded store gives it, and stays readable for LlamaIndex."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blocks import code_blocks
from conformance import VectorStoreConformance
from filter_cases import where
from index_conformance import IndexConformance
from llama_index.core.schema import ImageNode, IndexNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from postgres_server import DATABASE, PASSWORD, USER, PostgresServer
from reopening_conformance import ReopeningConformance
from sqlalchemy.exc import IntegrityError
from store_calls import OpenStore, ask, node

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.stores import ExternalVectorStore
from llama_index_mm_zhipu.stores.postgres.backend import PostgresBackend
from llama_index_mm_zhipu.vector_store.errors import StoreError

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.integration

HNSW = {"hnsw_m": 16, "hnsw_ef_construction": 64, "hnsw_ef_search": 40}


class TestPostgres(VectorStoreConformance):
    """With LlamaIndex's default settings: no index on the vectors, and metadata as ``json``."""

    @pytest.fixture
    def open_store(self, open_postgres: OpenStore) -> OpenStore:
        return open_postgres


class TestPostgresWithIndex(VectorStoreConformance):
    """With an HNSW index by cosine, which LlamaIndex makes by default, and metadata as ``jsonb``."""

    @pytest.fixture
    def open_store(self, open_postgres: OpenStore) -> OpenStore:
        def open_(name: str, dimension: int = 2) -> ExternalVectorStore:
            return open_postgres(name, dimension, use_jsonb=True, hnsw_kwargs=dict(HNSW), hybrid_search=True)

        return open_


class TestReopening(ReopeningConformance):
    """Several objects for one table."""

    @pytest.fixture
    def open_store(self, open_postgres: OpenStore) -> OpenStore:
        return open_postgres


class TestIndex(IndexConformance):
    """Both tables of an index."""

    @pytest.fixture
    def open_store(self, open_postgres: OpenStore) -> OpenStore:
        return open_postgres


# The table


@pytest.mark.parametrize("use_jsonb", [False, True])
def test_llama_index_reads_and_deletes_the_nodes(
    open_postgres: OpenStore, pg_store: Callable[..., Any], photos: list[Path], use_jsonb: bool
) -> None:
    store, plain = open_postgres(use_jsonb=use_jsonb), pg_store(use_jsonb=use_jsonb)
    image = ImageNode(id_="image", image_path=str(photos[0]), text="连衣裙", embedding=[2.0, 1.0], metadata={"page": 3})
    store.add([image, node("text", 1, "document", "飞机", colour="红"), node("odd\0", 0, text="a\0b")])

    found = plain.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=2))
    assert found.ids == ["image", "text"]
    assert found.nodes is not None
    assert found.nodes[0].model_dump(exclude={"embedding"}) == image.model_dump(exclude={"embedding"})
    assert (found.nodes[1].get_content(), found.nodes[1].metadata) == ("飞机", {"colour": "红"})
    assert found.nodes[1].ref_doc_id == "document"

    plain.delete("document")
    plain.delete_nodes(["image"])
    assert [each.node_id for each in store.get_nodes()] == ["odd\0"]
    # Nodes without a source are documents of their own; LlamaIndex calls the document of all of them "None".
    plain.delete("None")
    assert store.count() == 1


def test_llama_index_cannot_add_nodes_that_no_search_would_find(
    open_postgres: OpenStore, pg_store: Callable[..., Any]
) -> None:
    store = open_postgres()
    with pytest.raises(IntegrityError):
        pg_store().add([node("a")])
    assert store.is_empty()


def test_nodes_that_llama_index_wrote_are_completed(
    open_postgres: OpenStore, pg_store: Callable[..., Any], photos: list[Path]
) -> None:
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="second")}
    nodes = [
        ImageNode(id_="a", image_path=str(photos[0]), text="白色的飞机", embedding=[3.0, 1.0], metadata={"page": 1}),
        TextNode(id_="b", text="飞机场", embedding=[2.0, 1.0], metadata={"page": 2}, relationships=source),
        IndexNode(id_="c", text="猫", index_id="other", embedding=[1.0, 1.0]),
    ]
    pg_store().add(nodes)
    pg_store().add([TextNode(id_=f"n{i}", text="狗", embedding=[0.0, float(i)]) for i in range(250)])

    for _ in range(2):
        store = open_postgres()
        assert store.count() == 253
        assert [each.model_dump() for each in store.get_nodes(["a", "b", "c"], include_embeddings=True)] == [
            each.model_dump() for each in nodes
        ]
        assert [each.node_id for each in store.get_nodes()][:4] == ["a", "b", "c", "n0"]
        assert store.query(ask(filters=where("page", 2))).ids == ["b"]
        text_query = VectorStoreQuery(query_str="飞机", similarity_top_k=5, mode=VectorStoreQueryMode.TEXT_SEARCH)
        assert sorted(store.query(text_query).ids or []) == ["a", "b"]
    store.delete("second")
    store.delete("c")
    assert store.count() == 251


def test_a_table_with_a_node_twice_is_refused_and_left_alone(
    open_postgres: OpenStore, pg_store: Callable[..., Any], postgres: PostgresServer, schema: str
) -> None:
    for _ in range(2):
        pg_store().add([node("same")])
    with pytest.raises(StoreError, match=r'table "test_\d+.data_nodes".*holds the node same more than once'):
        open_postgres()
    pg_store().add([node("other")])
    assert postgres.run_sql(f"select count(*) from {schema}.data_nodes") == "3"


@pytest.mark.parametrize("settings", [{"dimension": 3}, {"dimension": 3, "use_halfvec": True}])
def test_a_table_of_another_dimension_is_refused(open_postgres: OpenStore, settings: dict[str, Any]) -> None:
    open_postgres(**settings)
    with pytest.raises(StoreError, match=r"data_nodes.* of the type \w+\(3\), not of dimension 2.*embed_dim"):
        open_postgres()
    with pytest.raises(ValueError, match=r"made for vectors of dimension 3, and the model.s have 2.*nothing was added"):
        open_postgres(**settings).add([node("a")])


@pytest.mark.parametrize("name", ["order", "a'b\"c", "图片", "t" * 50, "表" * 40, "50%(x)s"])
def test_any_name_of_a_table_works(open_postgres: OpenStore, name: str) -> None:
    for x in (1, 2):
        store = open_postgres(name)
        store.add([node("a", x)], settings={"caption_weight": 0.5})
        assert store.query(ask()).similarities == [x]
        assert store.get_setting("caption_weight") == 0.5


def test_vectors_of_half_precision_work(open_postgres: OpenStore) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 8)).astype(np.float32)
    store = open_postgres(dimension=8, use_halfvec=True, use_jsonb=True)
    store.add([TextNode(id_=f"n{i}", embedding=vector.tolist()) for i, vector in enumerate(vectors)])
    result = store.query(VectorStoreQuery(query_embedding=vectors[0].tolist(), similarity_top_k=5))
    scores = vectors @ vectors[0]
    assert result.ids == [f"n{i}" for i in np.argsort(-scores)[:5]]
    assert result.similarities == pytest.approx(np.sort(scores)[::-1][:5], rel=1e-2)
    with pytest.raises(StoreError, match="cannot store a value"):
        store.add([TextNode(id_="large", embedding=[1e6] * 8)])
    assert store.count() == 50


def test_a_new_version_splits_texts_again(open_postgres: OpenStore, postgres: PostgresServer, schema: str) -> None:
    open_postgres().add([node(f"n{i}", text="飞机") for i in range(250)])
    table = f"{schema}.data_nodes"
    postgres.run_sql(f"update {table} set mm_tokens = '', mm_length = 0; update {table}_mm_settings set value = '0'")
    store = open_postgres()
    query = VectorStoreQuery(query_str="飞机", similarity_top_k=300, mode=VectorStoreQueryMode.TEXT_SEARCH)
    assert len(store.query(query).ids or []) == 250


def test_an_engine_of_the_user_is_used(postgres: PostgresServer, schema: str, pg_store: Callable[..., Any]) -> None:
    from llama_index.vector_stores.postgres import PGVectorStore
    from sqlalchemy import create_engine
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_engine(postgres.url(), isolation_level="AUTOCOMMIT", json_serializer=repr)
    async_engine = create_async_engine(postgres.url(driver="asyncpg"))
    plain = PGVectorStore(engine=engine, async_engine=async_engine, table_name="nodes", schema_name=schema, embed_dim=2)
    store = ExternalVectorStore(plain)
    store.add([node("a", colour="红")])
    assert store.query(ask(filters=where("colour", "红"))).ids == ["a"]
    assert "s3cr3t" not in repr(store)
    store.close()


def test_a_sample_of_vectors_is_no_larger_than_asked(pg_store: Callable[..., Any]) -> None:
    store = ExternalVectorStore(pg_store())
    backend = PostgresBackend(pg_store())
    assert backend.sample_vectors(5).shape == (0, 2)
    store.add([node(f"n{i}", i) for i in range(9)])
    assert backend.sample_vectors(5).shape == (5, 2)
    assert sorted(backend.sample_vectors(50)[:, 0].tolist()) == list(range(9))
    for each in (store, backend):
        each.close()


# The guide


def test_the_code_of_the_guide_runs(
    postgres: PostgresServer, photos: list[Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = (
        each for each in code_blocks(ROOT / "docs" / "en" / "guides" / "scale.md", "py") if "PGVectorStore" in each
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTGRES_PASSWORD", PASSWORD)
    shutil.copytree(photos[0].parent, "slides", ignore=shutil.ignore_patterns("*.jsonl"))
    names: dict[str, Any] = {
        "os": os,
        "build_index": build_index,
        "embed_model": ChineseClipEmbedding(str(tiny_model)),
    }
    dimension = len(names["embed_model"].get_query_embedding("图"))
    replaced = {
        'port="5432"': f'port="{postgres.port}"',
        'database="slides"': f'database="{DATABASE}"',
        'user="postgres"': f'user="{USER}"',
        "embed_dim=512": f"embed_dim={dimension}",
    }
    for text, replacement in replaced.items():
        assert text in block
        block = block.replace(text, replacement)
    exec(block, names)
    assert len(names["index"].as_retriever(similarity_top_k=3).retrieve("红色的裙子")) == 3
