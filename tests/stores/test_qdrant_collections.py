"""Collections of Qdrant: those that ``add`` creates, those that were there before, and what is stored in them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.schema import ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from llama_index_mm_zhipu.stores import ExternalVectorStore
from llama_index_mm_zhipu.stores.qdrant.backend import QdrantBackend
from llama_index_mm_zhipu.stores.qdrant.points import WORDS
from llama_index_mm_zhipu.vector_store.errors import StoreError

DOT, COSINE = models.Distance.DOT, models.Distance.COSINE
TEXT_SEARCH = VectorStoreQueryMode.TEXT_SEARCH
WITH_WORDS = {WORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)}


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    yield client
    client.close()


def wrapped(client: QdrantClient, name: str = "nodes", **options: Any) -> ExternalVectorStore:
    return ExternalVectorStore(QdrantVectorStore(name, client=client, **options))


def node(node_id: str, *vector: float, text: str = "", **metadata: object) -> TextNode:
    return TextNode(id_=node_id, embedding=list(vector or (1.0, 0.0)), text=text, metadata=metadata)


def near(*vector: float, k: int = 10) -> VectorStoreQuery:
    return VectorStoreQuery(query_embedding=list(vector), similarity_top_k=k)


# Created by add


def test_add_creates_a_collection_of_inner_products_and_words(client: QdrantClient) -> None:
    wrapped(client).add([node("a")])
    parameters = client.get_collection("nodes").config.params
    assert parameters.vectors == {"text-dense": models.VectorParams(size=2, distance=DOT)}
    assert parameters.sparse_vectors == WITH_WORDS


def test_the_vector_has_the_name_that_the_user_chose(client: QdrantClient) -> None:
    store = wrapped(client, dense_vector_name="图")
    store.add([node("a", 3.0, 4.0)])
    assert store.query(near(1.0, 0.0)).similarities == [3.0]
    assert store.get_vectors(["a"])[1].tolist() == [[3.0, 4.0]]


def test_opening_and_reading_create_nothing(client: QdrantClient) -> None:
    store = wrapped(client)
    assert (store.count(), store.is_empty(), store.has_texts(), store.get_setting("x")) == (0, True, False, None)
    assert store.get_vectors(["a"])[0] == store.get_nodes() == list(store.metadata_texts("title")) == []
    store.delete("a")
    store.clear()
    assert not client.collection_exists("nodes")


def test_a_vector_of_another_dimension_is_refused_before_anything_is_written(client: QdrantClient) -> None:
    store = wrapped(client)
    store.add([node("a")])
    with pytest.raises(ValueError, match="node b has a vector of dimension 3, the store's have 2"):
        store.add([node("b", 1.0, 2.0, 3.0)])
    assert store.count() == 1


@pytest.mark.filterwarnings("error")
def test_a_cleared_collection_stays(client: QdrantClient) -> None:
    store = wrapped(client)
    store.add([node("a", text="飞机")], settings={"caption_weight": 0.5})
    store.clear()
    assert client.collection_exists("nodes")
    assert (store.count(), store.has_texts(), store.get_setting("caption_weight")) == (0, False, None)
    hybrid = VectorStoreQuery(query_embedding=[1.0, 0.0], query_str="飞机", mode=VectorStoreQueryMode.HYBRID)
    assert store.query(hybrid).ids == []


def test_a_collection_that_somebody_deletes_is_empty_and_made_again(client: QdrantClient) -> None:
    store = wrapped(client)
    store.add([node("a", text="飞机")])
    QdrantVectorStore("nodes", client=client).clear()
    assert store.query(near(1.0, 0.0)).ids == []
    assert store.get_nodes() == []
    store.add([node("b", 1.0, 2.0, 3.0)])
    assert store.query(near(1.0, 0.0, 0.0)).ids == ["b"]


def test_a_collection_that_another_object_made_is_read_with_its_vectors(client: QdrantClient) -> None:
    early = wrapped(client)
    wrapped(client).add([node("a", 3.0, 4.0)])
    assert early.get_vectors(["a"])[1].tolist() == [[3.0, 4.0]]
    assert early.get_nodes(include_embeddings=True)[0].embedding == [3.0, 4.0]


# There before


@pytest.mark.parametrize("name", ["", "text-dense"])
def test_a_collection_that_the_user_created_is_used(client: QdrantClient, name: str) -> None:
    vector = models.VectorParams(size=2, distance=DOT)
    client.create_collection("nodes", {name: vector} if name else vector, sparse_vectors_config=WITH_WORDS)
    store = wrapped(client)
    store.add([node("a", 3.0, 4.0, text="飞机")])
    assert store.query(near(1.0, 0.0)).similarities == [3.0]
    assert store.query(VectorStoreQuery(query_str="飞机", mode=TEXT_SEARCH)).ids == ["a"]
    assert store.get_vectors(["a"])[1].tolist() == [[3.0, 4.0]]


def test_cosine_collections_give_inner_products(client: QdrantClient) -> None:
    client.create_collection("nodes", models.VectorParams(size=8, distance=COSINE))
    store = wrapped(client)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 8)) * rng.uniform(0.5, 2, size=(60, 1))
    query = rng.normal(size=8)
    store.add([node(f"n{i}", *vector) for i, vector in enumerate(vectors)])

    products = vectors @ query
    best = np.argsort(-products)[:10]
    result = store.query(near(*query))
    assert result.ids == [f"n{i}" for i in best]
    assert result.similarities == pytest.approx(products[best].tolist(), rel=1e-5)
    ids, stored = store.get_vectors([f"n{i}" for i in range(60)])
    assert ids == [f"n{i}" for i in range(60)]
    np.testing.assert_allclose(stored, vectors, rtol=1e-5)


def test_a_vector_of_zeros_is_stored_in_a_cosine_collection(client: QdrantClient) -> None:
    client.create_collection("nodes", models.VectorParams(size=2, distance=COSINE))
    store = wrapped(client)
    store.add([node("zero", 0.0, 0.0), node("a", 2.0, 0.0)])
    result = store.query(near(1.0, 1.0))
    assert result.ids == ["a", "zero"]
    assert result.similarities == pytest.approx([2.0, 0.0])
    assert store.query(near(0.0, 0.0)).similarities == [0.0, 0.0]


def test_text_search_is_refused_without_the_sparse_vector(client: QdrantClient) -> None:
    client.create_collection("nodes", models.VectorParams(size=2, distance=COSINE))
    store = wrapped(client)
    store.add([node("a", text="飞机")])
    assert not store.has_texts()
    for mode in (TEXT_SEARCH, VectorStoreQueryMode.HYBRID):
        query = VectorStoreQuery(query_embedding=[1.0, 0.0], query_str="飞机", mode=mode)
        with pytest.raises(ValueError, match=r'"nodes" in memory cannot search by text; the collection was made with'):
            store.query(query)


@pytest.mark.parametrize("distance", [models.Distance.EUCLID, models.Distance.MANHATTAN])
def test_distances_without_inner_products_are_refused(client: QdrantClient, distance: models.Distance) -> None:
    client.create_collection("nodes", models.VectorParams(size=2, distance=distance))
    with pytest.raises(ValueError, match=f"cannot give inner products for the distance {distance.value}"):
        wrapped(client)


def test_collections_with_other_vectors_are_refused(client: QdrantClient) -> None:
    client.create_collection("images", {"image": models.VectorParams(size=2, distance=DOT)})
    with pytest.raises(ValueError, match=r"cannot search the vector 'text-dense'; the collection has 'image'; give"):
        wrapped(client, "images")
    several = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    client.create_collection("pages", models.VectorParams(size=2, distance=DOT, multivector_config=several))
    with pytest.raises(ValueError, match="multivector"):
        wrapped(client, "pages")


def test_points_of_a_plain_store_are_refused(client: QdrantClient) -> None:
    plain = QdrantVectorStore("nodes", client=client)
    client.create_collection("nodes", models.VectorParams(size=2, distance=DOT))
    store = wrapped(client)
    plain.add([TextNode(embedding=[1.0, 0.0], text="飞机")])
    with pytest.raises(ValueError, match="holds points that ExternalVectorStore did not add"):
        store.get_nodes()
    with pytest.raises(ValueError, match="holds points that ExternalVectorStore did not add"):
        wrapped(client)


def test_a_store_without_a_sync_client_is_refused() -> None:
    with pytest.raises(ValueError, match=r"QdrantVectorStore of 'nodes' has no sync client; give it client="):
        ExternalVectorStore(QdrantVectorStore("nodes", aclient=AsyncQdrantClient(":memory:")))


# The payload


def test_a_plain_store_reads_filters_and_deletes_the_same_nodes(client: QdrantClient) -> None:
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="manual")}
    nodes = [
        TextNode(id_="a", text="飞机", embedding=[1.0, 0.0], metadata={"page": 1}, relationships=source),
        ImageNode(id_="b", image="aGk=", embedding=[0.5, 0.0], metadata={"page": 2}),
    ]
    store = wrapped(client)
    store.add(nodes)
    plain = QdrantVectorStore("nodes", client=client)

    found = plain.query(near(1.0, 0.0)).nodes or []
    assert [each.model_dump(exclude={"embedding"}) for each in found] == [
        each.model_dump(exclude={"embedding"}) for each in nodes
    ]
    page = MetadataFilters(filters=[MetadataFilter(key="page", value=1, operator=FilterOperator.GT)])
    filtered = plain.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=5, filters=page))
    assert [each.node_id for each in filtered.nodes or []] == ["b"]
    plain.delete("manual")
    assert [each.node_id for each in store.get_nodes()] == ["b"]
    plain.delete("None")
    assert store.count() == 1


def test_metadata_with_the_names_of_the_payload_come_back(client: QdrantClient) -> None:
    metadata = {"_mm_zhipu": 1, "doc_id": "x", "_node_content": "y", "filters": ["z"], "": "empty"}
    store = wrapped(client)
    store.add([node("a", **metadata)])
    for key, value in metadata.items():
        filters = MetadataFilters(filters=[MetadataFilter(key=key, value=value)])
        assert [each.metadata for each in store.get_nodes(filters=filters)] == [metadata]
    assert store.metadata_texts("") == {"a": "empty"}


def test_vectors_are_sampled_for_the_mean(client: QdrantClient) -> None:
    wrapped(client).add([node(f"n{i}", 1.0, i) for i in range(300)])
    sample = QdrantBackend(QdrantVectorStore("nodes", client=client)).sample_vectors(280)
    assert sample.shape == (280, 2)
    assert abs(sample.mean(axis=0)[1] - 149.5) < 20


# Clients


def test_a_client_is_closed_with_the_last_store_that_uses_it(tmp_path: Path) -> None:
    client = QdrantClient(path=str(tmp_path))
    images, texts, forgotten = (wrapped(client, name) for name in ("images", "texts", "forgotten"))
    images.add([node("a")])
    images.close()
    texts.add([node("b")])
    del forgotten
    gc.collect()
    texts.close()
    texts.close()

    again = QdrantClient(path=str(tmp_path))
    assert wrapped(again, "images").query(near(1.0, 0.0)).ids == ["a"]
    with pytest.raises(StoreError, match=r'collection "images" in .*: its client was closed; make a new QdrantClient'):
        images.query(near(1.0, 0.0))
    again.close()


def test_threads_share_a_client_of_local_mode(client: QdrantClient) -> None:
    store = wrapped(client)

    def use(worker: int) -> None:
        for i in range(20):
            store.add([node(f"{worker}-{i}-{j}", text="飞机") for j in range(5)])
            assert store.query(near(1.0, 0.0, k=3)).ids
            assert store.query(VectorStoreQuery(query_str="飞机", similarity_top_k=3, mode=TEXT_SEARCH)).ids

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(use, range(4)))
    finally:
        sys.setswitchinterval(before)
    assert store.count() == 400
