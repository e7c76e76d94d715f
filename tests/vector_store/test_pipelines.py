"""LlamaIndex's own pipelines, indexes and retrievers work with the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Document, MockEmbedding, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.llms import CustomLLM, MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.retrievers import (
    BaseRetriever,
    QueryFusionRetriever,
    VectorIndexAutoRetriever,
    VectorIndexRetriever,
)
from llama_index.core.retrievers.fusion_retriever import FUSION_MODES
from llama_index.core.schema import ImageNode, NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import MetadataInfo, VectorStoreInfo
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore

DOCUMENTS = {"plane": "飞机停在机场。跑道很长。", "cat": "猫在沙发上睡觉。它不抓老鼠。", "car": "小米汽车很快。"}
TEXTS = {"plane": "白色的飞机", "airport": "飞机场", "cat": "猫", "phone": "手机"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FaissMultiModalVectorStore]:
    with FaissMultiModalVectorStore(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def text_index(store: FaissMultiModalVectorStore, tiny_embedding: ChineseClipEmbedding) -> VectorStoreIndex:
    """An index of ``TEXTS``, with their positions in the metadata."""
    index = VectorStoreIndex.from_vector_store(store, embed_model=tiny_embedding)
    index.insert_nodes(
        [
            TextNode(id_=name, text=text, metadata={"position": position})
            for position, (name, text) in enumerate(TEXTS.items())
        ]
    )
    return index


def ids(found: list[NodeWithScore]) -> list[str]:
    return [item.node.node_id for item in found]


# Ingestion


def pipeline_into(store: FaissMultiModalVectorStore, strategy: DocstoreStrategy) -> IngestionPipeline:
    return IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=20, chunk_overlap=0), MockEmbedding(embed_dim=4)],
        vector_store=store,
        docstore=SimpleDocumentStore(),
        docstore_strategy=strategy,
    )


async def ingest(pipeline: IngestionPipeline, texts: dict[str, str], use_async: bool) -> int:
    """Ingest documents and return the number of nodes that were written."""
    documents = [Document(id_=name, text=text) for name, text in texts.items()]
    return len(await pipeline.arun(documents=documents) if use_async else pipeline.run(documents=documents))


def stored(store: FaissMultiModalVectorStore) -> dict[str, str]:
    """Return the text of each document, joined from its nodes."""
    texts: dict[str, str] = {}
    for node in store.get_nodes():
        assert node.ref_doc_id is not None
        texts[node.ref_doc_id] = texts.get(node.ref_doc_id, "") + node.get_content()
    return texts


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("strategy", [DocstoreStrategy.UPSERTS, DocstoreStrategy.UPSERTS_AND_DELETE])
async def test_a_changed_document_replaces_its_nodes(
    store: FaissMultiModalVectorStore, strategy: DocstoreStrategy, use_async: bool
) -> None:
    pipeline = pipeline_into(store, strategy)
    assert await ingest(pipeline, DOCUMENTS, use_async) > len(DOCUMENTS)
    assert stored(store) == DOCUMENTS
    assert await ingest(pipeline, DOCUMENTS, use_async) == 0

    changed = {**DOCUMENTS, "cat": "狗在院子里。"}
    assert await ingest(pipeline, changed, use_async) > 0

    assert stored(store) == changed
    assert stored(FaissMultiModalVectorStore.from_persist_dir(str(store.persist_dir))) == changed


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize(
    ("strategy", "left"), [(DocstoreStrategy.UPSERTS, list(DOCUMENTS)), (DocstoreStrategy.UPSERTS_AND_DELETE, ["car"])]
)
async def test_a_removed_document_is_deleted_by_the_strategy_for_that(
    store: FaissMultiModalVectorStore, strategy: DocstoreStrategy, left: list[str], use_async: bool
) -> None:
    pipeline = pipeline_into(store, strategy)
    await ingest(pipeline, DOCUMENTS, use_async)
    await ingest(pipeline, {"car": DOCUMENTS["car"]}, use_async)
    assert list(stored(store)) == left


# Indexes


async def test_a_vector_store_index_can_be_reopened(
    store: FaissMultiModalVectorStore, tiny_embedding: ChineseClipEmbedding
) -> None:
    index = VectorStoreIndex.from_vector_store(store, embed_model=tiny_embedding)
    index.insert(Document(id_="plane", text="飞机"))
    await index.ainsert(Document(id_="cat", text="猫"))
    store.close()

    with FaissMultiModalVectorStore.from_persist_dir(str(store.persist_dir)) as reopened:
        index = VectorStoreIndex.from_vector_store(reopened, embed_model=tiny_embedding)
        retriever = index.as_retriever(similarity_top_k=1)
        for found in (retriever.retrieve("猫"), await retriever.aretrieve("猫")):
            assert [item.node.ref_doc_id for item in found] == ["cat"]
            assert found[0].score == pytest.approx(1, abs=1e-4)

        index.delete_ref_doc("cat")
        assert [item.node.ref_doc_id for item in retriever.retrieve("猫")] == ["plane"]
        await index.adelete_ref_doc("plane")
        assert retriever.retrieve("猫") == []


def test_a_document_is_refreshed(store: FaissMultiModalVectorStore) -> None:
    storage = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex([], storage_context=storage, embed_model=MockEmbedding(4), store_nodes_override=True)
    index.insert(Document(id_="cat", text="猫"))
    index.insert(Document(id_="plane", text="飞机"))
    assert index.refresh_ref_docs([Document(id_="cat", text="狗"), Document(id_="plane", text="飞机")]) == [True, False]
    assert stored(store) == {"plane": "飞机", "cat": "狗"}


def two_namespaces(folder: Path) -> tuple[FaissMultiModalVectorStore, FaissMultiModalVectorStore]:
    return FaissMultiModalVectorStore(folder), FaissMultiModalVectorStore(folder, namespace="image")


async def test_a_multi_modal_index_keeps_texts_and_images_in_one_folder(
    tmp_path: Path, photo_nodes: list[ImageNode], tiny_embedding: ChineseClipEmbedding
) -> None:
    for number, node in enumerate(photo_nodes):
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"album {number % 2}")
    models: dict[str, Any] = {"embed_model": tiny_embedding, "image_embed_model": tiny_embedding}
    texts, images = two_namespaces(tmp_path)
    MultiModalVectorStoreIndex(
        [*photo_nodes, TextNode(id_="words", text="一件红色的衬衫")],
        storage_context=StorageContext.from_defaults(vector_store=texts, image_store=images),
        **models,
    )
    assert (texts.count(), images.count()) == (len(photo_nodes) + 1, len(photo_nodes))
    for store in (texts, images):
        store.close()

    texts, images = two_namespaces(tmp_path)
    index = MultiModalVectorStoreIndex.from_vector_store(texts, image_vector_store=images, **models)
    retriever = index.as_retriever(similarity_top_k=1, image_similarity_top_k=2)

    assert ids(retriever.text_retrieve("一件红色的衬衫")) == ["words"]
    (best, _) = retriever.image_to_image_retrieve(str(photo_nodes[3].image_path))
    assert best.node.model_dump(exclude={"embedding"}) == photo_nodes[3].model_dump(exclude={"embedding"})
    assert best.score == pytest.approx(1, abs=1e-4)
    assert len(await retriever.atext_to_image_retrieve("衬衫")) == 2
    assert {"words"} < set(ids(await retriever.aretrieve("一件红色的衬衫")))

    index.delete_ref_doc("album 1")
    assert [node.node_id for node in images.get_nodes()] == [node.node_id for node in photo_nodes[::2]]
    assert [node.node_id for node in texts.get_nodes()] == [node.node_id for node in photo_nodes[::2]] + ["words"]


# Retrievers


def retriever_of(index: VectorStoreIndex, mode: VectorStoreQueryMode) -> VectorIndexRetriever:
    return VectorIndexRetriever(index, similarity_top_k=3, vector_store_query_mode=mode)


def fused(first: list[NodeWithScore], second: list[NodeWithScore]) -> dict[str, float]:
    scores: dict[str, float] = {}
    for ranking in (first, second):
        for rank, node_id in enumerate(ids(ranking)):
            scores[node_id] = scores.get(node_id, 0) + 1 / (60 + rank)
    return scores


@pytest.mark.parametrize("use_async", [False, True])
def test_rankings_by_vector_and_by_words_can_be_fused(text_index: VectorStoreIndex, use_async: bool) -> None:
    by_vector = retriever_of(text_index, VectorStoreQueryMode.DEFAULT)
    by_words = retriever_of(text_index, VectorStoreQueryMode.TEXT_SEARCH)
    fusion = QueryFusionRetriever(
        [by_vector, by_words],
        llm=MockLLM(),
        mode=FUSION_MODES.RECIPROCAL_RANK,
        similarity_top_k=10,
        num_queries=1,
        use_async=use_async,
    )

    found = fusion.retrieve("飞机场")

    assert ids(by_words.retrieve("飞机场")) == ["airport", "plane"]
    assert ids(found)[0] == "airport"
    assert {item.node.node_id: item.score for item in found} == pytest.approx(
        fused(by_vector.retrieve("飞机场"), by_words.retrieve("飞机场"))
    )


async def test_rankings_can_be_fused_in_an_event_loop(text_index: VectorStoreIndex) -> None:
    retrievers: list[BaseRetriever] = [
        retriever_of(text_index, mode) for mode in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.TEXT_SEARCH)
    ]
    fusion = QueryFusionRetriever(retrievers, llm=MockLLM(), mode=FUSION_MODES.RECIPROCAL_RANK, num_queries=1)
    assert ids(await fusion.aretrieve("飞机场"))[0] == "airport"


class AnswerLLM(CustomLLM):
    """Answers every prompt with the same text.

    Attributes:
        answer: The text.
    """

    answer: str

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="answer")

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=self.answer)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        yield CompletionResponse(text=self.answer, delta=self.answer)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], {"plane", "airport", "cat", "phone"}),
        ([{"key": "position", "value": 2, "operator": ">="}], {"cat", "phone"}),
        (
            [{"key": "position", "value": [0, 3], "operator": "in"}, {"key": "position", "value": 0, "operator": "!="}],
            {"phone"},
        ),
        ([{"key": "position", "value": 99}], set()),
    ],
)
async def test_filters_that_a_model_writes_are_applied(
    text_index: VectorStoreIndex, filters: list[dict[str, object]], expected: set[str]
) -> None:
    position = MetadataInfo(name="position", type="int", description="Position in the list.")
    retriever = VectorIndexAutoRetriever(
        text_index,
        VectorStoreInfo(content_info="Names of things", metadata_info=[position]),
        llm=AnswerLLM(answer=json.dumps({"query": "飞机", "filters": filters})),
        similarity_top_k=10,
    )
    assert set(ids(retriever.retrieve("飞机在哪里？"))) == expected
    assert set(ids(await retriever.aretrieve("飞机在哪里？"))) == expected


# Persisting


@pytest.mark.parametrize("folder", ["store", "elsewhere"])
def test_a_persisted_index_can_be_loaded_from_its_folder(
    store: FaissMultiModalVectorStore, tmp_path: Path, folder: str
) -> None:
    storage = StorageContext.from_defaults(vector_store=store)
    documents = [Document(id_=name, text=text) for name, text in DOCUMENTS.items()]
    VectorStoreIndex.from_documents(documents, storage_context=storage, embed_model=MockEmbedding(4))

    storage.persist(str(tmp_path / folder))
    store.close()

    assert not list(tmp_path.rglob("default__vector_store.json"))
    with FaissMultiModalVectorStore.from_persist_dir(tmp_path / folder) as reopened:
        storage = StorageContext.from_defaults(vector_store=reopened, persist_dir=str(tmp_path / folder))
        index = load_index_from_storage(storage, embed_model=MockEmbedding(4))
        found = index.as_retriever(similarity_top_k=10).retrieve("猫")
        assert {item.node.ref_doc_id for item in found} == set(DOCUMENTS)
        assert stored(reopened) == DOCUMENTS


@pytest.mark.parametrize("folder", ["own", "elsewhere"])
def test_both_namespaces_are_persisted(tmp_path: Path, folder: str) -> None:
    texts, images = two_namespaces(tmp_path / "own")
    texts.add([TextNode(id_="text", text="猫", embedding=[1.0, 0.0])])
    images.add([ImageNode(id_="image", image_url="https://example.com/a.jpg", embedding=[1.0, 0.0, 0.0])])

    StorageContext.from_defaults(vector_store=texts, image_store=images).persist(str(tmp_path / folder))
    for store in (texts, images):
        store.close()

    texts, images = two_namespaces(tmp_path / folder)
    assert [node.node_id for store in (texts, images) for node in store.get_nodes()] == ["text", "image"]
