"""Moving between all types of stores: an index answers in the new stores as it did in the old ones."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from list_store import ListStore
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageNode,
    IndexNode,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.schema import MediaResource as Resource
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from postgres_server import PostgresServer, pg_store_at
from store_calls import MODES, ODD_IDS

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, build_index, load_index
from llama_index_mm_zhipu.images.nodes import with_page_text
from llama_index_mm_zhipu.index import ImageIndex
from llama_index_mm_zhipu.stores import ExternalVectorStore, TransferReport, export_index, import_index
from llama_index_mm_zhipu.vector_store.contract import INDEX_SETTINGS
from llama_index_mm_zhipu.vector_store.errors import StoreError

pytestmark = pytest.mark.integration

SOURCES = ("embedded", "postgres", "qdrant", "milvus")
TARGETS = (*SOURCES, "other")
MODES_OF = {"milvus": {VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR}, "other": {VectorStoreQueryMode.DEFAULT}}
"""Modes of the stores that do not have all."""

USING_BM25 = (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.HYBRID)
QUESTION = "红色的连衣裙 发动机"

MoveInto = Callable[[Path, Any], TransferReport]


class Places:
    """Opens stores of every type by name, each with another place for inline images.

    Args:
        folder: A folder for all that are files.
        postgres: A server.
        dimension: Dimension of the vectors.
    """

    def __init__(self, folder: Path, postgres: PostgresServer, dimension: int) -> None:
        self.folder = folder
        self._postgres = postgres
        self.dimension = dimension
        self._closing = ExitStack()
        self._qdrant: Any = None

    def open(self, kind: str, name: str, image_storage: str | Path = "node") -> Any:
        """Return an empty store of a type; names of stores must differ."""
        if kind == "embedded":
            store: Any = FaissMultiModalVectorStore(self.folder / "embedded", namespace=name)
        else:
            store = ExternalVectorStore(self.llama_index_store(kind, name), image_storage=image_storage)
        self._closing.callback(store.close)
        return store

    def llama_index_store(self, kind: str, name: str) -> Any:
        """Return LlamaIndex's store of a type."""
        makers = {
            "postgres": self._postgres_store,
            "qdrant": self._qdrant_store,
            "milvus": self._milvus_store,
            "other": lambda _: ListStore(),
        }
        return makers[kind](name)

    def close(self) -> None:
        self._closing.close()

    def _postgres_store(self, name: str) -> Any:
        return pg_store_at(self._postgres, name, self.dimension, schema_name="moving")

    def _qdrant_store(self, name: str) -> Any:
        from llama_index.vector_stores.qdrant import QdrantVectorStore
        from qdrant_client import QdrantClient

        self._qdrant = self._qdrant or QdrantClient(":memory:")
        return QdrantVectorStore(name, client=self._qdrant)

    def _milvus_store(self, name: str) -> Any:
        from llama_index.vector_stores.milvus import MilvusVectorStore

        uri = str(self.folder / "milvus.db")
        return MilvusVectorStore(uri=uri, collection_name=name, dim=self.dimension, use_async_client=False)


@dataclass(frozen=True)
class Exported:
    """An index that was exported.

    Attributes:
        kind: Type of its stores.
        index: The index.
        folder: Its shards.
    """

    kind: str
    index: ImageIndex
    folder: Path


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, demo_embedding: ChineseClipEmbedding
) -> Iterator[Places]:
    """Opens stores."""
    dimension = len(demo_embedding.get_query_embedding("图"))
    with closing(Places(tmp_path_factory.mktemp("moving"), postgres, dimension)) as opened:
        yield opened


@pytest.fixture(scope="module")
def images(photos: list[Path], captions: dict[str, str]) -> list[BaseNode]:
    """Inline images, a page with its text, and an image that is a file of the user's."""
    inline = [
        ImageNode(id_=photo.name, image=base64.b64encode(photo.read_bytes()).decode(), text=captions[photo.name])
        for photo in photos[:4]
    ]
    page = ImageNode(id_="page", image=inline[0].image, text="一页", metadata={"page": 3, "标签": ["红", "蓝"]})
    file = ImageNode(id_="file", image_path=str(photos[5]), text="帽子", metadata={"page": 4})
    return [*inline, with_page_text(page, "发动机舱盖", "ocr"), file]


@pytest.fixture(scope="module")
def texts(demo_embedding: ChineseClipEmbedding) -> list[BaseNode]:
    """Texts of every class, of documents, and with odd ids; not in the order of their ids."""
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="手册")}
    nodes: list[BaseNode] = [
        TextNode(id_="z", text="发动机的保养", metadata={"page": 2}, relationships=source),
        TextNode(id_="b", text="红色的帽子", metadata={"page": 1}, relationships=source),
        IndexNode(id_="index", text="蓝色的汽车停在路边", index_id="other"),
        Document(id_="document", text="厨房里有一张木头桌子", metadata={"颜色": "红", "none": None}),
        Node(id_="resource", text_resource=Resource(text="猫")),
        *(TextNode(id_=node_id, text=f"轮船 {number}") for number, node_id in enumerate(ODD_IDS)),
    ]
    for node in nodes:
        node.embedding = demo_embedding.get_text_embedding(node.get_content())
    return nodes


@pytest.fixture(scope="module", params=SOURCES)
def exported(
    request: pytest.FixtureRequest,
    places: Places,
    demo_embedding: ChineseClipEmbedding,
    images: list[BaseNode],
    texts: list[BaseNode],
) -> Exported:
    """An index over stores of each type, with images in nodes, in a folder and at a URL."""
    kind = request.param
    storage = {"postgres": places.folder / "images of postgres", "qdrant": "memory://moving/qdrant"}
    storage["milvus"] = places.folder / "images of milvus"
    image_store = places.open(kind, f"{kind}_images", storage.get(kind, "node"))
    stores = {"image_store": image_store, "text_store": places.open(kind, f"{kind}_texts")}
    index = build_index(images, demo_embedding, caption_weight=0.3, **stores)
    index.text_store.add(texts)
    folder = places.folder / f"shards of {kind}"
    report = export_index(index, folder, nodes_per_shard=7, show_progress=False)
    assert (report.nodes, report.shards) == (len(images) + len(texts), 4)
    return Exported(kind, index, folder)


@pytest.fixture(params=TARGETS)
def kind(request: pytest.FixtureRequest) -> str:
    """Type of the stores to move into."""
    kind: str = request.param
    return kind


_numbers = count()


@pytest.fixture
def target(kind: str, places: Places, demo_embedding: ChineseClipEmbedding) -> ImageIndex:
    """An index over empty stores."""
    number = next(_numbers)
    storage = {"qdrant": places.folder / f"images {number}", "milvus": f"memory://moving/{number}"}
    image_store = places.open(kind, f"target{number}_images", storage.get(kind, "node"))
    text_store = places.open(kind, f"target{number}_texts")
    return load_index(embed_model=demo_embedding, image_store=image_store, text_store=text_store)


def move(folder: Path, target: Any, **options: Any) -> TransferReport:
    return import_index(folder, target, batch_size=5, show_progress=False, **options)


def fields_of(nodes: list[BaseNode]) -> list[tuple[type[BaseNode], dict[str, Any]]]:
    return [(type(node), node.model_dump()) for node in nodes]


def content_of(store: Any, node_ids: list[str]) -> list[tuple[type[BaseNode], dict[str, Any]]]:
    """Return class and fields of all nodes of a store, with vectors and images, in the order of addition.

    Args:
        store: The store.
        node_ids: Ids of the nodes, for stores that do not list them.
    """
    ids = None if store.lists_nodes else node_ids
    return fields_of(store.with_images_inline(store.get_nodes(ids, include_embeddings=True)))


def answers(index: ImageIndex, mode: VectorStoreQueryMode) -> dict[str, float]:
    retriever = index.as_retriever(similarity_top_k=30, image_similarity_top_k=30, vector_store_query_mode=mode)
    return {each.node_id: each.score or 0.0 for each in retriever.retrieve(QUESTION)}


def require_same_best_answers(found: dict[str, float], expected: dict[str, float]) -> None:
    """Compare answers of two stores that compute BM25 with different average lengths, as Qdrant takes a fixed one."""
    assert list(found)[:2] == list(expected)[:2]
    assert found.keys() == expected.keys()


def test_everything_arrives_once_and_is_found(
    exported: Exported, kind: str, target: ImageIndex, images: list[BaseNode], texts: list[BaseNode]
) -> None:
    total = len(images) + len(texts)
    report = move(exported.folder, target)
    assert (report.nodes, report.kept, report.skipped.count) == (total, 0, 0)
    for old, new, given in (
        (exported.index.image_store, target.image_store, images),
        (exported.index.text_store, target.text_store, texts),
    ):
        node_ids = [node.node_id for node in given]
        content = content_of(new, node_ids)
        assert [fields["id_"] for _, fields in content] == node_ids
        assert content == content_of(old, node_ids)
        assert {key: new.get_setting(key) for key in INDEX_SETTINGS} == {
            key: old.get_setting(key) for key in INDEX_SETTINGS
        }
    assert target.caption_weight == 0.3

    for mode in MODES:
        if all(mode in MODES_OF.get(each, MODES) for each in (exported.kind, kind)):
            expected, found = answers(exported.index, mode), answers(target, mode)
            if mode in USING_BM25 and (exported.kind == "qdrant") != (kind == "qdrant"):
                require_same_best_answers(found, expected)
            else:
                assert found == pytest.approx(expected, abs=1e-4), mode

    again = move(exported.folder, target)
    assert (again.nodes, again.kept) == (total, total)
    assert len(content_of(target.text_store, [node.node_id for node in texts])) == len(texts)


def test_nodes_are_those_that_were_given(exported: Exported, images: list[BaseNode], texts: list[BaseNode]) -> None:
    assert content_of(exported.index.text_store, []) == fields_of(texts)
    found = exported.index.image_store.with_images_inline(exported.index.image_store.get_nodes())
    without_vector = {"embedding", "metadata", "excluded_embed_metadata_keys", "excluded_llm_metadata_keys"}
    assert [node.model_dump(exclude=without_vector) for node in found] == [
        node.model_dump(exclude=without_vector) for node in images
    ]


def test_a_store_of_llama_index_is_moved_by_itself(exported: Exported, places: Places, texts: list[BaseNode]) -> None:
    plain = places.llama_index_store("postgres", f"plain{next(_numbers)}")
    assert move(exported.folder / "texts", plain).nodes == len(texts)
    with closing(ExternalVectorStore(plain)) as wrapped:
        assert content_of(wrapped, []) == fields_of(texts)


# Nodes that a store refuses


def test_nodes_that_are_too_large_for_milvus_are_named_or_skipped(places: Places) -> None:
    rng = np.random.default_rng(0)
    nodes: list[BaseNode] = [
        ImageNode(id_=f"n{i}", image=base64.b64encode(rng.bytes(100 if i % 4 else 60_000)).decode()) for i in range(10)
    ]
    source = places.open("embedded", "large")
    for number, node in enumerate(nodes):
        node.embedding = rng.normal(size=places.dimension).tolist()
        source.add([node], settings={"caption_weight": number / 10})
    folder = places.folder / "shards of large"
    export_index(source, folder, show_progress=False)

    strict = places.open("milvus", "strict")
    with pytest.raises(
        ValueError, match=r'node n0 takes .*Milvus collection "strict".*image_storage.*in shard nodes-0'
    ):
        move(folder, strict)
    assert strict.is_empty()

    patient = places.open("milvus", "patient")
    report = move(folder, patient, on_error="skip")
    assert list(report.skipped) == ["n0", "n4", "n8"]
    assert report.nodes == patient.count() == 7
    assert patient.get_setting("caption_weight") == 0.9

    apart = places.open("milvus", "apart", "memory://moving/apart")
    assert move(folder, apart).nodes == 10
    assert content_of(apart, []) == content_of(source, [])


# A server that fails


class Disturbed(ExternalVectorStore):
    """A store to which something happens before it lists its n-th batch of nodes, or adds it."""

    def disturb(self, batch: int, action: Callable[[], object]) -> None:
        self._batches, self._action = batch, action

    def iter_nodes(self, *args: Any, **options: Any) -> Iterator[list[BaseNode]]:
        for batch in super().iter_nodes(*args, **options):
            self._count_batch()
            yield batch

    def add(self, nodes: Any, **options: Any) -> list[str]:
        self._count_batch()
        return super().add(nodes, **options)

    def _count_batch(self) -> None:
        self._batches -= 1
        if self._batches == 0:
            self._action()

    _batches: int = 0
    _action: Any = None


def numbered(amount: int) -> list[BaseNode]:
    return [TextNode(id_=f"n{i}", text=f"第{i}页 飞机", embedding=[float(i), 1.0]) for i in range(amount)]


def test_an_export_continues_after_the_server_failed(own_postgres: PostgresServer, tmp_path: Path) -> None:
    nodes = numbered(1500)
    source = Disturbed(pg_store_at(own_postgres))
    source.add(nodes, settings={"caption_weight": 0.5})
    source.disturb(20, own_postgres.crash)
    folder = tmp_path / "shards"
    options: dict[str, Any] = {"nodes_per_shard": 200, "show_progress": False}
    with pytest.raises(StoreError, match=r'PostgreSQL table "public.data_nodes"') as raised:
        export_index(source, folder, **options)
    assert "s3cr3t" not in str(raised.value)
    with pytest.raises(StoreError, match="unfinished export"):
        move(folder, FaissMultiModalVectorStore())

    own_postgres.start()
    with closing(ExternalVectorStore(pg_store_at(own_postgres))) as again:
        report = export_index(again, folder, **options)
        assert (report.nodes, report.kept, report.shards) == (1500, 600, 8)
        assert export_index(again, folder, **options).kept == 1500
    source.close()
    with closing(FaissMultiModalVectorStore()) as target:
        move(folder, target)
        assert content_of(target, []) == fields_of(nodes)


def test_an_import_continues_after_the_server_failed(own_postgres: PostgresServer, tmp_path: Path) -> None:
    nodes = numbered(60)
    folder = tmp_path / "shards"
    with closing(FaissMultiModalVectorStore(model="clip:1")) as source:
        source.add(nodes, settings={"caption_weight": 0.5})
        export_index(source, folder, nodes_per_shard=20, show_progress=False)
    target = Disturbed(pg_store_at(own_postgres))
    target.disturb(4, own_postgres.crash)
    with pytest.raises(StoreError, match=r'PostgreSQL table "public.data_nodes"'):
        move(folder, target)

    own_postgres.start()
    report = move(folder, target)
    assert (report.nodes, report.kept) == (60, 15)
    assert content_of(target, []) == fields_of(nodes)
    assert target.settings() == {"model": "clip:1", "caption_weight": 0.5}
    target.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.add(numbered(1)),
        lambda store: store.delete_nodes(["n7"]),
        lambda store: store.add([TextNode(id_="new", embedding=[1.0, 1.0])]),
    ],
    ids=["replaced", "deleted", "added"],
)
def test_an_export_of_a_table_that_changed_since_starts_again(
    open_postgres: Callable[..., ExternalVectorStore],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[ExternalVectorStore], object],
) -> None:
    store = open_postgres()
    store.add(numbered(600))
    folder = tmp_path / "shards"
    changed = Disturbed(store.store)
    changed.disturb(3, lambda: change(store))
    with pytest.raises(StoreError, match="was changed while it was exported"):
        export_index(changed, folder, nodes_per_shard=200, show_progress=False)
    report = export_index(store, folder, nodes_per_shard=200, show_progress=False)
    assert (report.nodes, report.kept) == (store.count(), 0)
    assert "the store has changed since" in capsys.readouterr().err
    changed.close()
