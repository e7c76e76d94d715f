"""Answers rest on the pictures found: numbered, captioned, sent once; in our engine and in core's own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Settings, StorageContext
from llama_index.core.indices import MultiModalVectorStoreIndex, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.schema import Document, ImageNode, NodeWithScore, QueryBundle, TextNode

from llama_index_mm_zhipu import (
    ChineseClipEmbedding,
    FaissMultiModalVectorStore,
    ZhipuMultiModal,
    build_index,
)
from llama_index_mm_zhipu.query import PICTURE_KEY, number_pictures
from llama_index_mm_zhipu.testing import GLMStandIn


@pytest.fixture
def server() -> Iterator[GLMStandIn]:
    with GLMStandIn() as running:
        yield running


@pytest.fixture
def llm(server: GLMStandIn) -> Iterator[ZhipuMultiModal]:
    client = ZhipuMultiModal(api_key="id.secret", api_base=server.url)
    yield client
    client.close()


def parts_of(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Content parts of all messages of a request, strings as text parts."""
    parts: list[dict[str, Any]] = []
    for message in request["messages"]:
        content = message["content"]
        parts += [{"type": "text", "text": content}] if isinstance(content, str) else content
    return parts


def text_of(request: dict[str, Any]) -> str:
    return "\n".join(part["text"] for part in parts_of(request) if part["type"] == "text")


def test_an_answer_rests_on_numbered_captioned_pictures(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], llm: ZhipuMultiModal, server: GLMStandIn
) -> None:
    index = build_index(photo_nodes, embed_model=tiny_embedding)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        engine = index.as_query_engine(llm=llm, image_similarity_top_k=3)
        response = engine.query("哪张图里有帽子？")

    (request,) = server.requests
    parts = parts_of(request)
    sources = response.source_nodes
    assert len(sources) == 3
    for number, source in enumerate(sources, start=1):
        label = f"图{number}：{source.node.get_content()}"
        (place,) = [i for i, part in enumerate(parts) if part.get("text", "").rstrip().endswith(label)]
        assert parts[place + 1]["type"] == "image_url"
    assert [part["type"] for part in parts].count("image_url") == 3
    assert "问题：哪张图里有帽子？" in parts[-1]["text"]
    assert str(response).count("平均颜色") == 3
    assert "哪张图里有帽子？" in str(response)


async def test_async_and_streaming_answers(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], llm: ZhipuMultiModal
) -> None:
    index = build_index(photo_nodes, embed_model=tiny_embedding)
    expected = str(index.as_query_engine(llm=llm).query("帽子？"))
    assert str(await index.as_query_engine(llm=llm).aquery("帽子？")) == expected
    streamed = index.as_query_engine(llm=llm, streaming=True).query("帽子？")
    assert "".join(streamed.response_gen) == expected  # type: ignore[union-attr]
    await llm.aclose()


def test_texts_and_a_query_picture_reach_the_answer(
    tiny_embedding: ChineseClipEmbedding,
    photo_nodes: list[ImageNode],
    photos: list[Path],
    llm: ZhipuMultiModal,
    server: GLMStandIn,
) -> None:
    index = build_index([*photo_nodes, Document(text="轮胎气压二百三十千帕。")], embed_model=tiny_embedding)
    query = QueryBundle("轮胎气压是多少？", image_path=str(photos[0]))

    response = index.as_query_engine(llm=llm, image_similarity_top_k=2).query(query)

    assert [type(source.node).__name__ for source in response.source_nodes] == ["TextNode", "ImageNode", "ImageNode"]
    assert "轮胎气压二百三十千帕。" in text_of(server.requests[0])


def test_stored_nodes_stay_as_they_were(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], llm: ZhipuMultiModal, tmp_path: Path
) -> None:
    index = build_index(photo_nodes, embed_model=tiny_embedding, persist_dir=tmp_path)
    index.as_query_engine(llm=llm).query("帽子？")
    stored = FaissMultiModalVectorStore(tmp_path, namespace="image").get_nodes()
    assert [node.metadata for node in stored] == [{}] * len(photo_nodes)


def test_paths_of_the_machine_stay_out_of_the_prompt(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], llm: ZhipuMultiModal, server: GLMStandIn
) -> None:
    nodes = [
        ImageNode(image_path=str(photo), metadata={"file_path": str(photo), "file_name": photo.name, "page": 7})
        for photo in photos
    ]
    build_index(nodes, embed_model=tiny_embedding).as_query_engine(llm=llm).query("帽子？")
    prompt = text_of(server.requests[0])
    assert str(photos[0].parent) not in prompt
    assert "page: 7" in prompt
    assert "图1" in prompt


def test_numbers_follow_the_rank_and_captions_may_be_missing() -> None:
    results = [
        NodeWithScore(node=ImageNode(text="猫", metadata={"page": 1}), score=0.9),
        NodeWithScore(node=TextNode(text="说明"), score=0.8),
        NodeWithScore(node=ImageNode(), score=0.7),
    ]
    numbered = number_pictures(results)
    assert [result.node.metadata for result in numbered] == [
        {"page": 1, PICTURE_KEY: "图1：猫"},
        {},
        {PICTURE_KEY: "图2"},
    ]
    assert [result.score for result in numbered] == [0.9, 0.8, 0.7]
    assert number_pictures(numbered)[0].node.metadata == {"page": 1, PICTURE_KEY: "图1：猫"}


def test_without_an_llm_settings_are_asked_then_zhipu(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = build_index(photo_nodes, embed_model=tiny_embedding)
    monkeypatch.setattr(Settings, "_llm", None)
    monkeypatch.delenv("ZHIPUAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match="set ZHIPUAI_API_KEY"):
        index.as_query_engine()
    monkeypatch.setenv("ZHIPUAI_API_KEY", "id.secret")
    assert index.as_query_engine()
    monkeypatch.setattr(Settings, "_llm", MockLLM())
    with pytest.raises(ValueError, match="requires a chat LLM"):
        index.as_query_engine()


# The three parts in core's own index and engines


@pytest.fixture
def stock_index(tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]) -> MultiModalVectorStoreIndex:
    """Core's index on our store and model."""
    return MultiModalVectorStoreIndex(
        photo_nodes,
        storage_context=StorageContext.from_defaults(vector_store=FaissMultiModalVectorStore()),
        embed_model=tiny_embedding,
        image_vector_store=FaissMultiModalVectorStore(namespace="image"),
        image_embed_model=tiny_embedding,
    )


@pytest.mark.filterwarnings("ignore:.*SimpleMultiModalQueryEngine:DeprecationWarning")
def test_core_s_index_finds_and_answers(
    stock_index: MultiModalVectorStoreIndex, llm: ZhipuMultiModal, photos: list[Path]
) -> None:
    best = stock_index.as_retriever(image_similarity_top_k=1).image_to_image_retrieve(str(photos[4]))
    assert [result.node.node_id for result in best] == [photos[4].name]

    response = stock_index.as_query_engine(llm=llm, image_similarity_top_k=3).query("哪张图里有帽子？")
    assert "哪张图里有帽子？" in str(response)
    assert "平均颜色" in str(response)


@pytest.mark.parametrize("engine", [RetrieverQueryEngine, CitationQueryEngine])
def test_core_s_other_engines_answer(
    stock_index: MultiModalVectorStoreIndex, llm: ZhipuMultiModal, engine: Any
) -> None:
    retriever = stock_index.as_retriever(similarity_top_k=1, image_similarity_top_k=2)
    kwargs = {"retriever": retriever, "llm": llm, "multimodal": True}
    built = engine.from_args(**kwargs) if engine is RetrieverQueryEngine else engine.from_args(stock_index, **kwargs)
    response = built.query("哪张图里有帽子？")
    assert "平均颜色" in str(response)


def test_the_parts_work_in_a_plain_vector_index(
    tiny_embedding: ChineseClipEmbedding, llm: ZhipuMultiModal, tmp_path: Path
) -> None:
    store = FaissMultiModalVectorStore(tmp_path)
    index = VectorStoreIndex(
        [TextNode(text="轮胎气压二百三十千帕。")],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=tiny_embedding,
    )
    assert "轮胎气压" in str(index.as_query_engine(llm=llm).query("轮胎气压是多少？"))
    reopened = VectorStoreIndex.from_vector_store(store, embed_model=tiny_embedding)
    assert len(reopened.as_retriever().retrieve("气压")) == 1
